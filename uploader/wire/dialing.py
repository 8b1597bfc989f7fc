"""Connecting to a name: its addresses side by side, and the first that answers counts (RFC 8305).

A name may have an address that leads nowhere, such as one of IPv6 at a site without it. The next
one is tried a quarter of a second later, while the first may still answer, and which one answered
is remembered for as long as the program runs.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from uploader.wire.connection import SEND_BUFFER, UNSENT_PART, Cutoff

CONNECTS = 3
"""Times the timeout of one connection, for all addresses of a name together."""
_ATTEMPT_DELAY_SECONDS = 0.25  # RFC 8305, section 8
_GOOD_MAX = 100

AddressInfo = tuple[int, int, int, str, Any]
_good: dict[tuple[str, int], Any] = {}
"""Which address of a name answered last."""


def connect(
    host: str,
    port: int,
    *,
    timeout: float,
    stall: float,
    buffer: int = SEND_BUFFER,
    cutoff: Cutoff | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> socket.socket:
    """A connected, non-blocking socket to the first address that answers. OSError otherwise.

    ``timeout`` is for one address; all of them together get three times as long.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempts = _Attempts(_in_turn(found, _good.get((host, port))), timeout, stall, buffer)
    try:
        sock, address = attempts.first(cutoff, clock)
    finally:
        attempts.close()
    if len(_good) < _GOOD_MAX:
        _good[host, port] = address
    return sock


def _in_turn(found: Iterable[AddressInfo], good: Any) -> list[AddressInfo]:
    """The one that answered last, then the families in turn, each in the order of the resolver."""
    families: dict[int, deque[AddressInfo]] = {}
    for one in found:
        families.setdefault(one[0], deque()).append(one)
    turns = []
    while any(families.values()):
        turns += [waiting.popleft() for waiting in families.values() if waiting]
    return sorted(turns, key=lambda one: one[4] != good)  # stable: the others keep their order


class _Attempts:
    """Connections that are being made, to one name."""

    def __init__(
        self, addresses: list[AddressInfo], timeout: float, stall: float, buffer: int
    ) -> None:
        self._waiting = deque(addresses)
        self._timeout, self._stall, self._buffer = timeout, stall, buffer
        self._under_way: dict[int, tuple[socket.socket, Any, float]] = {}
        self._trouble: OSError | None = None

    def first(self, cutoff: Cutoff | None, clock: Callable[[], float]) -> tuple[socket.socket, Any]:
        """The first that is connected, and its address. OSError: why the first failed."""
        poll = select.poll()
        if cutoff is not None:
            poll.register(cutoff, select.POLLIN)
        now = clock()
        until, next_at = now + CONNECTS * self._timeout, now
        while True:
            if cutoff is not None:
                cutoff.check()
            now = clock()
            while self._waiting and (now >= next_at or not self._under_way) and now < until:
                next_at = now + _ATTEMPT_DELAY_SECONDS
                if (done := self._begin(poll, now)) is not None:
                    return done
            if not self._under_way:
                raise self._trouble or OSError("the name has no address")
            ends = min(at for _, _, at in self._under_way.values())
            wait = min(ends, next_at if self._waiting else ends) - now
            ready = poll.poll(max(0.0, wait) * 1000)
            if cutoff is not None:
                cutoff.check()
            for number, _ in ready:
                if (done := self._finished(poll, number)) is not None:
                    return done
                next_at = clock()  # the next one need not wait
            self._expire(poll, clock())

    def close(self) -> None:
        """Give up what is still under way."""
        for sock, _, _ in self._under_way.values():
            sock.close()
        self._under_way.clear()

    def _begin(self, poll: select.poll, now: float) -> tuple[socket.socket, Any] | None:
        family, kind, proto, _, address = self._waiting.popleft()
        try:
            sock = socket.socket(family, kind, proto)
        except OSError as error:
            self._failed(error)
            return None
        try:
            self._prepare(sock)
            code = sock.connect_ex(address)
        except OSError as error:
            sock.close()
            self._failed(error)
            return None
        if not code:
            return sock, address
        if code != errno.EINPROGRESS:
            sock.close()
            self._failed(OSError(code, os.strerror(code)))
            return None
        self._under_way[sock.fileno()] = sock, address, now + self._timeout
        poll.register(sock, select.POLLOUT)
        return None

    def _prepare(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self._buffer // UNSENT_PART)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what the kernel holds unacknowledged, too
            milliseconds = int(self._stall * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        sock.setblocking(False)

    def _finished(self, poll: select.poll, number: int) -> tuple[socket.socket, Any] | None:
        """The connection with this descriptor came about, or failed."""
        if number not in self._under_way:
            return None  # the cutoff, which was asked
        sock, address, _ = self._under_way.pop(number)
        poll.unregister(number)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            return sock, address
        sock.close()
        self._failed(OSError(code, os.strerror(code)))
        return None

    def _expire(self, poll: select.poll, now: float) -> None:
        for number, (sock, _, ends) in list(self._under_way.items()):
            if now >= ends:
                del self._under_way[number]
                poll.unregister(number)
                sock.close()
                self._failed(TimeoutError(errno.ETIMEDOUT, "timed out"))

    def _failed(self, error: OSError) -> None:
        self._trouble = self._trouble or error
