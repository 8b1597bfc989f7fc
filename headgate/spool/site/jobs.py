"""Requested drains and their results; in ``state/site.sqlite3``.

A job is on disk before its request is answered. A process that may run drains takes it: the worker
of the queue at once, cron's watch within a minute, and any other run that begins, whatever started
it. So the client needs no access to the broker and none of the uploader's permissions.

A job is ``queued``, then ``running`` under the drain lock, then ``done``. One that is still running
when another process holds that lock was left behind by a kill, and is queued again.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from headgate.settings import units
from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.site.outcome import CUT_SHORT, WENT_THROUGH
from headgate.spool.site.runs import Run
from headgate.spool.sqlite import instant, stamp

KEEP_JOBS = 1_000
"""Those that were done longest ago are forgotten."""
LATELY = 20
"""How many of the last runs are checked for one that served a job."""
GIVEN_UP = "given up"
ALREADY_RUNNING = "already running"
ALREADY_DONE = "already done"
REFUSED = "refused"
"""Outcomes of jobs that had no run of their own; others: ``headgate.spool.site.outcome``."""
OIDC_KEYS = "jobs.oidc_keys"
"""The memory of the keys that identity tokens are checked against: {"at": ..., "keys": [...]}."""
WANT_KEYS = "oidc-keys"
"""The request to fetch those keys again: a token came that was signed by another one."""

FIELDS = ("max_time", "max_bytes", "device")
_MOST_SECONDS = 86400

TABLES = """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        way TEXT NOT NULL,
        sender TEXT NOT NULL,
        asked_at INTEGER NOT NULL,
        device TEXT NOT NULL DEFAULT '',
        max_seconds INTEGER,
        max_bytes INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'queued',
        starts INTEGER NOT NULL DEFAULT 0,
        run TEXT NOT NULL DEFAULT '',
        started_at INTEGER,
        ended_at INTEGER,
        outcome TEXT NOT NULL DEFAULT '',
        exit_code INTEGER,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        wire_bytes INTEGER NOT NULL DEFAULT 0,
        set_aside INTEGER NOT NULL DEFAULT 0,
        deferred INTEGER NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX jobs_open ON jobs (state) WHERE state <> 'done';
    ALTER TABLE devices ADD COLUMN may_drain INTEGER NOT NULL DEFAULT 0;
    """

_COLUMNS = (
    "id, way, sender, asked_at, device, max_seconds, max_bytes, state, starts, run, started_at,"
    " ended_at, outcome, exit_code, images, bytes, wire_bytes, set_aside, deferred, message,"
    " succeeded"
)


class TooManyJobs(Exception):
    """More were asked for within a minute than the settings allow."""

    def __init__(self, wait_seconds: int) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(f"come back in {wait_seconds} s")


class BadJob(Exception):
    """A job's parameters cannot be used; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """One drain that was asked for. ``bytes`` are the images', ``wire_bytes`` all that left."""

    id: str
    way: str  # "http" or "queue"
    sender: str
    asked_at: datetime
    device: str = ""  # only its images
    max_seconds: int | None = None
    max_bytes: int = 0
    state: str = "queued"  # "queued", "running" or "done"
    starts: int = 0  # how often a message of it began a drain
    run: str = ""  # the id of the run that carried it out, or was at work already
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""
    exit_code: int | None = None
    images: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    set_aside: int = 0
    deferred: int = 0
    message: str = ""
    succeeded: bool | None = None  # None: not yet, or a run that was at work already tells

    @property
    def bounded(self) -> bool:
        """Whether it asks for less than all that waits."""
        return bool(self.device or self.max_bytes or self.max_seconds is not None)


def asked_for(document: Mapping[str, Any]) -> dict[str, Any]:
    """As fields of ``Job``: ``max_time`` ("2min"), ``max_bytes`` ("500MB"), ``device``, each of
    which may be left out. BadJob for anything else: a wish is not half fulfilled."""
    if unknown := [name for name in document if name not in FIELDS]:
        raise BadJob(f"{unknown[0][:40]!r} is none of {', '.join(FIELDS)}")
    found: dict[str, Any] = {}
    try:
        if "max_time" in document:
            found["max_seconds"] = units.parse_duration(_text(document, "max_time"))
            if not 0 < found["max_seconds"] <= _MOST_SECONDS:
                raise BadJob("max_time is not from 1s to 1d")
        if "max_bytes" in document:
            found["max_bytes"] = units.parse_size(_text(document, "max_bytes"))
            if not 0 < found["max_bytes"] < 2**62:
                raise BadJob("max_bytes is no size that can be sent")
    except units.UnitError as error:
        raise BadJob(str(error)[:200]) from None
    if "device" in document:
        found["device"] = _text(document, "device")
        if not names.DEVICE.fullmatch(found["device"]):
            raise BadJob("device is no name of a device")
    return found


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or len(value) > 100:
        raise BadJob(f'{name} is no text, as in {{"max_time": "2min"}}')
    return value


def new_id() -> str:
    """A new job's id, which cannot be guessed."""
    return str(uuid.uuid4())


def served_by(job: Job, runs: Iterable[Run]) -> Run | None:
    """A run that began after the job was asked for and left nothing of it to do; None if none did.
    A process that carries out a job checks again under the drain lock."""
    if job.bounded:
        return None
    return next(
        (
            run
            for run in runs
            if run.started_at >= job.asked_at and run.outcome in WENT_THROUGH and not run.waiting
        ),
        None,
    )


