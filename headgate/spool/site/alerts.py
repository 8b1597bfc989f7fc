"""Alerts remembered, and the outbox of messages on their way; in ``state/site.sqlite3``.

What an alert has told and the messages that tell it are one FULL commit: a kill between the two
loses no message and says none twice. A message leaves the outbox once its channel has taken it; a
kill between those two says it once more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.site.alert_history import AlertEvent, AlertHistory, EventKind
from headgate.spool.sqlite import instant, stamp

KEEP_LETTERS = timedelta(days=7)
"""What could not be said for so long is dropped: it is no news any more."""
MOST_LETTERS = 500
"""Of one channel; beyond them the oldest is dropped."""

EVERYTHING = "all"
"""What a silence names that silences every alert."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is, or lately was, wrong. ``told``: a message said so, and none since has
    taken it back."""

    code: str
    subject: str  # a device, a channel; empty where there is but one
    sentence: str
    began_at: datetime
    good_since: datetime | None = None  # None: the last look found it
    told: bool = False
    told_at: tuple[datetime, ...] = ()  # messages of the last hour, and the last one
    reminders: int = 0
    thread: str = ""  # what its messages have in common
    received: int = 0  # images, when it began: for what happened meanwhile
    set_aside: int = 0
    fix: str = ""  # what to type

    @property
    def bad(self) -> bool:
        """Whether the last look found it."""
        return self.good_since is None

    def fields(self) -> dict[str, object]:
        """The alert for programs, as ``headgate status``, the page and ``headgate alert list``
        give it."""
        return {
            "code": self.code,
            "subject": self.subject,
            "sentence": self.sentence,
            "since": self.began_at,
            "bad": self.bad,
            "told": self.told,
            "mend": self.fix,
        }


@dataclass(frozen=True, slots=True)
class Silence:
    """No messages about ``what`` until an instant: a code, ``code:subject``, or everything."""

    what: str
    until: datetime
    reason: str = ""

    def covers(self, code: str, subject: str, now: datetime) -> bool:
        """Whether it holds for this alert now."""
        return now < self.until and self.what in (EVERYTHING, code, f"{code}:{subject}")


@dataclass(frozen=True, slots=True)
class Message:
    """A message, independent of its channel. ``kind``: alert, reminder, recovery, test."""

    kind: str
    thread: str
    title: str
    text: str
    made_at: datetime
    about: str = ""  # the alert's code


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message on its way through one channel."""

    number: int
    channel: str
    message: Message


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How well one channel works. ``dead``: its server said that trying again is no use."""

    name: str
    failing_since: datetime | None = None
    why: str = ""
    dead: bool = False
    attempts: int = 0  # that failed, in a row
    next_at: datetime | None = None  # not before then
    last_at: datetime | None = None  # when something was last sent


Step = Callable[[tuple[Alert, ...], tuple[Silence, ...]], tuple[Sequence[Alert], Sequence[Message]]]
"""From what is remembered to what is from now on, and what to say of it."""

TABLES = """
    CREATE TABLE alerts (
        code TEXT NOT NULL,
        subject TEXT NOT NULL,
        sentence TEXT NOT NULL,
        began_at INTEGER NOT NULL,
        good_since INTEGER,
        told INTEGER NOT NULL,
        told_at TEXT NOT NULL,
        reminders INTEGER NOT NULL,
        thread TEXT NOT NULL,
        received INTEGER NOT NULL,
        set_aside INTEGER NOT NULL,
        PRIMARY KEY (code, subject)
    ) STRICT;
    CREATE TABLE silences (
        what TEXT PRIMARY KEY,
        until INTEGER NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        channel TEXT NOT NULL,
        thread TEXT NOT NULL,
        kind TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        message TEXT NOT NULL
    ) STRICT;
    CREATE TABLE channels (
        name TEXT PRIMARY KEY,
        failing_since INTEGER,
        why TEXT NOT NULL,
        dead INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_at INTEGER,
        last_at INTEGER
    ) STRICT;
    """

MEND = "ALTER TABLE alerts ADD COLUMN mend TEXT NOT NULL DEFAULT '';"


class Alerts:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock
        self.history = AlertHistory(db, lock)

    # -- alerts and silences

    def all(self) -> tuple[Alert, ...]:
        """Every alert that is remembered, the oldest first; ``told`` are those people know of."""
        with self._lock:
            return self._alerts()

    def change(self, step: Step, channels: Sequence[str]) -> tuple[Message, ...]:
        """Take one step, and put what it says into the outbox of each channel: all or nothing.

        Two programs at once take their steps one after the other.
        """
        with self._lock, sqlite.transaction(self._db) as db:
            before = self._alerts()
            alerts, messages = step(before, self._silences())
            self.history.record(_happened(before, alerts))
            db.execute("DELETE FROM alerts")
            db.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(alert) for alert in alerts],
            )
            self._put(messages, channels)
        with self._lock:
            sqlite.checkpoint(self._db)  # no one else may, where no run starts any more
        return tuple(messages)

    def silence(self, silence: Silence) -> None:
        """Add a silence, in place of one for the same alerts."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO silences VALUES (?, ?, ?)",
                (silence.what, stamp(silence.until), silence.reason),
            )

    def end_silence(self, what: str) -> bool:
        """End a silence; whether there was one."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM silences WHERE what = ?", (what,))
            return bool(sqlite.changes(db))

    def silences(self, now: datetime) -> tuple[Silence, ...]:
        """The silences in force."""
        with self._lock:
            return tuple(found for found in self._silences() if now < found.until)

    # -- the outbox

    def post(self, messages: Sequence[Message], channels: Sequence[str]) -> None:
        """Put messages into the outbox of each channel."""
        with self._lock, sqlite.transaction(self._db):
            self._put(messages, channels)

    def letters(self, channel: str | None = None, limit: int = MOST_LETTERS) -> list[QueuedMessage]:
        """What waits, of one channel or of all, in the order in which it was said."""
        with self._lock:
            rows = self._db.execute(
                "SELECT number, channel, message FROM outbox WHERE ?1 IS NULL OR channel = ?1 "
                "ORDER BY number LIMIT ?2",
                (channel, limit),
            ).fetchall()
        return [QueuedMessage(number, name, _message(text)) for number, name, text in rows]

    def drop(self, letter: QueuedMessage) -> None:
        """Remove a message that was delivered, or never will be."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM outbox WHERE number = ?", (letter.number,))

    def forget(self, channels: Sequence[str], now: datetime) -> int:
        """Drop letters of channels that are not set any more, and those that are no news any
        more; how many."""
        kept = ",".join("?" * len(channels))
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM silences WHERE until <= ?", (stamp(now),))
            db.execute(f"DELETE FROM channels WHERE name NOT IN ({kept})", tuple(channels))
            db.execute(
                f"DELETE FROM outbox WHERE channel NOT IN ({kept}) OR made_at < ?",
                (*channels, stamp(now - KEEP_LETTERS)),
            )
            return sqlite.changes(db)

    def channel(self, name: str) -> ChannelState:
        """How well a channel works; one that was never used counts as working."""
        with self._lock:
            row = self._db.execute(
                "SELECT failing_since, why, dead, attempts, next_at, last_at FROM channels "
                "WHERE name = ?",
                (name,),
            ).fetchone()
        if row is None:
            return ChannelState(name)
        since, why, dead, attempts, next_at, last_at = row
        return ChannelState(
            name, _instant(since), why, bool(dead), attempts, _instant(next_at), _instant(last_at)
        )

    def save_channel(self, channel: ChannelState) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    channel.name,
                    _stamp(channel.failing_since),
                    channel.why,
                    int(channel.dead),
                    channel.attempts,
                    _stamp(channel.next_at),
                    _stamp(channel.last_at),
                ),
            )

    # -- inside

    def _alerts(self) -> tuple[Alert, ...]:
        rows = self._db.execute("SELECT * FROM alerts ORDER BY began_at, code, subject").fetchall()
        return tuple(
            Alert(
                code=code,
                subject=subject,
                sentence=sentence,
                began_at=instant(began),
                good_since=_instant(good),
                told=bool(told),
                told_at=tuple(instant(at) for at in json.loads(told_at)),
                reminders=reminders,
                thread=thread,
                received=received,
                set_aside=aside,
                fix=mend,
            )
            for (
                code, subject, sentence, began, good, told, told_at, reminders, thread, received,
                aside, mend,
            ) in rows
        )  # fmt: skip

    def _silences(self) -> tuple[Silence, ...]:
        rows = self._db.execute("SELECT what, until, reason FROM silences ORDER BY what")
        return tuple(Silence(what, instant(until), why) for what, until, why in rows.fetchall())

    def _put(self, messages: Sequence[Message], channels: Sequence[str]) -> None:
        for name in channels:
            for said in messages:
                if said.kind == "reminder":  # instead of one that never got out
                    self._db.execute(
                        "DELETE FROM outbox WHERE channel = ? AND thread = ? AND kind = ?",
                        (name, said.thread, said.kind),
                    )
                text = json.dumps({**asdict(said), "made_at": stamp(said.made_at)})
                self._db.execute(
                    "INSERT INTO outbox (channel, thread, kind, made_at, message) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (name, said.thread, said.kind, stamp(said.made_at), text),
                )
            self._db.execute(
                "DELETE FROM outbox WHERE channel = ?1 AND number NOT IN (SELECT number FROM "
                "outbox WHERE channel = ?1 ORDER BY number DESC LIMIT ?2)",
                (name, MOST_LETTERS),
            )


