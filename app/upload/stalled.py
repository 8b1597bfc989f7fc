"""Ends connections whose body stopped flowing, so that no silent client holds a thread
indefinitely.

The server's read blocks until bytes come or the connection ends, and takes no time limit; a
camera that loses power in the middle of an upload never ends it. So one thread looks, once a
second, for requests that have waited in one read for ``GRACE_SECONDS``, and shuts for reading the
connections of that address that carried less than ``MIN_RATE`` since. Their read then returns
short, and the client can still be answered. Connections are found among this process's own
descriptors and judged by the kernel's own counters (TCP_INFO, tcp(7)); where there are none (not
Linux), nothing is ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

GRACE_SECONDS = 10
MIN_RATE = 2048
"""Bytes a second that keep a connection."""


def seconds_for(size: int) -> int:
    """How long a body of ``size`` bytes may take at most."""
    return GRACE_SECONDS + size // MIN_RATE


_LAST_DATA_RECEIVED = struct.Struct("=I")  # milliseconds, at byte 52 of struct tcp_info
_BYTES_RECEIVED = struct.Struct("=Q")  # at byte 128


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    bytes_received: int


class _Reading:
    """A context, and no generator: there are several an image."""

    __slots__ = ("_since", "_waiting")

    def __init__(self, waiting: dict[int, tuple[str, float]], since: tuple[str, float]) -> None:
        self._waiting = waiting
        self._since = since

    def __enter__(self) -> None:
        self._waiting[threading.get_ident()] = self._since

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        del self._waiting[threading.get_ident()]


class Stalls:
    """Who waits for bytes on ``port`` (0: on any) now, and the end of what has stalled."""

    def __init__(
        self,
        port: int = 0,
        grace_seconds: float = GRACE_SECONDS,
        min_rate: int = MIN_RATE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self.grace_seconds = grace_seconds
        self.min_rate = min_rate
        self._monotonic = monotonic
        self._waiting: dict[int, tuple[str, float]] = {}
        self._seen: dict[tuple[object, ...], _Seen] = {}

    def reading(self, peer: str) -> _Reading:
        """A context around one read in which this thread waits for bytes from ``peer``, an IP
        address."""
        return _Reading(self._waiting, (peer, self._monotonic()))

    def watch(self, stop: threading.Event) -> None:
        """Look once a second until ``stop``; runs in a thread of its own."""
        while not stop.wait(1):
            self.look()

    def look(self) -> int:
        """End what has stalled; how many connections."""
        now = self._monotonic()
        stuck = {
            peer
            for peer, since in tuple(self._waiting.values())
            if now - since >= self.grace_seconds
        }
        if not stuck:
            self._seen.clear()
            return 0
        ended = 0
        seen: dict[tuple[object, ...], _Seen] = {}
        for connection in _connections(stuck, self._port):
            with connection:
                ended += self._judge(connection, now, seen)
        self._seen = seen
        return ended

    def _judge(
        self, connection: socket.socket, now: float, seen: dict[tuple[object, ...], _Seen]
    ) -> bool:
        try:
            name = (connection.getpeername(), connection.getsockname())
            facts = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            (silent_ms,) = _LAST_DATA_RECEIVED.unpack_from(facts, 52)
            (received,) = _BYTES_RECEIVED.unpack_from(facts, 128)
        except (OSError, struct.error):
            return False
        first = self._seen.get(name, _Seen(now, received))
        if silent_ms < self.grace_seconds * 1000:
            if now - first.at < self.grace_seconds:
                seen[name] = first
                return False
            if received - first.bytes_received >= self.min_rate * (now - first.at):
                seen[name] = _Seen(now, received)
                return False
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)
        return True


def _connections(peers: set[str], port: int) -> Iterator[socket.socket]:
    """This process's TCP connections with ``peers``, duplicated: they cannot be closed under us."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for name in names:
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            ours = port in (0, connection.getsockname()[1])
            wanted = ours and connection.getpeername()[0] in peers
        except (OSError, IndexError, TypeError):
            wanted = False
        if wanted:
            yield connection
        else:
            connection.close()
