"""Numbers of runs on their way to a monitor elsewhere; in ``state/site.sqlite3``.

Each keeps its own time, so an outage leaves no hole in the curves. What is older than two weeks is
dropped: CloudWatch takes nothing older.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

KEEP = timedelta(days=14)

TABLES = """
    CREATE TABLE points (
        at INTEGER PRIMARY KEY,
        numbers TEXT NOT NULL
    ) STRICT;
    """


@dataclass(frozen=True, slots=True)
class Point:
    """Numbers by name, as they were at one instant."""

    at: datetime
    numbers: Mapping[str, float]


class Points:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def add(self, point: Point) -> None:
        """Keep one; in place of another of the same instant."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM points WHERE at < ?", (stamp(point.at - KEEP),))
            db.execute(
                "INSERT OR REPLACE INTO points VALUES (?, ?)",
                (stamp(point.at), json.dumps(dict(point.numbers))),
            )

    def oldest(self, limit: int) -> list[Point]:
        """The oldest points first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT at, numbers FROM points ORDER BY at LIMIT ?", (limit,)
            ).fetchall()
        return [Point(instant(at), json.loads(numbers)) for at, numbers in rows]

    def drop(self, points: Sequence[Point]) -> None:
        """Remove points that were delivered, or never will be."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.executemany("DELETE FROM points WHERE at = ?", [(stamp(p.at),) for p in points])
