"""The one place where bytes leave for S3: each passes the pacer, and is counted as it was written.

A ``Wire`` is as much of a socket as ``http.client`` needs. It waits until the kernel has room, then
asks for permission, then writes without blocking: so a permitted piece leaves at once or not at
all, and never waits in a full buffer while its second passes. TLS runs over memory buffers, so that
what is counted is the ciphertext, records and handshake included.

Not counted: name lookups, IP and TCP headers, retransmits.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable

from uploader.wire.meter import Meter

SEND_BUFFER = 64 * 1024
"""Bytes asked of SO_SNDBUF. What the kernel may still send after a kill; Linux doubles it for its
own bookkeeping (socket(7))."""
UNSENT_PART = 4
"""The part of the buffer, 16 KiB of 64, that may lie in the kernel without being on the wire
(TCP_NOTSENT_LOWAT, tcp(7)): what a stall, or a kill, can still let out later. The rest of it waits
for acknowledgement."""
_LARGEST_BUFFER = 1024 * 1024
_BUFFER_SHARE = 640  # 64 KiB up to 40 MB/s; above it a 640th of a second


def send_buffer(rate: int) -> int:
    """The value of SO_SNDBUF for a rate in bytes a second: larger only if it is sent in a
    moment."""
    return max(SEND_BUFFER, min(_LARGEST_BUFFER, rate // _BUFFER_SHARE))


_READ = 64 * 1024
_HEAD = 8 * 1024
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
_MOST_RECEIVED = 512 * 1024
"""Bytes that one answer may have on the wire, interim answers, TLS and what is never looked at
included: several times what any honest server sends in answer to a PUT or a HEAD."""
_SLOWEST = 512
"""Bytes a second, on average over ``_STALLS`` stalls of waiting for room, that the other side has
to take: a slower link could not empty the kernel's buffer between two stalls either."""
_STALLS = 3
_CONTINUE = (b"HTTP/1.1 100", b"HTTP/1.0 100")


class Answered(Exception):
    """The server answered, or hung up, before it was sent everything: read, do not write."""


class BrokenOff(Exception):
    """The run was aborted; the outcome of what was under way is unknown."""


class TooMuch(OSError):
    """The other side sent more than an answer can have."""


