"""Records of which no image file has a copy: devices, runs, requests, a limit in force, what was
learned, alerts, who changed what.

Commits are FULL. This is the owner's own data, and belongs in a backup; the catalog does not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from headgate.spool import sqlite
from headgate.spool.image.image import Count
from headgate.spool.site import (
    alert_history,
    alerts,
    audit,
    devices,
    gone,
    holds,
    jobs,
    labels,
    metric_points,
    triggers,
    users,
)
from headgate.spool.site import runs as tally
from headgate.spool.site.alerts import Alerts
from headgate.spool.site.audit import Audit
from headgate.spool.site.devices import Devices
from headgate.spool.site.gone import Gone
from headgate.spool.site.holds import Holds
from headgate.spool.site.jobs import Jobs
from headgate.spool.site.labels import Labels
from headgate.spool.site.metric_points import Points
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Proof, Run, RunTotals
from headgate.spool.site.triggers import Triggers
from headgate.spool.site.users import Users
from headgate.spool.sqlite import instant, stamp

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
    metric_points.TABLES,
    alerts.MEND,
    triggers.TABLES,
    jobs.TABLES,
    gone.TABLES,
    # Which runs tried images without success. For older runs only their message is known.
    """
    ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN confirmed_at INTEGER;
    ALTER TABLE runs ADD COLUMN failing_since INTEGER;
    ALTER TABLE runs ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN success INTEGER NOT NULL DEFAULT 0;
    UPDATE runs SET
        attempts = images + deferred + set_aside,
        confirmed_at = CASE WHEN images > 0 THEN coalesce(ended_at, started_at) END,
        failing_since = CASE WHEN images = 0 AND deferred > 0 THEN started_at END,
        success = coalesce(exit_code IN (0, 3), 0) AND (images > 0 OR deferred = 0);
    CREATE INDEX runs_confirmed ON runs (number) WHERE confirmed_at IS NOT NULL;
    CREATE INDEX runs_settled ON runs (number) WHERE settled = 1;
    CREATE INDEX runs_failing ON runs (number) WHERE failing_since IS NOT NULL;
    CREATE INDEX runs_good ON runs (number) WHERE success = 1;
    ALTER TABLE jobs ADD COLUMN succeeded INTEGER;
    """,
    devices.FORWARDING,
    devices.DIGEST,
    audit.TABLES,
    users.TABLES,
    holds.TABLES,
    labels.TABLES,
    alert_history.TABLES,
)
_COLUMNS = (
    "id", "started_at", "ended_at", "trigger", "outcome", "exit_code", "images", "bytes",
    "wire_bytes", "set_aside", "deferred", "message", "failures", "attempts", "waiting",
    "confirmed_at", "failing_since", "settled", "success",
)  # fmt: skip
_FIXED = ("id", "started_at", "trigger")  # from a run's first word on
_RUN = f"SELECT {', '.join(_COLUMNS)} FROM runs "
_SAVE = (
    f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in _FIXED)
)
_INSTANTS = ("started_at", "ended_at", "confirmed_at", "failing_since")
_WELL = (0, 3)
"""Exit codes of a run that did what could be done; see ``headgate.host.exit_codes``."""
KEEP_RUNS = 10_000
S3_CLOCK = "s3.clock_offset"
"""The memory of the seconds by which S3's clock was ahead of ours."""


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """A move that a command asked for while a run held the lock; the next run carries it out."""

    number: int
    word: str
    image: str