def _happened(before: Sequence[Alert], after: Sequence[Alert]) -> list[AlertEvent]:
    """What one step says of alerts, for the history."""
    known = {(alert.code, alert.subject): alert for alert in before}
    found = []
    for alert in after:
        old = known.get((alert.code, alert.subject))
        was_told = old is not None and old.told
        if alert.told and not was_told:
            kind = EventKind.RAISED
        elif was_told and not alert.told:
            kind = EventKind.CLEARED
        elif old is not None and alert.told and alert.reminders > old.reminders:
            kind = EventKind.REMINDED
        else:
            continue
        at = alert.told_at[-1]
        found.append(
            AlertEvent(at, kind, alert.code, alert.subject, alert.sentence, alert.began_at)
        )
    return found


def _row(alert: Alert) -> tuple[object, ...]:
    return (
        alert.code,
        alert.subject,
        alert.sentence,
        stamp(alert.began_at),
        _stamp(alert.good_since),
        int(alert.told),
        json.dumps([stamp(at) for at in alert.told_at]),
        alert.reminders,
        alert.thread,
        alert.received,
        alert.set_aside,
        alert.fix,
    )


def _message(text: str) -> Message:
    held = json.loads(text)
    return Message(**{**held, "made_at": instant(held["made_at"])})


def _stamp(at: datetime | None) -> int | None:
    return None if at is None else stamp(at)


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at)
