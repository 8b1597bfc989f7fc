"""A request's body as a file to read from: counted, or in chunks."""

from __future__ import annotations

import io
from typing import Any, Protocol

_LINE_MAX = 8192


class Connection(Protocol):
    """Where the bytes come from."""

    @property
    def rfile(self) -> Any: ...

    def expect(self) -> None:
        """Tell a client that waits for it (Expect: 100-continue) to go on."""


class Reset(Exception):
    """Raised by the application: reset the connection, answer nothing."""


class Input(io.RawIOBase):
    """A request's body: exactly Content-Length bytes, fewer only if the client hung up."""

    def __init__(self, connection: Connection, length: int) -> None:
        self._connection = connection
        self.left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.expect()
        view = memoryview(buffer)[: self.left]
        count = self._connection.rfile.readinto1(view) if view else 0
        self.left -= count
        return int(count)


class ChunkedInput(io.RawIOBase):
    """A body in chunks (RFC 9112, section 7.1). Reset if it ends before its last chunk."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chunk = 0  # bytes of the current chunk that are left
        self.left = 1  # nothing once the last chunk was read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.expect()
        if self._chunk == 0 and self.left:
            self._begin_chunk()
        view = memoryview(buffer)[: self._chunk]
        count = self._connection.rfile.readinto1(view) if view else 0
        if view and not count:
            raise Reset
        self._chunk -= count
        if count and self._chunk == 0:
            self._connection.rfile.readline(_LINE_MAX)
        return int(count)

    def _begin_chunk(self) -> None:
        try:
            self._chunk = int(self._connection.rfile.readline(_LINE_MAX).partition(b";")[0], 16)
        except ValueError:
            raise Reset from None
        if self._chunk == 0:
            while self._connection.rfile.readline(_LINE_MAX).strip():
                pass  # trailers
            self.left = 0
