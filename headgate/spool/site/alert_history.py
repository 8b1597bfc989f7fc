"""What became of each alert: raised, reminded of, cleared, silenced and by whom; in
``state/site.sqlite3``.

Kept for a year, and no more than the newest 100,000 events.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

KEEP = timedelta(days=365)
MOST_EVENTS = 100_000

TABLES = """
    CREATE TABLE alert_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        code TEXT NOT NULL,
        subject TEXT NOT NULL,
        sentence TEXT NOT NULL,
        since INTEGER,
        who TEXT NOT NULL
    ) STRICT;
    CREATE INDEX alert_events_by_time ON alert_events (at);
    CREATE INDEX alert_events_by_code ON alert_events (code, number);
    """


class EventKind(StrEnum):
    """What happened to an alert. The value is what the history keeps and shows."""

    RAISED = "raised"
    REMINDED = "reminded"
    CLEARED = "cleared"
    SILENCED = "silenced"
    SILENCE_ENDED = "silence-ended"


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One thing that happened. ``kind`` is a text, because a newer Headgate may have written one
    that this version does not know."""

    at: datetime
    kind: str
    code: str  # or "all", of a silence
    subject: str = ""  # a device, a channel; empty where there is but one
    sentence: str = ""  # what was wrong; of a silence until when, and why
    since: datetime | None = None  # when the condition began
    who: str = ""  # who silenced it
    number: int = 0  # in the history, the higher the later; 0: not recorded yet

    def fields(self) -> dict[str, object]:
        """For programs."""
        return {
            "number": self.number,
            "at": self.at,
            "kind": self.kind,
            "code": self.code,
            "subject": self.subject,
            "sentence": self.sentence,
            "since": self.since,
            "who": self.who,
        }


class AlertHistory:
    """Belongs to ``Alerts``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def record(self, events: Sequence[AlertEvent]) -> None:
        """Add these, and drop what is too old or too much."""
        rows = [
            (
                stamp(one.at),
                one.kind,
                one.code,
                one.subject,
                one.sentence,
                None if one.since is None else stamp(one.since),
                one.who,
            )
            for one in events
        ]
        if not rows:
            return
        newest = max(one.at for one in events)
        with self._lock, sqlite.transaction(self._db) as db:
            db.executemany(
                "INSERT INTO alert_events (at, kind, code, subject, sentence, since, who) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            db.execute("DELETE FROM alert_events WHERE at < ?", (stamp(newest - KEEP),))
            db.execute(
                "DELETE FROM alert_events WHERE number <= "
                "(SELECT max(number) FROM alert_events) - ?",
                (MOST_EVENTS,),
            )

    def entries(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        code: str = "",
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[AlertEvent]:
        """Events, the newest first. ``until`` itself is left out; ``cursor`` is the number of the
        last one of the page before."""
        wanted = {
            "at >= ?": since and stamp(since),
            "at < ?": until and stamp(until),
            "code = ?": code or None,
            "number < ?": cursor,
        }
        with self._lock:
            rows = sqlite.newest_first(
                self._db,
                "SELECT number, at, kind, code, subject, sentence, since, who FROM alert_events",
                wanted,
                limit,
            )
        return [
            AlertEvent(
                at=instant(at),
                kind=kind,
                code=of,
                subject=subject,
                sentence=sentence,
                since=None if began is None else instant(began),
                who=who,
                number=number,
            )
            for number, at, kind, of, subject, sentence, began, who in rows
        ]
