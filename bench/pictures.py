"""What looking at pictures costs those who send them: ``python -m bench.pictures [--quick]``.

Images of 20 KB come in at a steady 200 a second. In one kind of turn no one looks; in the other, a
browser's six connections ask for the thumbnails of 100 photographs, come back after each 503, and
go on until they have all. Both in turn, each on a receiver of its own.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from bench.receive.images import Image, Requests
from bench.rounds import Failed, Figures, family, interleaved, ratio, table
from dev.camera import fleet
from dev.machine import machine

ROOT = Path(__file__).resolve().parents[1]
A_SECOND, SENDERS, LOOKERS, PICTURES = 200, 16, 6, 100
ALONE, LOOKED_AT = "no one looks", "100 thumbnails are asked for"
_COLUMNS = (
    ("images/s", "{:.0f}"), ("p50 ms", "{:.1f}"), ("p99 ms", "{:.1f}"),
    ("CPU ms/image", "{:.2f}"), ("thumbnails", "{:.0f}"), ("s for them", "{:.1f}"),
    ("503s", "{:.0f}"),
)  # fmt: skip


def turn(looked_at: bool, seconds: float, place: Path) -> Figures:
    """One receiver, once."""
    folder = Path(tempfile.mkdtemp(dir=place))
    log = folder / "receiver.log"
    settings = ["receiver.bind=127.0.0.1:0", f"spool.path={folder / 'spool'}",
                "spool.keep_free=0B", "receiver.device_rate=0"]  # fmt: skip
    command = [sys.executable, "-c", "from app.server.server import main; main()"]
    with log.open("wb") as out:
        program = subprocess.Popen(
            [*command, *(word for one in settings for word in ("--set", one))],
            cwd=ROOT, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        return _measured(program.pid, _port(log, program), looked_at, seconds)
    finally:
        program.terminate()
        program.wait(60)


def _port(log: Path, program: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until and program.poll() is None:
        if found := re.search(r'"url": "http://[^/]*:(\d+)/"', log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise Failed(f"the receiver does not serve: {log.read_text()}")


def _measured(pid: int, port: int, looked_at: bool, seconds: float) -> Figures:
    photographs = _photographs(port)
    took: list[float] = []
    ended, began = threading.Event(), time.perf_counter()
    busy = _cpu(pid)
    senders = [
        threading.Thread(target=_send, args=(port, number, began, ended, took))
        for number in range(SENDERS)
    ]
    seen, again = [0], [0]
    left = list(photographs) if looked_at else []
    lock = threading.Lock()
    lookers = [
        threading.Thread(target=_look, args=(port, left, lock, seen, again, ended))
        for _ in range(LOOKERS if looked_at else 0)
    ]
    for one in (*senders, *lookers):
        one.start()
    for one in lookers:
        one.join()
    looking = time.perf_counter() - began
    ended.wait(max(0.0, seconds - looking))
    ended.set()
    for one in senders:
        one.join()
    elapsed = time.perf_counter() - began
    cuts = statistics.quantiles(took, n=100)
    return {
        "images/s": len(took) / elapsed, "p50 ms": cuts[49] * 1e3, "p99 ms": cuts[98] * 1e3,
        "CPU ms/image": (_cpu(pid) - busy) / len(took) * 1e3, "thumbnails": float(seen[0]),
        "s for them": looking if looked_at else 0.0, "503s": float(again[0]),
    }  # fmt: skip


def _photographs(port: int) -> list[str]:
    """Post them; their ids."""
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number, camera in enumerate(fleet(ROOT / "docs" / "photos", PICTURES, 1, ("", 0))):
        headers = {"Content-Type": "image/jpeg", "X-Device": f"photo-{number}"}
        connection.request("POST", "/images", camera.frame(random.Random(number)), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 201:
            raise Failed(f"a photograph is not taken: {text}")
        found.append(answer.headers["Location"].rpartition("/")[2])
    connection.close()
    return found


def _send(port: int, sender: int, began: float, ended: threading.Event, took: list[float]) -> None:
    """Each sender has its places in the second; one that is late does not wait."""
    requests = Requests(Image.of(20_000))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    every, number = SENDERS / A_SECOND, 0
    while not ended.wait(
        max(0.0, began + every * (number + sender / SENDERS) - time.perf_counter())
    ):
        start = time.perf_counter()
        connection.sock.sendall(b"".join(requests.pieces(number * SENDERS + sender)))
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        answer.read()
        if answer.status != 201:
            raise Failed(f"an image is answered with {answer.status}")
        took.append(time.perf_counter() - start)
        number += 1
    connection.close()


def _look(
    port: int, left: list[str], lock: threading.Lock, seen: list[int], again: list[int],
    ended: threading.Event,
) -> None:  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        with lock:
            if not left:
                break
            image = left.pop(0)
        connection.request("GET", f"/images/{image}/thumbnail?placeholder")
        answer = connection.getresponse()
        answer.read()
        with lock:
            if answer.status == 503:
                again[0] += 1
                left.append(image)
            else:
                seen[0] += answer.headers["Content-Type"] == "image/jpeg"
        if answer.status == 503:
            ended.wait(0.5)
    connection.close()


def _cpu(pid: int) -> float:
    """Seconds of a program and all that it started, those that ended as well (proc(5))."""
    seconds = 0.0
    for one in family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return seconds


def main() -> None:
    """Flags, turns, a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=ROOT / "var" / "bench")
    flags = parser.parse_args()
    seconds, rounds = (8.0, 1) if flags.quick else (20.0, flags.rounds)
    flags.dir.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=flags.dir))
    print(f"The load average at the start is {os.getloadavg()[0]:.1f}.")
    try:
        results = interleaved(
            {
                ALONE: partial(turn, False, seconds, place),
                LOOKED_AT: partial(turn, True, seconds, place),
            },
            rounds,
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(table(results, _COLUMNS))
    for column in ("p50 ms", "p99 ms", "CPU ms/image"):
        print(f"{column}: {ratio(results, LOOKED_AT, ALONE, column):.2f} x")
    print(machine())


if __name__ == "__main__":
    main()
