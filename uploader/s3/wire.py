"""The one place where bytes leave for S3: each passes the pacer, and is counted as it was written.

A ``Wire`` is as much of a socket as ``http.client`` needs. It waits until the kernel has room, then
asks for permission, then writes without blocking: so a permitted piece leaves at once or not at
all, and never waits in a full buffer while its second passes. TLS runs over memory buffers, so that
what is counted is the ciphertext, records and handshake included.

Not counted: name lookups, IP and TCP headers, retransmits.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable

from uploader.s3.sender import Pacer

SEND_BUFFER = 64 * 1024
"""Bytes asked of SO_SNDBUF. What the kernel may still send after a kill; Linux doubles it for its
own bookkeeping (socket(7))."""
_UNSENT_PART = 4
"""The part of the buffer, 16 KiB of 64, that may lie in the kernel without being on the wire
(TCP_NOTSENT_LOWAT, tcp(7)): what a stall, or a kill, can still let out later. The rest of it waits
for acknowledgement."""
_LARGEST_BUFFER = 1024 * 1024
_BUFFER_SHARE = 640  # 64 KiB up to 40 MB/s; above it a 640th of a second


def send_buffer(rate: int) -> int:
    """What to ask of SO_SNDBUF at so many bytes a second: more only where that is a moment's."""
    return max(SEND_BUFFER, min(_LARGEST_BUFFER, rate // _BUFFER_SHARE))


_READ = 64 * 1024
_HEAD = 8 * 1024
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Answered(Exception):
    """The server answered, or hung up, before it was sent everything: read, do not write."""


def connect(
    host: str, port: int, *, timeout: float, stall: float, buffer: int = SEND_BUFFER
) -> socket.socket:
    """A connected, non-blocking socket to the first address that answers. OSError otherwise."""
    trouble: OSError | None = None
    for family, kind, proto, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, buffer // _UNSENT_PART)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # what the kernel holds unacknowledged, too
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall * 1000))
            sock.settimeout(timeout)
            sock.connect(address)
        except OSError as error:
            sock.close()
            trouble = trouble or error
        else:
            sock.setblocking(False)
            return sock
    raise trouble or OSError(f"{host} has no address")


class _Reader(io.RawIOBase):
    """The receiving side of a wire, for ``http.client``; closing it leaves the wire open."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._wire.recv_into(buffer)


class Wire:
    """One metered connection, plain or TLS. For one thread at a time.

    ``stall``: seconds without room to write after which TimeoutError is raised; ``settimeout``
    bounds each read, ``deadline`` (on ``clock``) all of them together.
    """

    def __init__(
        self,
        sock: socket.socket,
        pacer: Pacer,
        *,
        stall: float,
        buffer: int = SEND_BUFFER,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sock = sock
        self._pacer = pacer
        self._stall = stall
        self._timeout: float | None = stall
        self._clock = clock
        self._buffer = buffer
        self._sure = 0  # bytes that surely fit, so that nobody needs to wait for room
        self.deadline: float | None = None
        self._poll = select.poll()
        self._poll.register(sock, 0)
        self._ahead = bytearray()  # received and not yet read
        self._eof = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._tls = tls.wrap_bio(self._in, self._out, server_hostname=server_name)
            self._handshake(self._tls)

    # -- what http.client calls

    def begin(self) -> None:
        """A request begins: everything before was answered, so the kernel's buffer is empty."""
        self._sure = self._buffer

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Write everything, piece by piece as permitted. Answered when there is no point in it."""
        view = memoryview(data).cast("B")
        if self._tls is None:
            self._write(view, watch=True)
            return
        while view:
            view = view[self._tls.write(view) :]
            self._flush(watch=True)

    def makefile(self, mode: str = "rb", *_args: object, **_more: object) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Reader(self), _HEAD)

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def close(self) -> None:
        self._sock.close()

    # -- what the sender calls

    def reset(self) -> None:
        """Hang up at once: what the kernel still holds is dropped, not sent (SO_LINGER 0)."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def secured(self, tls: ssl.SSLContext, server_name: str) -> Wire:
        """The same connection from now on in TLS (STARTTLS); this wire is not used any more."""
        return Wire(
            self._sock,
            self._pacer,
            stall=self._stall,
            tls=tls,
            server_name=server_name,
            clock=self._clock,
        )

    def idle(self) -> bool:
        """Whether nothing came since the last answer; otherwise the server has hung up."""
        self._absorb()
        return not self._ahead and not self._eof

    def peek(self, end: bytes, most: int) -> bytes:
        """What was received up to and with ``end``, left where it is; empty if the other side
        stops before it, or it does not come within ``most`` bytes. Waits like ``recv_into``."""
        while (at := self._ahead.find(end)) < 0 and not self._eof and len(self._ahead) < most:
            self._await(len(self._ahead) + 1)
        return bytes(self._ahead[: at + len(end)]) if at >= 0 else b""

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, or fewer at the end. Waits like ``recv_into``."""
        self._await(count)
        data = bytes(self._ahead[:count])
        del self._ahead[:count]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """At least one byte, or 0 at the end. TimeoutError when ``settimeout`` or ``deadline``
        passes first."""
        self._await(1)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    # -- inside

    def _await(self, count: int) -> None:
        """Until so many bytes are there, or the end."""
        while len(self._ahead) < count and not self._eof:
            timeout = self._timeout
            if self.deadline is not None:
                left = max(0.0, self.deadline - self._clock())
                timeout = left if timeout is None else min(timeout, left)
            if not self._ready(select.POLLIN, timeout):
                raise TimeoutError("no answer in time")
            self._absorb()
            if self._tls is not None and self._out.pending:
                self._flush(watch=False)  # a key update wants its reply

    def _ready(self, events: int, timeout: float | None) -> int:
        self._poll.modify(self._sock, events)
        found = self._poll.poll(None if timeout is None else timeout * 1000)
        return found[0][1] if found else 0

    def _write(self, view: memoryview, *, watch: bool) -> None:
        events = select.POLLOUT | (select.POLLIN if watch else 0)
        while view:
            wanted = min(len(view), self._pacer.max_piece)
            if wanted > self._sure:
                ready = self._ready(events, self._stall)
                if not ready:
                    raise TimeoutError(f"nothing could be written for {self._stall:g} s")
                if watch and ready & select.POLLIN:
                    self._absorb()
                    if self._ahead or self._eof:
                        raise Answered
                if not ready & (select.POLLOUT | _BROKEN):
                    continue
            piece = self._pacer.take(wanted)
            written = 0
            try:
                written = self._sock.send(view[: piece.size])
            except BlockingIOError:
                self._sure = 0
            finally:
                self._pacer.wrote(piece, written)
            self._sure -= written
            view = view[written:]

    def _flush(self, *, watch: bool) -> None:
        if self._out.pending:
            self._write(memoryview(self._out.read()), watch=watch)

    def _absorb(self) -> None:
        """Take in what the kernel has, without waiting."""
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except ConnectionError:
            if not self._ahead:
                raise
            data = b""
        if self._tls is None:
            self._ahead += data
            self._eof = self._eof or not data
            return
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        try:
            while plain := self._tls.read(_READ):
                self._ahead += plain
            self._eof = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._eof = True

    def _handshake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(watch=False)
                if not self._ready(select.POLLIN, self._stall):
                    raise TimeoutError("no answer to the TLS handshake in time") from None
                try:
                    data = self._sock.recv(_READ)
                except BlockingIOError:
                    continue
                if not data:
                    raise ConnectionResetError("hung up during the TLS handshake") from None
                self._in.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(watch=False)  # the alert says why
                raise
            else:
                self._flush(watch=False)
                return