class Site:
    """The site's database, ``state/site.sqlite3``. Open it after any fork."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite.connect(path, MIGRATIONS, full=True)
        self._lock = threading.RLock()
        self.devices = Devices(self._db, self._lock)
        self.alerts = Alerts(self._db, self._lock)
        self.points = Points(self._db, self._lock)
        self.triggers = Triggers(self._db, self._lock)
        self.jobs = Jobs(self._db, self._lock)
        self.holds = Holds(self._db, self._lock)
        self.labels = Labels(self._db, self._lock)
        self.gone = Gone(self._db, self._lock)
        self.audit = Audit(self._db, self._lock)
        self.users = Users(self._db, self._lock)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make what is written inside one commit, all or nothing: a change and the line of the
        audit log that says who made it. Do nothing slow inside: other programs wait to write."""
        with self._lock, sqlite.transaction(self._db):
            yield

    def damaged(self) -> str:
        """What SQLite's own check says is wrong; empty if nothing."""
        with self._lock:
            return sqlite.damage_in(self._db)

    def save_run(self, run: Run) -> Run:
        """Insert or update; the run as it was saved. One that ended is called a success here and
        nowhere else."""
        with self._lock, sqlite.transaction(self._db) as db:
            before = db.execute(_RUN + "WHERE id = ?", (run.id,)).fetchone()
            tally.note(db, None if before is None else _run(before), run)
            db.execute(_SAVE, _values(run))
            if run.ended_at is not None:
                well = run.exit_code in _WELL and (
                    run.confirmed_at is not None or _proof(db).failing_since is None
                )
                run = replace(run, success=well)
                db.execute("UPDATE runs SET success = ? WHERE id = ?", (well, run.id))
            db.execute(
                "DELETE FROM runs WHERE number <= (SELECT max(number) FROM runs) - ?", (KEEP_RUNS,)
            )
        with self._lock:
            sqlite.checkpoint(self._db)
        return run

    def end_killed_runs(self, now: datetime) -> int:
        """Give an end to runs that never wrote theirs; only under the drain lock."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "UPDATE runs SET outcome = ?, ended_at = ?, message = 'it ended without a "
                "word; its images were asked for again' WHERE outcome = ?",
                (Outcome.KILLED, stamp(now), Outcome.UNDER_WAY),
            )
            killed = sqlite.changes(db)
            tally.add(db, "outcome", Outcome.KILLED, killed)
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
        """When the last run ended that was a success; None if none was."""
        with self._lock:
            row = self._db.execute(
                "SELECT ended_at FROM runs WHERE success = 1 ORDER BY number DESC LIMIT 1"
            ).fetchone()
        return None if row is None else instant(row[0])

    def proof(self) -> Proof:
        """What the attempts of all runs have proved lately."""
        with self._lock:
            return _proof(self._db)

    def runs(self, limit: int) -> tuple[Run, ...]:
        """The last runs, newest first."""
        with self._lock:
            rows = self._db.execute(_RUN + "ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
        return tuple(_run(row) for row in rows)

    def add_request(self, word: str, image: str, now: datetime) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR IGNORE INTO requests (word, image, asked_at) VALUES (?, ?, ?)",
                (word, image, stamp(now)),
            )

    def requests(self) -> list[OperatorRequest]:
        with self._lock:
            rows = self._db.execute("SELECT number, word, image FROM requests ORDER BY number")
            return [OperatorRequest(*row) for row in rows.fetchall()]

    def complete_request(self, request: OperatorRequest) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM requests WHERE number = ?", (request.number,))

    def put(self, name: str, value: Any) -> None:
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

    def get(self, name: str) -> Any:
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
        """Totals of images whose receipts were dropped with their day; not of files that still
        stand."""
        with self._lock:
            rows = self._db.execute("SELECT day, images, bytes FROM forgotten").fetchall()
        gone = [Count(images, size) for day, images, size in rows if not stands(day)]
        return sum(gone, Count())


def _values(run: Run) -> list[Any]:
    values = {name: getattr(run, name) for name in _COLUMNS}
    values["failures"] = json.dumps(dict(run.failures))
    for name in _INSTANTS:
        values[name] = None if values[name] is None else stamp(values[name])
    return list(values.values())


def _run(row: tuple[Any, ...]) -> Run:
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in _INSTANTS:
        values[name] = None if values[name] is None else instant(values[name])
    values["outcome"] = Outcome.read(values["outcome"])
    values["failures"] = json.loads(values["failures"])
    for name in ("settled", "success"):
        values[name] = bool(values[name])
    return Run(**values)


def _proof(db: sqlite.Connection) -> Proof:
    confirmed = db.execute(
        "SELECT number, confirmed_at FROM runs INDEXED BY runs_confirmed "
        "WHERE confirmed_at IS NOT NULL ORDER BY number DESC LIMIT 1"
    ).fetchone() or (0, None)
    settled = db.execute(
        "SELECT number FROM runs INDEXED BY runs_settled WHERE settled = 1 "
        "ORDER BY number DESC LIMIT 1"
    ).fetchone() or (0,)
    proved = max(confirmed[0], settled[0])
    since = db.execute(
        "SELECT failing_since FROM runs INDEXED BY runs_failing "
        "WHERE failing_since IS NOT NULL AND number >= ? ORDER BY number LIMIT 1",
        (proved,),
    ).fetchone()
    (fruitless,) = db.execute(
        "SELECT count(*) FROM runs INDEXED BY runs_failing "
        "WHERE failing_since IS NOT NULL AND number > ?",
        (proved,),
    ).fetchone()
    last = db.execute(
        "SELECT message FROM runs INDEXED BY runs_failing "
        "WHERE failing_since IS NOT NULL AND number >= ? ORDER BY number DESC LIMIT 1",
        (proved,),
    ).fetchone()
    return Proof(
        None if confirmed[1] is None else instant(confirmed[1]),
        None if since is None else instant(since[0]),
        fruitless,
        last[0] if last else "",
    )
