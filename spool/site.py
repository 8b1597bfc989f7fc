"""What no file stands behind: devices, runs, requests, a limit in force, what was learnt,
alerts.

Commits are FULL. This is the owner's own data, and belongs in a backup; the catalog does not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from spool import alerts, devices, gone, jobs, points, sqlite, tally, triggers
from spool.alerts import Alerts
from spool.devices import Devices
from spool.facts import Run, RunTotals
from spool.gone import Gone
from spool.item import Count
from spool.jobs import Jobs
from spool.points import Points
from spool.sqlite import instant, stamp
from spool.triggers import Triggers

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        trigger TEXT NOT NULL,
        outcome TEXT NOT NULL DEFAULT '',
        exit_code INTEGER,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        wire_bytes INTEGER NOT NULL DEFAULT 0,
        set_aside INTEGER NOT NULL DEFAULT 0,
        deferred INTEGER NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        word TEXT NOT NULL,
        image TEXT NOT NULL,
        asked_at INTEGER NOT NULL,
        UNIQUE (word, image)
    ) STRICT;
    CREATE TABLE memory (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    CREATE TABLE forgotten (
        day TEXT PRIMARY KEY,
        images INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
    """,
    devices.TABLES,
    tally.TABLES,
    alerts.TABLES,
    points.TABLES,
    alerts.MEND,
    triggers.TABLES,
    jobs.TABLES,
    gone.TABLES,
)
_RUN = (
    "SELECT id, started_at, ended_at, trigger, outcome, exit_code, images, bytes, wire_bytes,"
    " set_aside, deferred, message, failures FROM runs "
)
KEEP_RUNS = 10_000
S3_CLOCK = "s3.clock_offset"
"""The memory of the seconds by which S3's clock was ahead of ours."""


@dataclass(frozen=True, slots=True)
class Request:
    """A move that a command asked for while a run held the lock; the next run carries it out."""

    number: int
    word: str
    image: str


class Site:
    """``state/site.sqlite3``. Open it after any fork."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite.connect(path, MIGRATIONS, full=True)
        self._lock = threading.Lock()
        self.devices = Devices(self._db, self._lock)
        self.alerts = Alerts(self._db, self._lock)
        self.points = Points(self._db, self._lock)
        self.triggers = Triggers(self._db, self._lock)
        self.jobs = Jobs(self._db, self._lock)
        self.gone = Gone(self._db, self._lock)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def damaged(self) -> str:
        """What SQLite's own check says is wrong; empty if nothing."""
        with self._lock:
            return sqlite.damage_in(self._db)

    def save_run(self, run: Run) -> None:
        """Insert or update."""
        values = (
            run.id,
            stamp(run.started_at),
            None if run.ended_at is None else stamp(run.ended_at),
            run.trigger,
            run.outcome,
            run.exit_code,
            run.images,
            run.bytes,
            run.wire_bytes,
            run.set_aside,
            run.deferred,
            run.message,
            json.dumps(dict(run.failures)),
        )
        with self._lock, sqlite.transaction(self._db) as db:
            before = db.execute(_RUN + "WHERE id = ?", (run.id,)).fetchone()
            tally.note(db, None if before is None else _run(before), run)
            db.execute(
                "INSERT INTO runs (id, started_at, ended_at, trigger, outcome, exit_code, images,"
                " bytes, wire_bytes, set_aside, deferred, message, failures) VALUES"
                " (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13) ON CONFLICT (id) DO UPDATE SET"
                " ended_at = ?3, outcome = ?5, exit_code = ?6, images = ?7, bytes = ?8,"
                " wire_bytes = ?9, set_aside = ?10, deferred = ?11, message = ?12, failures = ?13",
                values,
            )
            db.execute(
                "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", (KEEP_RUNS,)
            )
        with self._lock:
            sqlite.checkpoint(self._db)

    def end_killed_runs(self, now: datetime) -> int:
        """Give an end to runs that never wrote theirs; only under the drain lock."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "UPDATE runs SET outcome = 'killed', ended_at = ?, message = 'it ended without a "
                "word; its images were asked for again' WHERE outcome = ''",
                (stamp(now),),
            )
            killed = sqlite.changes(db)
            tally.add(db, "outcome", "killed", killed)
        return killed

    def skip_run(self) -> None:
        """A run was due and found another one at work."""
        with self._lock, sqlite.transaction(self._db) as db:
            tally.skipped(db)

    def run_totals(self) -> RunTotals:
        """What all runs together did."""
        with self._lock:
            return tally.read(self._db)

    def last_success_at(self) -> datetime | None:
        """When the last run ended that found the bucket or nothing to send; None if none did."""
        with self._lock:
            row = self._db.execute(
                "SELECT ended_at FROM runs WHERE exit_code IN (0, 3) ORDER BY number DESC LIMIT 1"
            ).fetchone()
        return None if row is None else instant(row[0])

    def runs(self, limit: int) -> tuple[Run, ...]:
        """Newest first."""
        with self._lock:
            rows = self._db.execute(_RUN + "ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
        return tuple(_run(row) for row in rows)

    def ask(self, word: str, image: str, now: datetime) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR IGNORE INTO requests (word, image, asked_at) VALUES (?, ?, ?)",
                (word, image, stamp(now)),
            )

    def requests(self) -> list[Request]:
        with self._lock:
            rows = self._db.execute("SELECT number, word, image FROM requests ORDER BY number")
            return [Request(*row) for row in rows.fetchall()]

    def answered(self, request: Request) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM requests WHERE number = ?", (request.number,))

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value; None forgets it."""
        with self._lock, sqlite.transaction(self._db) as db:
            if value is None:
                db.execute("DELETE FROM memory WHERE name = ?", (name,))
            else:
                db.execute(
                    "INSERT INTO memory (name, value) VALUES (?1, ?2) "
                    "ON CONFLICT (name) DO UPDATE SET value = ?2",
                    (name, json.dumps(value)),
                )

    def recall(self, name: str) -> Any:
        with self._lock:
            row = self._db.execute("SELECT value FROM memory WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def forget_day(self, generation: str, count: Count) -> None:
        """A day's file of receipts is about to be dropped; may be said again after a kill."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR IGNORE INTO forgotten (day, images, bytes) VALUES (?, ?, ?)",
                (generation, count.images, count.bytes),
            )

    def forgotten(self, stands: Callable[[str], bool]) -> Count:
        """All images whose receipts were dropped with their day; not of files that still stand."""
        with self._lock:
            rows = self._db.execute("SELECT day, images, bytes FROM forgotten").fetchall()
        gone = [Count(images, size) for day, images, size in rows if not stands(day)]
        return sum(gone, Count())


def _run(row: tuple[Any, ...]) -> Run:
    ended_at = None if row[2] is None else instant(row[2])
    failures: dict[str, int] = json.loads(row[12])
    return Run(row[0], instant(row[1]), ended_at, *(*row[3:12], failures))
