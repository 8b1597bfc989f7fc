"""What all runs together did: counters that outlive the runs they were counted from.

Kept in ``site.sqlite3`` and written in the transaction that saves a run, as what is new since the
run was last saved; so a killed run counts with what it last said, and none counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator

from headgate.monitor.snapshot import Run, RunTotals
from headgate.spool import sqlite

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
    """Inside a transaction."""
    if amount:
        db.execute(
            "INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT (what, label) "
            "DO UPDATE SET amount = amount + ?3",
            (what, label, amount),
        )


def read(db: sqlite.Connection) -> RunTotals:
    """All of it."""
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