class Jobs:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def ask(self, job: Job, most_a_minute: int) -> Job:
        """Keep a new job; or give the one that waits already and asks for the same.

        TooManyJobs if as many were asked for in the minute before it, by the same way.
        """
        with self._lock, sqlite.transaction(self._db) as db:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' AND way = ? AND device = ? "
                "AND max_seconds IS ? AND max_bytes = ? ORDER BY number LIMIT 1",
                (job.way, job.device, job.max_seconds, job.max_bytes),
            ).fetchone()
            if row is not None:
                return _job(row)
            lately = db.execute(
                "SELECT asked_at FROM jobs WHERE way = ? AND asked_at > ? AND asked_at <= ? "
                "ORDER BY asked_at DESC LIMIT 1 OFFSET ?",
                (
                    job.way,
                    stamp(job.asked_at - timedelta(minutes=1)),
                    stamp(job.asked_at),
                    most_a_minute - 1,
                ),
            ).fetchone()
            if lately is not None:
                left = instant(lately[0]) + timedelta(minutes=1) - job.asked_at
                raise TooManyJobs(max(1, -int(-left.total_seconds() // 1)))
            self._insert(db, job)
        return job

    def delivered(self, job: Job) -> Job:
        """A message of the queue asks for this job: known from before, or kept from now on."""
        with self._lock, sqlite.transaction(self._db) as db:
            self._insert(db, job)
            row = db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job.id,)).fetchone()
        return _job(row)

    def begun(self, job: Job) -> None:
        """A message of it begins a drain; one that does so again and again is poison."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("UPDATE jobs SET starts = starts + 1 WHERE id = ?", (job.id,))

    def take_up(self, run: Run, own: str = "", *, bounded: bool) -> None:
        """This run carries out job ``own``, and unless it is ``bounded`` every other that waits;
        only under the drain lock."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("UPDATE jobs SET state = 'queued', run = '' WHERE state = 'running'")
            db.execute(
                "UPDATE jobs SET state = 'running', run = ?, started_at = ? "
                "WHERE state = 'queued' AND (id = ? OR ?)",
                (run.id, stamp(run.started_at), own, not bounded),
            )

    def finish(self, run: Run) -> None:
        """Every job that this run carried out is done, and went as the run did; if someone ended
        the run before it was through, they wait for the next one."""
        with self._lock, sqlite.transaction(self._db) as db:
            if run.outcome in CUT_SHORT:
                db.execute(
                    "UPDATE jobs SET state = 'queued', run = '', started_at = NULL "
                    "WHERE state = 'running' AND run = ?",
                    (run.id,),
                )
                return
            db.execute(
                "UPDATE jobs SET state = 'done', ended_at = ?, outcome = ?, exit_code = ?,"
                " images = ?, bytes = ?, wire_bytes = ?, set_aside = ?, deferred = ?, message = ?,"
                " succeeded = ?"
                " WHERE state = 'running' AND run = ?",
                (
                    None if run.ended_at is None else stamp(run.ended_at),
                    run.outcome,
                    run.exit_code,
                    run.images,
                    run.bytes,
                    run.wire_bytes,
                    run.set_aside,
                    run.deferred,
                    run.message,
                    run.success,
                    run.id,
                ),
            )

    def end(
        self,
        job: Job,
        now: datetime,
        outcome: str,
        message: str,
        run: str = "",
        *,
        also_running: bool = False,
    ) -> Job:
        """End a job without a run of its own, unless it was done already or, but for
        ``also_running``, a run is at it."""
        succeeded = None if outcome == ALREADY_RUNNING else outcome == ALREADY_DONE
        ended = replace(
            job, state="done", ended_at=now, outcome=outcome, message=message, run=run or job.run,
            succeeded=succeeded,
        )  # fmt: skip
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "UPDATE jobs SET state = 'done', ended_at = ?, outcome = ?, message = ?, run = ?,"
                " succeeded = ?"
                " WHERE id = ? AND (state = 'queued' OR (? AND state = 'running'))",
                (stamp(now), outcome, message, ended.run, succeeded, job.id, also_running),
            )
        return ended

    def get(self, id_: str) -> Job | None:
        with self._lock:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id_,)).fetchone()
        return None if row is None else _job(row)

    def queued(self) -> Sequence[Job]:
        """The jobs that wait, in order."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state = 'queued' ORDER BY number"
            ).fetchall()
        return [_job(row) for row in rows]

    def _insert(self, db: sqlite.Connection, job: Job) -> None:
        db.execute(
            "INSERT OR IGNORE INTO jobs (id, way, sender, asked_at, device, max_seconds, max_bytes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                job.id,
                job.way,
                job.sender,
                stamp(job.asked_at),
                job.device,
                job.max_seconds,
                job.max_bytes,
            ),
        )
        db.execute(
            "DELETE FROM jobs WHERE state = 'done' "
            "AND number <= (SELECT max(number) FROM jobs) - ?",
            (KEEP_JOBS,),
        )


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    for name in ("asked_at", "started_at", "ended_at"):
        values[name] = None if values[name] is None else instant(values[name])
    if values["succeeded"] is not None:
        values["succeeded"] = bool(values["succeeded"])
    return Job(**values)
