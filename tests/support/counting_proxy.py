"""A proxy of its own process that notes when bytes arrived, and how sure it is of that.

``python counting_proxy.py HOST PORT`` prints its port; when its stdin closes, the number of
connections and a list of [no earlier than, no later than, bytes], by the monotonic clock.
"""

from __future__ import annotations

import json
import queue
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Arrival = tuple[float, float, int]


def serve(host: str, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    # Room for whatever comes while this program waits for a processor: nothing stays behind in the
    # sender's buffer, so what is read late had still arrived in time.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    print(listener.getsockname()[1], flush=True)
    wait = selectors.DefaultSelector()
    wait.register(listener, selectors.EVENT_READ)
    wait.register(sys.stdin, selectors.EVENT_READ)
    peers: dict[socket.socket, tuple[socket.socket, bool]] = {}
    onward: dict[socket.socket, queue.SimpleQueue[bytes]] = {}
    arrivals: list[Arrival] = []
    looked: dict[socket.socket, float] = {}  # when each was last found to hold nothing more
    turn = time.monotonic()
    while True:
        before, turn = turn, time.monotonic()
        ready = wait.select()
        for key, _ in ready:
            source = key.fileobj
            if source is sys.stdin:
                print(json.dumps([len(onward) // 2, arrivals]), flush=True)
                return
            if source is listener:
                client, _ = listener.accept()
                server = socket.create_connection((host, port))
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[client], peers[server] = (server, True), (client, False)
                looked[client] = before
                for sink in (client, server):
                    onward[sink] = queue.SimpleQueue()
                    threading.Thread(target=pass_on, args=(onward[sink], sink), daemon=True).start()
                wait.register(client, selectors.EVENT_READ)
                wait.register(server, selectors.EVENT_READ)
                continue
            assert isinstance(source, socket.socket)
            sink, outward = peers[source]
            looking = time.monotonic()
            try:
                data = source.recv(1 << 20)
            except OSError:
                data = b""
            if outward and data:
                arrivals.append((looked[source], time.monotonic(), len(data)))
                looked[source] = looking
            onward[sink].put(data)
            if not data:
                wait.unregister(source)
                del peers[source]


def pass_on(data: queue.SimpleQueue[bytes], sink: socket.socket) -> None:
    """Write on, however slowly it is read, without holding up who looks at the clock."""
    try:
        while piece := data.get():
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def most_in(arrivals: list[Arrival], seconds: float) -> int:
    """The most bytes that surely arrived within one window of so many seconds."""
    worst = 0
    for start, _, _ in arrivals:
        inside = (n for early, late, n in arrivals if early >= start and late <= start + seconds)
        worst = max(worst, sum(inside))
    return worst


@dataclass
class Counting:
    """A running proxy; ``arrivals`` are there after the context."""

    url: str
    arrivals: list[Arrival] = field(default_factory=list)
    connections: int = 0

    @property
    def total(self) -> int:
        return sum(size for _, _, size in self.arrivals)


@contextmanager
def counting(host: str, port: int) -> Iterator[Counting]:
    """Start the proxy before a server on loopback."""
    program = subprocess.Popen(
        [sys.executable, __file__, host, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    proxy = Counting(f"http://127.0.0.1:{program.stdout.readline().strip()}")
    try:
        yield proxy
    finally:
        out, _ = program.communicate("", timeout=60)
        proxy.connections, arrivals = json.loads(out)
        proxy.arrivals = [(early, late, size) for early, late, size in arrivals]


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
