"""``python -m bench.receive``: a table for each size of image and number of connections."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.receive.contenders import ROOT, Contender, contenders, running, several
from bench.receive.images import Image, Requests
from bench.receive.load import run
from bench.rounds import Failed, Figures, Results, family, interleaved, ratio, table, usage
from dev.machine import machine
from headgate.host import cores

SIZES = {"20 KB": (20_000, 2000), "250 KB": (250_000, 1000), "5 MB": (5_000_000, 60)}
"""Bytes of an image, and how many are sent in a turn after the warm-up."""

CONNECTIONS = (16, 64)
COLUMNS = (
    ("images/s", "{:.0f}"),
    ("MB/s", "{:.0f}"),
    ("p50 ms", "{:.1f}"),
    ("p99 ms", "{:.1f}"),
    ("CPU ms/image", "{:.2f}"),
    ("peak RSS MB", "{:.0f}"),
)
BASE = "multer, same work, one process"
QUIET_LOAD = 0.5
"""A load average at the start above this is said: figures of a busy machine are not to publish."""


def turn(contender: Contender, size: int, images: int, connections: int, place: Path) -> Figures:
    """One contender, once, on an empty folder; Failed if a stored byte is not as it was sent."""
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        requests = Requests(Image.of(size), raw=contender.raw)
        with running(contender, folder, connections) as program:
            at_start = 0.0

            def when_warm() -> None:
                nonlocal at_start
                at_start, _ = usage(family(program.pid))

            warm = max(images // 5, 2 * connections)
            before, after = run(
                program.port, requests, connections, images, warm, when_warm=when_warm
            )
            at_end, peak = usage(family(program.pid))
        _compare(folder / contender.kept, requests.image, [*before.numbers, *after.numbers])
    finally:
        _empty(folder)
    cuts = statistics.quantiles(after.seconds, n=100)
    return {
        "images/s": len(after.numbers) / after.elapsed,
        "MB/s": len(after.numbers) * size / after.elapsed / 1e6,
        "p50 ms": cuts[49] * 1e3,
        "p99 ms": cuts[98] * 1e3,
        "CPU ms/image": (at_end - at_start) / len(after.numbers) * 1e3,
        "peak RSS MB": peak / 2**20,
    }


def _empty(folder: Path) -> None:
    """Give the room back, and keep the files until the end: to make a file ext4 steps over every
    inode that was freed in the last minutes, so unlinking thousands slows down who comes next."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def _compare(kept: Path, image: Image, numbers: list[int]) -> None:
    """Every acknowledged image is stored once, byte for byte, and nothing else is."""
    stored = sorted(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in kept.rglob("*") if path.is_file()
    )
    sent = sorted(image.sha256(number) for number in numbers)
    if stored != sent:
        raise Failed(f"{len(sent)} images were acknowledged; what is stored is not the same")


def main() -> None:
    """Flags, turns, tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.receive", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", action="append", choices=SIZES, help="only this size")
    parser.add_argument("--connections", action="append", type=int, help="only so many")
    parser.add_argument(
        "--processes", action="append", type=int,
        help="that each program serves with (repeatable; default: one, and one a core)",
    )  # fmt: skip
    parser.add_argument("--busy", type=int, default=0, help="programs that compute beside it")
    parser.add_argument("--only", action="append", metavar="TEXT", help="contenders with TEXT")
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "var" / "bench", help="where they store: a real disk"
    )
    flags = parser.parse_args()
    counts = tuple(flags.processes or sorted({1, cores.available()}))
    wanted = [c for c in contenders(counts) if any(t in c.name for t in flags.only or [""])]
    flags.dir.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=flags.dir))
    try:
        with beside(flags.busy):
            _measure(flags, wanted, counts, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def beside(count: int) -> Iterator[None]:
    """With so many other programs that compute all the time."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


def _measure(
    flags: argparse.Namespace, wanted: list[Contender], counts: tuple[int, ...], place: Path
) -> None:
    print("# Receiving images\n")
    load = os.getloadavg()[0]
    quiet = "" if load < QUIET_LOAD else ": the machine is not quiet, so publish none of this"
    print(f"The load average at the start is {load:.1f}{quiet}.")
    print(f"{flags.busy} programs compute beside each turn.\n" if flags.busy else "")
    for label in flags.size or SIZES:
        size, images = SIZES[label]
        images = max(images // 5, 50) if flags.quick else images
        for connections in flags.connections or CONNECTIONS:
            results = interleaved(
                {c.name: partial(turn, c, size, images, connections, place) for c in wanted},
                1 if flags.quick else flags.rounds,
            )
            print(f"## {label}, {connections} connections, {images} images a turn\n")
            print(table(results, COLUMNS, BASE, "images/s"))
            for count in counts:
                _compare_all(results, several(count))
            print(flush=True)
    print(machine())
    load = os.getloadavg()[0]
    print(f"The load average at the end was {load:.1f}: other work shared the machine or not.")


def _compare_all(results: Results, how: str) -> None:
    """Headgate to each peer with as many processes, and to the peers as people run them."""
    ours = f"Headgate, {how}"
    for peer in ("multer, same work", "FastAPI, same work"):
        for theirs in dict.fromkeys((f"{peer}, {how}", f"{peer}, {several(1)}")):
            if ours in results and theirs in results:
                speed = ratio(results, ours, theirs, "images/s")
                cpu = ratio(results, ours, theirs, "CPU ms/image")
                print(f"\n{ours} to {theirs}: {speed:.2f} x the images/s, {cpu:.2f} x the CPU.")


if __name__ == "__main__":
    main()
