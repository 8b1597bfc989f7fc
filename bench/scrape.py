"""A scrape of an empty receiver and of a full one: ``python -m bench.scrape [--quick]``.

The full one has 1,000,000 images that wait, of 1,000 devices, 30 days of receipts and nine days of
flow, all written in bulk, without files: of a day's receipts a thousand rows and the maintained
totals of 2.88 million, which is what a scrape reads. Each receiver is a program of its own.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.pick import waiting
from bench.rounds import Failed, Figures, family, interleaved, table, usage
from dev.machine import machine
from headgate.settings.settings import combine
from headgate.spool import sqlite
from headgate.spool.catalog.schema import MIGRATIONS, WAITING, count_received, insert
from headgate.spool.image.image import Count, Item, Sent, State
from headgate.spool.receipts.schema import MIGRATIONS as RECEIPTS
from headgate.spool.spool import Spool

_DEVICES, _DAYS, _A_DAY = 1000, 30, 2_880_000
_ADDRESSES = ("/metrics", "/status.json", "/")
_COLUMNS = (*((f"ms {address}", "{:.1f}") for address in _ADDRESSES), ("CPU ms a scrape", "{:.1f}"))


def fill(root: Path, images: int, days: int) -> Path:
    """A spool below ``root``; its folder."""
    settings = combine(None, None, {}, {"spool.path": str(root / "spool")}, root)
    now = datetime.now(UTC)
    with closing(Spool.open(settings, probe=False)) as spool:
        entries = []
        for day in range(1, days + 1):
            for number, (name, meta) in enumerate(waiting(1000 if days > 1 else 10, _DEVICES)):
                at = now - timedelta(days=day) + timedelta(microseconds=number)
                name = type(name)(at, name.device, name.digest, name.ext)
                item = Item(name, meta.sha256, meta.size, State.SENDING)
                entries.append((name, item, Sent("north", f"a/{name.file}", "etag"), at))
        spool.receipts.add(entries)
        for day_name in spool.receipts.days() if days > 1 else ():
            with closing(sqlite.connect(spool.receipts.path(day_name), RECEIPTS, full=False)) as db:
                db.execute("UPDATE totals SET images = ?, bytes = ? WHERE local = 0",
                           (_A_DAY, _A_DAY * 250_000))  # fmt: skip
        local, pruned = spool.receipts.totals()
        state = spool.files.state
    with closing(sqlite.connect(state / "catalog.sqlite3", MIGRATIONS, full=False)) as connection:
        with sqlite.transaction(connection) as db:
            for name, meta in waiting(images, _DEVICES):
                insert(db, name, meta, WAITING, unknown=False)
            count_received(db, local + pruned + Count(images, images * 250_000))
            micros = int(now.timestamp() * 1_000_000)
            for number in range(min(images, _DEVICES)):
                device = f"cam-{number:05}"
                db.execute("INSERT INTO arrivals (device, first_at, last_at, images) "
                           "VALUES (?, ?, ?, 1000)", (device, micros - 10**10, micros))  # fmt: skip
                db.execute("INSERT INTO sequences VALUES (?, 0, 900), (?, 910, 999)",
                           (device, device))  # fmt: skip
            minute = micros // 60_000_000
            rows = [(minute - ago, 2000, 5 * 10**8, 2000, 5 * 10**8, 5 * 10**8)
                    for ago in range(days * 1440 if days == 1 else 9 * 1440)]  # fmt: skip
            db.executemany("INSERT INTO flow VALUES (?, ?, ?, ?, ?, ?)", rows)
        sqlite.checkpoint(connection)
    return root / "spool"


class Receiver:
    """The whole program over a spool, and what a scrape of it takes."""

    def __init__(self, root: Path, images: int, days: int, scrapes: int, stack: ExitStack) -> None:
        self._scrapes = scrapes
        spool = fill(root, images, days)
        self._log = root / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from app.server.server import main; main()",
                 "--set", f"spool.path={spool}", "--set", "receiver.bind=127.0.0.1:0"],
                stdout=log, stderr=log,
            )  # fmt: skip
        stack.callback(self._process.wait)
        stack.callback(self._process.terminate)
        self._url = self._started()

    def _started(self) -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            if found := re.search(r'"url": "(http://[^"]*)/"', self._log.read_text()):
                return found[1]
            time.sleep(0.05)
        raise Failed(f"it did not start: {self._log.read_text()}")

    def turn(self) -> Figures:
        """Medians of some scrapes, one after the other."""
        figures = {}
        for address in _ADDRESSES:
            cpu, _ = usage(family(self._process.pid))
            took = []
            for _ in range(self._scrapes):
                began = time.perf_counter()
                with urllib.request.urlopen(self._url + address, timeout=60) as answer:
                    text = answer.read()
                took.append(1000 * (time.perf_counter() - began))
            figures[f"ms {address}"] = statistics.median(took)
            if address == "/metrics":
                if b"\nheadgate_unaccounted_images 0\n" not in text:
                    raise Failed("images are unaccounted for")
                used, _ = usage(family(self._process.pid))
                figures["CPU ms a scrape"] = 1000 * (used - cpu) / self._scrapes
        return figures


def main() -> None:
    """Print the table, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 instead of 1,000,000")
    options = parser.parse_args()
    many = 100_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="headgate-scrape-", dir="/var/tmp") as folder:
        with ExitStack() as stack:
            turns = {}
            few = "1 image, 1 day"
            for label, images, days in (
                (few, 1, 1),
                (f"{many:,} images, {_DAYS} days", many, _DAYS),
            ):
                root = Path(folder) / str(images)
                root.mkdir()
                scrapes = 5 if options.quick else 20
                turns[label] = Receiver(root, images, days, scrapes, stack).turn
            results = interleaved(turns, 2 if options.quick else 5)
    print(f"{table(results, _COLUMNS)}\n\n{machine()}")


if __name__ == "__main__":
    main()
