"""What starts runs: which ways are set up, and when each last fired; in ``state/site.sqlite3``.

A trigger has fired when somebody asked for a run, whatever came of it: a run that found another one
at work was asked for all the same. So a silent trigger is told from a run that could not work.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from headgate.settings.units import format_duration, human_duration
from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

if TYPE_CHECKING:
    from headgate.settings.settings import Settings
    from headgate.spool.spool import Spool

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

    def __init__(self, db: sqlite.Connection, lock: threading.Lock) -> None:
        self._db = db
        self._lock = lock

    def fired(self, kind: str, now: datetime, sender: str = "") -> None:
        """Somebody asked for a run; ``sender`` says who it was, where that is known."""
        assert kind in KINDS, kind
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT INTO triggers (kind, fired_at, sender) VALUES (?1, ?2, ?3) "
                "ON CONFLICT (kind) DO UPDATE SET fired_at = ?2, sender = ?3",
                (kind, stamp(now), sender),
            )

    def expect(self, kinds: Collection[str], now: datetime) -> None:
        """From now on these have to fire regularly, unless they had to already, and no others: one
        that was set up a minute ago is not silent yet."""
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
        """Those that ever fired, or are expected to."""
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


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """One way in which runs start, as it is set up and as it has been seen; one of ``KINDS``."""

    kind: str
    configured: bool  # by the settings as they are now
    every_seconds: int | None = None  # how often it is to fire; None: when somebody likes
    last_at: datetime | None = None  # when it last fired; None: never
    sender: str = ""  # who it was then: "beat", "scheduler", the name of a token
    expected_since: datetime | None = None  # it has been watched for silence since then

    def quiet_seconds(self, now: datetime) -> float | None:
        """Since it last fired, or since it is expected to; None if nobody expects it to."""
        known = [at for at in (self.last_at, self.expected_since) if at is not None]
        if self.every_seconds is None or not known:
            return None
        return (now - max(known)).total_seconds()


def triggers(spool: Spool, settings: Settings, now: datetime) -> tuple[TriggerFacts, ...]:
    """Every trigger that is set up or ever fired, in the order of ``KINDS``."""
    known = spool.site.triggers.all()
    queue = settings.uplink.trigger == "queue"
    interval = settings.uplink.interval
    every = {"cron": settings.queue.floor if queue else interval}
    if queue:
        every["queue"] = interval
    found = []
    for kind in KINDS:
        one = known.get(kind, Fired())
        if kind in every or one.at is not None:
            found.append(
                TriggerFacts(
                    kind=kind,
                    configured=kind in every or kind in ("http", "hand"),
                    every_seconds=every.get(kind),
                    last_at=one.at,
                    sender=one.sender,
                    expected_since=one.expected_since,
                )
            )
    return tuple(found)


def in_words(one: TriggerFacts, now: datetime) -> str:
    """Which it is, how often it is to ask for a run, and when it last did."""
    parts = [one.kind]
    if one.every_seconds is not None:
        parts.append(f"every {format_duration(one.every_seconds)}")
    if one.last_at is None:
        parts.append("has never fired")
    else:
        age = max(0.0, (now - one.last_at).total_seconds())
        by = f" ({one.sender})" if one.sender else ""
        parts.append(f"last fired {human_duration(age)} ago{by}")
    if not one.configured:
        parts.append("not set up now")
    return ", ".join(parts)