class Cutoff:
    """Ends every wait of the connections that were given it, from any thread: each then raises
    ``BrokenOff``. A wait for the pacer ends with the pacer. One a run, and never closed: a thread
    that hangs elsewhere may come to it late."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._is_set = False

    def fileno(self) -> int:
        """Readable once it is set, and always after."""
        return self._read

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            os.write(self._write, b"x")

    def check(self) -> None:
        """Raise BrokenOff if it is set."""
        if self._is_set:
            raise BrokenOff("the run was broken off")


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

    What is sent is judged by its progress, so that a slow link may take hours for an image:
    TimeoutError after ``stall`` seconds in which nothing could be written, or when what trickles
    out is too slow to be a link. What is received is judged by the clock and by its length, so
    that no server holds a connection indefinitely: everything after ``expect`` has to be read
    within its seconds, and ``TooMuch`` is raised where it has no end. ``cutoff`` ends each wait at
    once.
    """

    def __init__(
        self,
        sock: socket.socket,
        pacer: Meter,
        *,
        stall: float,
        buffer: int = SEND_BUFFER,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        clock: Callable[[], float] = time.monotonic,
        cutoff: Cutoff | None = None,
    ) -> None:
        self._sock = sock
        self._pacer = pacer
        self._stall = stall
        self._timeout: float | None = stall
        self._clock = clock
        self._buffer = buffer
        self._sure = 0  # bytes that surely fit, so that no one needs to wait for room
        self._deadline: float | None = None
        self._most = _MOST_RECEIVED
        self._received = 0  # since it was last said that something may come
        self._stuck = 0.0  # seconds waited for room since the last byte was written
        self._waited, self._wrote = 0.0, 0  # the same over several writes, and what came of it
        self._cutoff = cutoff
        self._poll = select.poll()
        self._poll.register(sock, 0)
        if cutoff is not None:
            self._poll.register(cutoff, select.POLLIN)
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
        self._deadline = None
        self._received = self._wrote = 0
        self._stuck = self._waited = 0.0

    def expect(self, seconds: float, body: int = 0) -> None:
        """From now on an answer may take so long, all of it together, however it drips, and have a
        body of ``body`` bytes."""
        self._most = _MOST_RECEIVED + body
        self._deadline = self._clock() + seconds
        self._received = 0

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
            cutoff=self._cutoff,
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

    def final_head(self, most: int) -> bytes:
        """The head of the answer that counts, left where it is, or nothing, as ``peek`` has it.

        Interim answers before it are dropped (RFC 9110, 15.2), all but 101, which ends HTTP.
        """
        while self._is_interim(head := self.peek(b"\r\n\r\n", most)):
            del self._ahead[: len(head)]
        return head

    def wait_for_continue(self, seconds: float) -> bool:
        """Whether the server asks for the body (100, RFC 9110, 10.1.1); False where it says nothing
        within that time. Answered if it gave its answer already, or hung up."""
        until = self._clock() + seconds
        while True:
            while self._is_interim(self._ahead) and (end := self._ahead.find(b"\r\n\r\n")) >= 0:
                wanted = self._ahead.startswith(_CONTINUE)
                del self._ahead[: end + 4]
                if wanted:
                    return True
            if self._is_answered():
                raise Answered
            left = until - self._clock()
            if left <= 0 or not self._ready(select.POLLIN, left):
                return False
            self._absorb()

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, or fewer at the end. Waits like ``recv_into``."""
        if count > len(self._ahead):
            self._await(count)
        data = bytes(self._ahead[:count])
        del self._ahead[:count]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        """At least one byte, or 0 at the end. TimeoutError when the time of ``settimeout`` or
        ``expect`` is over first."""
        self._await(1)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    # -- inside

    def _await(self, count: int) -> None:
        """Reads until this many bytes are there, or the end."""
        while True:
            # Asked before each wait, and also where there is none: what comes without a pause is
            # always ready.
            timeout = self._left(self._timeout)
            if len(self._ahead) >= count or self._eof:
                return
            if not self._ready(select.POLLIN, timeout):
                raise TimeoutError("no answer in time")
            self._absorb()
            if self._tls is not None and self._out.pending:
                self._flush(watch=False)  # a key update wants its reply

    def _left(self, timeout: float | None) -> float | None:
        """Seconds that the next wait may take; TimeoutError, or BrokenOff, if there are none."""
        if self._cutoff is not None:
            self._cutoff.check()
        if self._deadline is None:
            return timeout
        left = self._deadline - self._clock()
        if left <= 0:
            raise TimeoutError("no whole answer in time")
        return left if timeout is None else min(timeout, left)

    def _ready(self, events: int, timeout: float | None) -> int:
        self._poll.modify(self._sock, events)
        found = self._poll.poll(None if timeout is None else timeout * 1000)
        if self._cutoff is not None:
            self._cutoff.check()
        return found[0][1] if found else 0

    def _is_interim(self, head: bytes | bytearray) -> bool:
        return head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")) and head[10:12] != b"01"

    def _is_answered(self) -> bool:
        """Whether what came while we write is the answer, or the end; interim answers are not."""
        while self._is_interim(self._ahead):
            end = self._ahead.find(b"\r\n\r\n")
            if end < 0:
                return self._eof
            del self._ahead[: end + 4]
        begun = b"HTTP/1.1 1".startswith(bytes(self._ahead[:10]))
        return self._eof or (bool(self._ahead) and not begun)

    def _wait_for_room(self, *, watch: bool) -> int:
        """What poll(2) found; TimeoutError when the other side takes nothing, or next to nothing.

        Only waiting counts: what the pacer takes its time for is no fault of the link.
        """
        events = select.POLLOUT | (select.POLLIN if watch else 0)
        began = self._clock()
        ready = self._ready(events, max(0.0, self._stall - self._stuck))
        spent = self._clock() - began
        self._stuck += spent
        self._waited += spent
        if not ready or (self._stuck >= self._stall and not ready & select.POLLOUT):
            raise TimeoutError(f"nothing could be written for {self._stall:g} s")
        if self._waited >= _STALLS * self._stall:
            if self._wrote < _SLOWEST * self._waited:
                raise TimeoutError(f"less than {_SLOWEST} bytes a second could be written")
            self._waited, self._wrote = 0.0, 0
        return ready

    def _write(self, view: memoryview, *, watch: bool) -> None:
        while view:
            wanted = min(len(view), self._pacer.max_piece)
            if wanted > self._sure:
                ready = self._wait_for_room(watch=watch)
                if watch and ready & select.POLLIN:
                    self._absorb()
                    if self._is_answered():
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
            if written:
                self._stuck = 0.0
                self._wrote += written
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
        self._count(data)
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

    def _count(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._most:
            raise TooMuch(errno.EMSGSIZE, f"more than {self._most} bytes in one answer")

    def _handshake(self, tls: ssl.SSLObject) -> None:
        self.expect(self._stall)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                if self._out.pending:
                    self._flush(watch=False)
                    self.expect(self._stall)  # the pacer may have taken its time
                if not self._ready(select.POLLIN, self._left(self._stall)):
                    raise TimeoutError("no answer to the TLS handshake in time") from None
                try:
                    data = self._sock.recv(_READ)
                except BlockingIOError:
                    continue
                if not data:
                    raise ConnectionResetError("hung up during the TLS handshake") from None
                self._count(data)
                self._in.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(watch=False)  # the alert says why
                raise
            else:
                self._flush(watch=False)
                return
