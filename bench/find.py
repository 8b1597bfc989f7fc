"""Searching the receipts of 30 million images: ``python -m bench.find [--quick] [--folder DIR]``.

The rows are made by SQL, day by day over three years, into day files as runs write them: uploaded
images of 1,000 devices, one in five with a tag. Then pages are asked for, an image and the totals.
It needs 13 GB; ``--quick`` makes 300,000 rows. The folder is removed afterwards, unless it is
named; the machine should have read it once before, else the disk is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dev.machine import machine
from headgate.settings.settings import Settings, combine
from headgate.spool import sqlite
from headgate.spool.image.image import State
from headgate.spool.query import After, By, Query, id_from
from headgate.spool.receipts.schema import MIGRATIONS, SEARCH_INDEXES
from headgate.spool.spool import Spool

_DAYS, _DEVICES, _A_PAGE = 1095, 1000, 20
_LAST = datetime(2026, 11, 29, tzinfo=UTC)
_ROWS = """
    WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
    INSERT INTO images (id, ext, device, sha256, digest, size, sequence, local, uploaded_at, place,
        rest, etag, version_id, captured, tags)
    SELECT name, 'jpg', device, sha256, random(), 250000, n / ?2, 0, ?3 + 86400, 1,
        name || '.jpg', '"0123456789abcdef0123456789abcdef"', '',
        (?3 + n * 86400 / ?1) * 1000000,
        iif(n % 5, '', '{"site":"north","line":"' || (n % 7) || '"}')
    FROM (
        SELECT n, printf('cam-%04d', n % ?2) AS device, randomblob(32) AS sha256,
            strftime('%Y%m%dT%H%M%S', ?3 + n * 86400 / ?1, 'unixepoch')
            || printf('.%06dZ_cam-%04d_%016x', n % 1000000, n % ?2, n) AS name
        FROM n
    )
    """
_LATER = ("images_by_digest", "images_by_key", "images_local")


def make_day(folder: Path, day: datetime, count: int) -> None:
    """One day file, its indexes made at the end."""
    path = folder / f"{day:%Y-%m-%d}.sqlite3"
    with closing(sqlite.connect(path, MIGRATIONS, full=False)) as db:
        query = (
            "SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql > ''"
        )
        made = {str(name): str(sql) for name, sql in db.execute(query).fetchall()}
        for name, sql in made.items():
            if name in _LATER or " TRIGGER " in sql:
                db.execute(f"DROP {'TRIGGER' if ' TRIGGER ' in sql else 'INDEX'} {name}")
        db.execute("PRAGMA journal_mode = OFF").fetchall()  # what fails is made again
        db.execute("PRAGMA synchronous = OFF").fetchall()
        with sqlite.transaction(db):
            db.execute("INSERT INTO places VALUES (1, 'pictures', 'site/')")
            values = (count, _DEVICES, int(day.timestamp()))
            db.execute(_ROWS, values)
            db.execute("UPDATE totals SET images = ?, bytes = ? WHERE local = 0",
                       (count, count * 250_000))  # fmt: skip
            for name, sql in made.items():
                if name in _LATER or " TRIGGER " in sql:
                    db.execute(sql)
        db.execute(SEARCH_INDEXES).fetchall()
        db.execute("PRAGMA journal_mode = WAL").fetchall()


def questions(first: datetime, days: int) -> dict[str, Query]:
    """What is asked of so many days, by its name in the table."""
    plain = Query(limit=_A_PAGE, states=frozenset(State))
    middle = first + timedelta(days=days / 2)
    hour = replace(plain, since=middle, until=middle + timedelta(hours=1))
    return {
        "the newest 20": plain,
        "20 from the middle on": replace(plain, after=After(id_from(middle))),
        "the newest 20 of a device": replace(plain, device="cam-0500"),
        "20 of a device, from the middle on": replace(
            plain, device="cam-0500", after=After(id_from(middle))
        ),
        "a device that sent nothing": replace(plain, device="cam-none"),
        "a device's sequence numbers 17 to 40": replace(
            plain, device="cam-0500", sequences=(17, 40)
        ),
        "a device's sequence numbers that none has": replace(
            plain, device="cam-0500", sequences=(10**9, 10**9)
        ),
        "an hour by arrival": hour,
        "an hour by capture": replace(hour, by=By.CAPTURE),
        "a tag that one in five has": replace(plain, tags=(("site", "north"),)),
        "a tag that none has": replace(plain, tags=(("event", None),)),
        "a value that none has": replace(plain, tags=(("site", "south"),)),
        "set aside, of which there are none": replace(plain, states=frozenset({State.SET_ASIDE})),
        "uploaded": replace(plain, states=frozenset({State.UPLOADED})),
    }


def timed(settings: Settings, ask: Callable[[Spool], int], rounds: int) -> str:
    """The cells of a row: milliseconds and CPU milliseconds of a spool that was just opened, the
    medians; the first of the rounds; and how many are found."""
    took, cpu, found = [], [], 0
    for _ in range(rounds):
        with closing(Spool.open(settings)) as spool:
            began, worked = time.perf_counter(), time.process_time()
            found = ask(spool)
            took.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - worked))
    medians = statistics.median(took), statistics.median(cpu)
    return f"{medians[0]:.1f} | {medians[1]:.1f} | {took[0]:.1f} | {found:,}"


def _finds(query: Query) -> Callable[[Spool], int]:
    return lambda spool: len(spool.find(query).receipts)


def others(settings: Settings, first: datetime, days: int) -> dict[str, Callable[[Spool], int]]:
    """What else reads the receipts, by its name in the table."""
    plain = Query(limit=_A_PAGE)
    with closing(Spool.open(settings)) as spool:
        page = spool.find(plain)
        for _ in range(998):
            page = spool.find(replace(plain, after=After(page.cursor)))
        middle = id_from(first + timedelta(days=days / 2))
        one = spool.find(replace(plain, after=After(middle))).receipts[0]
    far = replace(plain, after=After(page.cursor))
    return {
        "page 1,000 by cursor": _finds(far),
        "an image by its id": lambda spool: int(spool.receipt(one.id) is not None),
        "an image by its SHA-256": lambda spool: int(spool.receipt(one.sha256) is not None),
        "a SHA-256 that none has": lambda spool: int(spool.receipt("0" * 64) is not None),
        "the totals, for a status": lambda spool: spool.inventory().received.images,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="300,000 rows instead of 30 million")
    options.add_argument("--folder", type=Path, help="keep the rows here, or use those that are")
    options.add_argument("--days", type=int, default=_DAYS, help="that the rows are spread over")
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    os.nice(10)
    count = (300_000 if asked.quick else 30_000_000) // asked.days
    with ExitStack() as stack:
        base = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spool_path = base / "spool"
        settings = combine({"spool": {"path": str(spool_path)}}, None, {}, {}, base)
        first = _LAST - timedelta(days=asked.days - 1)
        began = time.monotonic()
        with closing(Spool.open(settings)) as spool:
            for number in range(asked.days):
                day = first + timedelta(days=number)
                if not spool.receipts.path(f"{day:%Y-%m-%d}").exists():
                    make_day(spool_path / "state" / "receipts", day, count)
        took = time.monotonic() - began
        print(f"{machine()}; {asked.days * count:,} rows, {took:.0f} s to make them\n")
        print("| | ms | CPU ms | first, ms | found |\n|---|---|---|---|---|")
        asked_for = {what: _finds(query) for what, query in questions(first, asked.days).items()}
        asked_for |= others(settings, first, asked.days)
        for what, ask in asked_for.items():
            print(f"| {what} | {timed(settings, ask, asked.rounds)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
