"""Searching the receipts of 30 million images: ``python -m bench.find [--quick] [--folder DIR]``.

The rows are made by SQL, day by day, into day files as runs write them: uploaded images of 1,000
devices, one in five with a tag. Then pages are asked for. It needs 14 GB;
``--quick`` makes 300,000 rows. The folder is removed afterwards, unless it is named.
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
from headgate.settings.settings import combine
from headgate.spool import sqlite
from headgate.spool.image.image import State
from headgate.spool.query import After, By, Page, Query, id_from
from headgate.spool.receipts.schema import MIGRATIONS, SEARCH_INDEXES
from headgate.spool.spool import Spool

_DAYS, _DEVICES, _A_PAGE = 30, 1000, 20
_FIRST = datetime(2026, 10, 1, tzinfo=UTC)
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


def questions(days: int) -> dict[str, Query]:
    """What is asked of so many days, by its name in the table."""
    plain = Query(limit=_A_PAGE, states=frozenset(State))
    middle = _FIRST + timedelta(days=days / 2)
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
        "an hour by arrival": hour,
        "an hour by capture": replace(hour, by=By.CAPTURE),
        "a tag that one in five has": replace(plain, tags=(("site", "north"),)),
        "a tag that none has": replace(plain, tags=(("event", None),)),
        "a value that none has": replace(plain, tags=(("site", "south"),)),
        "set aside, of which there are none": replace(plain, states=frozenset({State.SET_ASIDE})),
        "uploaded": replace(plain, states=frozenset({State.UPLOADED})),
    }


def timed(find: Callable[[Query], Page], query: Query, rounds: int) -> tuple[float, int]:
    """Milliseconds of a search, the median, and how many it finds."""
    took, found = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        found = len(find(query).receipts)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took), found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="300,000 rows instead of 30 million")
    options.add_argument("--folder", type=Path, help="keep the rows here, or use those that are")
    options.add_argument("--days", type=int, default=_DAYS, help="of a million rows each")
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    os.nice(10)
    count = 10_000 if asked.quick else 1_000_000
    with ExitStack() as stack:
        base = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spool_path = base / "spool"
        settings = combine({"spool": {"path": str(spool_path)}}, None, {}, {}, base)
        began = time.monotonic()
        with closing(Spool.open(settings)) as spool:
            for number in range(asked.days):
                day = _FIRST + timedelta(days=number)
                if not spool.receipts.path(f"{day:%Y-%m-%d}").exists():
                    make_day(spool_path / "state" / "receipts", day, count)
        took = time.monotonic() - began
        print(f"{machine()}; {asked.days * count:,} rows, {took:.0f} s to make them\n")
        print("| | ms | found |\n|---|---|---|")
        with closing(Spool.open(settings)) as spool:
            for what, query in questions(asked.days).items():
                took, found = timed(spool.find, query, asked.rounds)
                print(f"| {what} | {took:.1f} | {found} |", flush=True)
            page = spool.find(Query(limit=_A_PAGE))
            for _ in range(998):
                page = spool.find(Query(limit=_A_PAGE, after=After(page.cursor)))
            took, found = timed(
                spool.find, Query(limit=_A_PAGE, after=After(page.cursor)), asked.rounds
            )
            print(f"| page 1,000 by cursor | {took:.1f} | {found} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
