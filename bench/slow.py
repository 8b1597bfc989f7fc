"""``python -m bench.slow``: a good client alone, and with 500 slow ones of each kind.

The slow ones are a program of their own. Who is turned out comes back at once, so that there are
always as many. Each kind sends for as long as the good client does.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.receive.contenders import ROOT, Contender, contenders, running
from bench.receive.images import Image, Requests
from bench.receive.load import run
from bench.rounds import Figures, family, interleaved, table, usage
from dev.machine import machine

CLIENTS = 500
SIZE = 250_000
_SETTLE_SECONDS = 3
"""For what they asked for at once to be answered: a crowd that stays is measured, no rush."""

_HEAD = (
    b"POST /uploadImage HTTP/1.1\r\nHost: localhost\r\nContent-Length: 250000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n"
)
_PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n\xff\xd8\xff'
KINDS = {
    # what is sent at once, and then each second
    "idle": (b"", b""),
    "slow header": (_HEAD, b"X-A: b\r\n"),
    "slow body": (_HEAD + b"\r\n" + _PART + bytes(200), bytes(100)),
    "never reads": (b"GET /limits HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10, b""),
}
COLUMNS = (
    ("p50 ms", "{:.1f}"),
    ("p99 ms", "{:.1f}"),
    ("worst ms", "{:.0f}"),
    ("images", "{:.0f}"),
    ("peak RSS MB", "{:.0f}"),
)


def be_slow(kind: str, port: int, count: int) -> None:
    """Hold ``count`` connections until standard input ends; says "ready" when all are there."""
    begin, each_second = KINDS[kind]
    watched = selectors.DefaultSelector()
    watched.register(sys.stdin, selectors.EVENT_READ)
    clients: list[socket.socket] = []

    def connect() -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # unread answers pile up
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.send(begin)
        clients.append(client)
        if kind != "never reads":
            watched.register(client, selectors.EVENT_READ)

    for _ in range(count):
        connect()
    print("ready", flush=True)
    next_at = time.monotonic() + 1
    while True:
        for key, _ in watched.select(max(0.0, next_at - time.monotonic())):
            if key.fileobj is sys.stdin:
                return
            client = key.fileobj
            assert isinstance(client, socket.socket)
            with contextlib.suppress(BlockingIOError):
                if not _read(client):
                    watched.unregister(client)
                    clients.remove(client)
                    client.close()
                    connect()
        if time.monotonic() >= next_at:
            next_at += 1
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(each_second)


def _read(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except ConnectionError:
        return b""


@contextlib.contextmanager
def slow_clients(kind: str, port: int, count: int) -> Iterator[None]:
    """Many of them, while the context lasts; none for an empty kind."""
    if not kind:
        yield
        return
    words = [sys.executable, "-m", "bench.slow", "--be", kind, "--port", str(port)]
    words += ["--clients", str(count)]
    crowd = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert crowd.stdin is not None and crowd.stdout is not None
    try:
        crowd.stdout.readline()
        time.sleep(_SETTLE_SECONDS)
        yield
    finally:
        crowd.stdin.close()
        crowd.wait(20)
        crowd.stdout.close()


def turn(contender: Contender, kind: str, seconds: float, clients: int, place: Path) -> Figures:
    """One kind against one program: the good client sends on one connection, image after image."""
    folder = Path(tempfile.mkdtemp(dir=place))
    requests = Requests(Image.of(SIZE))
    took: list[float] = []
    with running(contender, folder, 64) as program:
        _, _ = run(program.port, requests, 1, 20, 20)
        with slow_clients(kind, program.port, clients):
            until, first = time.monotonic() + seconds, 1000
            while time.monotonic() < until:
                _, sent = run(program.port, requests, 1, 20, 0, first=first)
                took += sent.seconds
                first += 20
        _, peak = usage(family(program.pid))
    shutil.rmtree(folder, ignore_errors=True)
    cuts = statistics.quantiles(took, n=100)
    return {
        "p50 ms": cuts[49] * 1e3,
        "p99 ms": cuts[98] * 1e3,
        "worst ms": max(took) * 1e3,
        "images": len(took),
        "peak RSS MB": peak / 2**20,
    }


def main() -> None:
    """Flags, turns, a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.slow", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five seconds of each kind, once")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--contender", default="Headgate")
    parser.add_argument("--processes", type=int, default=1, help="that the contender serves with")
    parser.add_argument("--be", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.be:
        be_slow(flags.be, flags.port, flags.clients)
        return
    found = contenders((flags.processes,))
    contender = next(one for one in found if one.name.startswith(flags.contender))
    base = ROOT / "var" / "bench"
    base.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=base))
    seconds = 5 if flags.quick else flags.seconds
    try:
        turns = {
            f"with {flags.clients}: {kind}" if kind else "alone": partial(
                turn, contender, kind, seconds, flags.clients, place
            )
            for kind in ("", *KINDS)
        }
        results = interleaved(turns, 1 if flags.quick else 3)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"# {contender.name}: a good client with slow ones, 250 KB an image\n")
    print(table(results, COLUMNS, "alone", "p50 ms"))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
