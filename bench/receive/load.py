"""Many clients in one thread: kept-alive connections, each sending its next image once the last one
is acknowledged. Cheap, because it shares the cores with what it measures.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.receive.images import Requests
from bench.rounds import Failed

_SILENCE_SECONDS = 60
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Sent:
    """What was acknowledged, and how long each one took."""

    numbers: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0


class _Client:
    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=_SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number = -1
        self.started_at = 0.0
        self.left: list[memoryview] = []
        self.answer = b""

    def begin(self, number: int, requests: Requests) -> None:
        self.number = number
        self.left = [memoryview(piece) for piece in requests.pieces(number)]
        self.answer = b""
        self.started_at = time.perf_counter()
        self.write()

    def write(self) -> None:
        while self.left:
            try:
                written = self.socket.sendmsg(self.left)
            except BlockingIOError:
                return
            while self.left and written >= len(self.left[0]):
                written -= len(self.left.pop(0))
            if written:
                self.left[0] = self.left[0][written:]

    def read(self) -> bool:
        """Whether the answer is there."""
        try:
            piece = self.socket.recv(65536)
        except BlockingIOError:
            return False
        if not piece:
            raise Failed(f"it closed the connection after {self.answer[:200]!r}")
        self.answer += piece
        top, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return False
        length = _LENGTH.search(top)
        if length is None or not top.startswith(b"HTTP/1.1 20"):
            raise Failed(f"it answered {self.answer[:300]!r}")
        return len(body) >= int(length[1])


def run(
    port: int,
    requests: Requests,
    connections: int,
    images: int,
    warm: int,
    when_warm: Callable[[], None] = lambda: None,
    first: int = 0,
) -> tuple[Sent, Sent]:
    """Send ``warm`` images and then ``images`` more, numbered from ``first``, and wait for every
    answer.

    ``when_warm`` is called between the two, while both kinds are in flight. Returns what was sent
    before and after that moment. Failed if an answer is not a 200 or 201, or none comes.
    """
    before, after = Sent(), Sent()
    epoll = select.epoll()
    clients: dict[int, _Client] = {}
    try:
        for _ in range(connections):
            client = _Client(("127.0.0.1", port))
            clients[client.socket.fileno()] = client
            epoll.register(client.socket, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        numbers = iter(range(first, first + warm + images))
        busy = 0
        for client in clients.values():
            if (number := next(numbers, None)) is not None:
                client.begin(number, requests)
                busy += 1
        done, warm_at = 0, time.perf_counter()
        while busy:
            events = epoll.poll(_SILENCE_SECONDS)
            if not events:
                raise Failed(f"nothing happened for {_SILENCE_SECONDS} s")
            for fd, event in events:
                client = clients[fd]
                if event & select.EPOLLOUT and client.left:
                    client.write()
                if not event & (select.EPOLLIN | select.EPOLLHUP) or not client.read():
                    continue
                now = time.perf_counter()
                done += 1
                sent = before if done <= warm else after
                sent.numbers.append(client.number)
                sent.seconds.append(now - client.started_at)
                if done == warm:
                    before.elapsed = now - warm_at
                    when_warm()
                    warm_at = time.perf_counter()
                if (number := next(numbers, None)) is None:
                    busy -= 1
                else:
                    client.begin(number, requests)
        after.elapsed = time.perf_counter() - warm_at
    finally:
        epoll.close()
        for client in clients.values():
            client.socket.close()
    return before, after
