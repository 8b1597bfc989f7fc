"""Uploads that were refused, minute by minute: so that refusals in numbers raise an alert.

The receiver counts in memory and writes now and then, so that a flood of refusals costs no
commits; what cannot be written (the disk may be full) is kept and told until it can. Refusals that
blame the image itself are counted by device instead (``headgate.spool.catalog.device_stats``).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate.spool import sqlite

WINDOW = timedelta(minutes=15)
"""What counts as lately."""

TABLES = """
    CREATE TABLE refused (
        minute INTEGER NOT NULL,
        code TEXT NOT NULL,
        requests INTEGER NOT NULL,
        PRIMARY KEY (minute, code)
    ) STRICT;
    """

Counts = Mapping[tuple[int, str], int]
"""Requests, by minute and code."""


@dataclass(frozen=True, slots=True)
class RefusedLately:
    """Uploads that one kind of refusal met in the last minutes, and their share of all uploads."""

    code: str
    requests: int
    minutes: int
    share: float  # from 0 to 1


class Pending:
    """Refusals that are counted and not written yet. Thread-safe, and bounded: by the codes there
    are, and by the window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[int, str]] = Counter()

    def note(self, code: str, at: datetime) -> None:
        """Count an upload that was refused."""
        with self._lock:
            self._counts[_minute(at), code] += 1

    def counts(self) -> Counts:
        """The counts that are not written yet."""
        with self._lock:
            return dict(self._counts)

    def write(self, by: Callable[[Counts], None], now: datetime) -> None:
        """Hand all of it over; what ``by`` fails to write is kept, for as long as it is news."""
        oldest = _minute(now - WINDOW)
        with self._lock:
            for key in [key for key in self._counts if key[0] < oldest]:
                del self._counts[key]
            counts = dict(self._counts)
        if not counts:
            return
        by(counts)
        with self._lock:
            self._counts.subtract(counts)
            self._counts = +self._counts


def add(db: sqlite.Connection, counts: Counts) -> None:
    """Write them down, and drop what is no news any more; inside a transaction."""
    db.executemany(
        "INSERT INTO refused (minute, code, requests) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (minute, code) DO UPDATE SET requests = requests + ?3",
        [(minute, code, requests) for (minute, code), requests in counts.items()],
    )
    newest = max(minute for minute, _ in counts)
    db.execute("DELETE FROM refused WHERE minute < ?", (newest - 24 * 60,))


def read(db: sqlite.Connection, now: datetime) -> dict[str, int]:
    """Requests by code, of those within the window."""
    rows = db.execute(
        "SELECT code, sum(requests) FROM refused WHERE minute BETWEEN ?1 AND ?2 GROUP BY code",
        (_minute(now - WINDOW), _minute(now) + 1),
    )
    return {str(code): int(requests) for code, requests in rows.fetchall()}


def lately(
    known: Mapping[str, int], unwritten: Counts, taken: int, now: datetime
) -> tuple[RefusedLately, ...]:
    """Refusals that are written and those that are pending, by code, most frequent first, with the
    number of accepted uploads."""
    oldest = _minute(now - WINDOW)
    found = Counter(known)
    for (minute, code), requests in unwritten.items():
        if minute >= oldest:
            found[code] += requests
    every = taken + sum(found.values())
    minutes = int(WINDOW.total_seconds()) // 60
    return tuple(
        RefusedLately(code, requests, minutes, requests / every)
        for code, requests in found.most_common()
    )


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
