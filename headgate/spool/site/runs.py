"""What all runs together did: counters that outlive the runs they were counted from.

Kept in ``site.sqlite3`` and written in the transaction that saves a run, as what is new since the
run was last saved; so a killed run counts with what it last said, and none counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from headgate.spool import sqlite
from headgate.spool.site.outcome import Outcome

TABLES = """
    CREATE TABLE tally (
        what TEXT NOT NULL,
        label TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (what, label)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO tally SELECT 'images', '', sum(images) FROM runs HAVING count(*);
    INSERT INTO tally SELECT 'bytes', '', sum(bytes) FROM runs HAVING count(*);
    INSERT INTO tally SELECT 'wire_bytes', '', sum(wire_bytes) FROM runs HAVING count(*);
    INSERT INTO tally SELECT 'set_aside', '', sum(set_aside) FROM runs HAVING count(*);
    INSERT INTO tally SELECT 'deferred', '', sum(deferred) FROM runs HAVING count(*);
    INSERT INTO tally SELECT 'outcome', outcome, count(*) FROM runs
        WHERE outcome <> '' GROUP BY outcome;
    INSERT INTO tally SELECT 'microseconds', '', sum(ended_at - started_at) FROM runs
        WHERE ended_at IS NOT NULL HAVING count(*);
    ALTER TABLE runs ADD COLUMN failures TEXT NOT NULL DEFAULT '{}';
    """

_NUMBERS = ("images", "bytes", "wire_bytes", "set_aside", "deferred")
_SKIPPED = "skipped"


FAILURES = ("transient", "permanent", "fatal", "uplink_down")
"""The kinds of a failed attempt: what a run does about it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the uploader. ``bytes`` are the images', ``wire_bytes`` all that left.

    ``attempts`` counts what was tried at the bucket and came to an end, confirmed or not; a file
    that could not be read never got there.
    """

    id: str
    started_at: datetime
    ended_at: datetime | None = None
    trigger: str = "hand"  # one of spool.triggers.KINDS
    outcome: Outcome = Outcome.UNDER_WAY
    exit_code: int | None = None
    images: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    set_aside: int = 0
    deferred: int = 0
    message: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)  # attempts that failed, by kind
    attempts: int = 0
    waiting: int = 0  # images that still wait at its end, also for their next attempt
    confirmed_at: datetime | None = None  # when it last confirmed an image
    failing_since: datetime | None = None  # the first attempt that failed after that
    settled: bool = False  # at its end no image waited, and none was set aside
    success: bool = False  # the site's word when the run has ended: see ``Proof``

    @property
    def failed_attempts(self) -> int:
        """How many attempts did not confirm their image."""
        return max(0, self.attempts - self.images)

    @property
    def mostly_failed(self) -> bool:
        """Whether it confirmed something, and failed more often than that."""
        return 0 < self.images < self.failed_attempts


@dataclass(frozen=True, slots=True)
class Proof:
    """What the attempts of all runs have proved lately.

    While attempts fail and none in between confirms its image, no run is a success, also one that
    finds nothing due: until an image is confirmed, or none waits any more.
    """

    confirmed_at: datetime | None = None  # when an image was last confirmed; None: never
    failing_since: datetime | None = None  # the first attempt that failed after that
    fruitless_runs: int = 0  # that tried since, and confirmed nothing
    why: str = ""  # what the last of them said

    def failing_seconds(self, now: datetime) -> float:
        """How long attempts have failed without one that confirmed; 0 if they do not."""
        if self.failing_since is None:
            return 0.0
        return max(0.0, (now - self.failing_since).total_seconds())

    def is_stuck(self, now: datetime, seconds: float) -> bool:
        """Whether whole runs have confirmed nothing for so long."""
        return self.fruitless_runs > 0 and self.failing_seconds(now) >= seconds


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What all runs together did; never less than before."""

    images: int = 0  # confirmed
    bytes: int = 0  # of the confirmed images
    wire_bytes: int = 0  # all that left, failed attempts and headers too
    set_aside: int = 0
    deferred: int = 0
    seconds: float = 0.0  # of runs that ended
    skipped: int = 0  # runs that found another one at work
    failures: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)


def note(db: sqlite.Connection, before: Run | None, after: Run) -> None:
    """A run is saved, ``before`` being what was saved of it last."""
    for name in _NUMBERS:
        add(db, name, "", getattr(after, name) - (getattr(before, name) if before else 0))
    for kind, failures in after.failures.items():
        add(db, "failures", kind, failures - (before.failures.get(kind, 0) if before else 0))
    if after.ended_at is not None and (before is None or before.ended_at is None):
        add(db, "outcome", after.outcome, 1)
        seconds = max(0.0, (after.ended_at - after.started_at).total_seconds())
        add(db, "microseconds", "", int(seconds * 1_000_000))


def skipped(db: sqlite.Connection) -> None:
    """A run found another one at work."""
    add(db, _SKIPPED, "", 1)


def add(db: sqlite.Connection, what: str, label: str, amount: int) -> None:
    """Add what a run did to the totals. Inside a transaction."""
    if amount:
        db.execute(
            "INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT (what, label) "
            "DO UPDATE SET amount = amount + ?3",
            (what, label, amount),
        )


def read(db: sqlite.Connection) -> RunTotals:
    """The totals of all runs."""
    rows: list[tuple[str, str, int]] = db.execute(
        "SELECT what, label, amount FROM tally"
    ).fetchall()

    def labelled(wanted: str) -> Iterator[tuple[str, int]]:
        return ((label, amount) for what, label, amount in rows if what == wanted)

    plain = {what: amount for what, label, amount in rows if not label}
    return RunTotals(
        **{name: plain.get(name, 0) for name in _NUMBERS},
        seconds=plain.get("microseconds", 0) / 1_000_000,
        skipped=plain.get(_SKIPPED, 0),
        failures=dict(labelled("failures")),
        outcomes=dict(labelled("outcome")),
    )
