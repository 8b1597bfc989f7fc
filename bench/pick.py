"""Picking from 1,000 waiting images and from 1,000,000: ``python -m bench.pick [--quick]``.

The catalog's rows are written in bulk, without files; then batches are picked and claimed as a run
does it, from the backlog as it is, and given back, so that every pick finds the same.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.rounds import Failed, Figures, interleaved, table
from dev.machine import machine
from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.schema import MIGRATIONS, WAITING, insert
from headgate.spool.image.image import Item, Metadata
from headgate.spool.image.names import Name, make
from uploader.run.pick import Picker

_BATCH = 100
_PICKS, _TIMES = 5, 20
_AT = datetime(2026, 11, 23, tzinfo=UTC)
_COLUMNS = (("ms a pick of 100", "{:.2f}"), ("CPU µs an image", "{:.1f}"))


def waiting(count: int, devices: int) -> Iterator[tuple[Name, Metadata]]:
    """So many images of so many devices, in order of arrival."""
    for number in range(count):
        sha256 = hashlib.sha256(number.to_bytes(8)).hexdigest()
        at = _AT + timedelta(milliseconds=30 * number)
        name = make(at, f"cam-{number % devices:05}", sha256, "jpg")
        yield name, Metadata(sha256, 250_000, "image/jpeg")


def picks(catalog: Catalog, order: str) -> Callable[[], Figures]:
    """One turn: a new picker, as a new run has it, and what its batches cost."""

    def turn() -> Figures:
        seconds, cpu = 0.0, 0.0
        for _ in range(_TIMES):
            began, used = time.perf_counter(), time.process_time()
            picker = Picker(catalog.backlog, catalog.backlog.served(), order)
            claimed: list[Item] = []
            for _ in range(_PICKS):
                claimed += picker.pick(_BATCH, 2**62, look=not claimed)
                catalog.claim(claimed[-_BATCH:])
            seconds += time.perf_counter() - began
            cpu += time.process_time() - used
            if len(claimed) != _PICKS * _BATCH:
                raise Failed(f"{len(claimed)} picked")
            catalog.unclaim(claimed)
            catalog.checkpoint()
        return {
            "ms a pick of 100": 1000 * seconds / (_TIMES * _PICKS),
            "CPU µs an image": 1e6 * cpu / (_TIMES * _PICKS * _BATCH),
        }

    return turn


def fill(path: Path, count: int, devices: int) -> Catalog:
    """A catalog of images that wait, in one transaction instead of a commit each."""
    with closing(sqlite.connect(path, MIGRATIONS, full=False)) as connection:
        with sqlite.transaction(connection) as db:
            for name, meta in waiting(count, devices):
                insert(db, name, meta, WAITING, unknown=False)
        sqlite.checkpoint(connection)
    return Catalog(path)


def main() -> None:
    """Print a table for each number of devices, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 instead of 1,000,000")
    options = parser.parse_args()
    many = 100_000 if options.quick else 1_000_000
    for devices in (1, 20, 1000):
        few = f"1,000 of {devices:,} devices"
        with tempfile.TemporaryDirectory(prefix="headgate-pick-", dir="/var/tmp") as folder:
            with ExitStack() as stack:
                turns = {}
                for count in (1000, many):
                    catalog = fill(Path(folder) / f"{count}.sqlite3", count, devices)
                    stack.callback(catalog.close)
                    turns[f"{count:,} of {devices:,} devices"] = picks(catalog, "mixed")
                results = interleaved(turns, 2 if options.quick else 5)
        print(f"{table(results, _COLUMNS, few, 'CPU µs an image')}\n")
    print(machine())


if __name__ == "__main__":
    main()
