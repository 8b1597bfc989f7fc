"""A request's body as a file to read from: counted, or in chunks."""

from __future__ import annotations

import io
import re
from typing import Any, Protocol

_LINE_MAX = 8192
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")
_TRAILERS_MAX = 100


class ClientConnection(Protocol):
    """The connection that a body is read from."""

    @property
    def rfile(self) -> Any: ...

    def expect(self) -> None:
        """Tell a client that waits for it (Expect: 100-continue) to go on."""


class Reset(Exception):
    """Raised by the application: reset the connection, answer nothing."""


class Input(io.RawIOBase):
    """A request's body: exactly Content-Length bytes, fewer only if the client hung up."""

    def __init__(self, connection: ClientConnection, length: int) -> None:
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
    """A body in chunks (RFC 9112, section 7.1). Reset if it ends before its last trailer, or is
    not in that form."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._chunk = 0  # bytes of the current chunk that are left
        self.left = 1  # nothing once the whole body was read

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
        if count and self._chunk == 0 and self._connection.rfile.readline(_LINE_MAX) != b"\r\n":
            raise Reset
        return int(count)

    def _begin_chunk(self) -> None:
        size = _SIZE.fullmatch(self._connection.rfile.readline(_LINE_MAX))
        if size is None:
            raise Reset
        self._chunk = int(size[1], 16)
        if self._chunk == 0:
            if _trailers(self._connection.rfile) is None:
                raise Reset
            self.left = 0


class Incomplete(Exception):
    """The body is not whole, or not in the form that its head promises."""


class AwsChunked(io.RawIOBase):
    """A body in S3's own chunks (``Content-Encoding: aws-chunked``), decoded; signatures are not
    looked at. Incomplete unless it ends as it should. ``trailers`` is filled at its end."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = io.BufferedReader(source)
        self._chunk = 0
        self._over = False
        self.trailers: dict[str, str] = {}

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._chunk == 0 and not self._over:
            self._begin_chunk()
        view = memoryview(buffer)[: self._chunk]
        count = self._source.readinto1(view) if view else 0
        self._chunk -= count
        if view and (not count or (not self._chunk and self._source.readline(2) != b"\r\n")):
            raise Incomplete
        return int(count)

    def _begin_chunk(self) -> None:
        size = _SIZE.fullmatch(self._source.readline(_LINE_MAX))
        if size is None:
            raise Incomplete
        self._chunk = int(size[1], 16)
        if self._chunk == 0:
            trailers = _trailers(self._source)
            if trailers is None or self._source.read(1):
                raise Incomplete
            self.trailers, self._over = trailers, True


def _trailers(source: Any) -> dict[str, str] | None:
    """The fields behind the last chunk, with names in lower case; None without an empty line."""
    found: dict[str, str] = {}
    for _ in range(_TRAILERS_MAX):
        line = source.readline(_LINE_MAX)
        if line == b"\r\n":
            return found
        name, colon, value = line.partition(b":")
        if not colon or not line.endswith(b"\n"):
            return None
        found[name.decode("latin-1").lower()] = value.decode("latin-1").strip()
    return None
