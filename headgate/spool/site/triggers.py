"""What starts runs: which ways are set up, and when each last fired; in ``state/site.sqlite3``.

A trigger has fired when it requested a run, whatever came of it: a run that found another one
at work was asked for all the same. This distinguishes a silent trigger from a run that could not
work.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

KINDS = ("cron", "queue", "http", "schedule", "hand")
"""cron's line; a message of the job queue; POST /jobs/drain; ``make run``; a person."""

TABLES = """
    CREATE TABLE triggers (
        kind TEXT PRIMARY KEY,
        fired_at INTEGER,
        sender TEXT NOT NULL DEFAULT '',
        expected_since INTEGER
    ) STRICT;
    """


@dataclass(frozen=True, slots=True)
class Fired:
    """What is remembered of one: when it last fired, who it was, since when it is expected to."""

    at: datetime | None = None
    sender: str = ""
    expected_since: datetime | None = None


class Triggers:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def fired(self, kind: str, now: datetime, sender: str = "") -> None:
        """Record that a run was requested; ``sender`` says who it was, where that is known."""
        assert kind in KINDS, kind
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT INTO triggers (kind, fired_at, sender) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (kind) DO UPDATE SET fired_at = ?2, sender = ?3",
                (kind, stamp(now), sender),
            )

    def expect(self, kinds: Collection[str], now: datetime) -> None:
        """Say which triggers have to fire regularly from now on, and no others. Those that had to
        already keep their time: one that was set up a minute ago is not silent yet."""
        known = self.all()
        if {kind for kind, one in known.items() if one.expected_since} == set(kinds):
            return
        with self._lock, sqlite.transaction(self._db) as db:
            for kind in {*known, *kinds}:
                db.execute(
                    "INSERT INTO triggers (kind, expected_since) VALUES (?1, ?2) ON CONFLICT (kind)"
                    " DO UPDATE SET expected_since = iif(?2 IS NULL, NULL,"
                    " coalesce(expected_since, ?2))",
                    (kind, stamp(now) if kind in kinds else None),
                )

    def all(self) -> Mapping[str, Fired]:
        """All triggers that ever fired, or are expected to."""
        with self._lock:
            rows = self._db.execute(
                "SELECT kind, fired_at, sender, expected_since FROM triggers"
            ).fetchall()
        return {
            kind: Fired(
                None if at is None else instant(at),
                sender,
                None if since is None else instant(since),
            )
            for kind, at, sender, since in rows
        }
