"""The audit log: which person changed what, when and from where; in ``state/site.sqlite3``.

Lines are only added. SQLite itself refuses to change one, and the only ones that go are older than
``auth.keep_audit``. Commits are FULL; ``Site.together`` makes a change and its line one commit.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

TERMINAL = "terminal"
"""The address of who types a command on this machine."""
DETAIL_MAX = 500
WORD_MAX = 200

TABLES = """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        address TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_time ON audit (at);
    CREATE INDEX audit_by_person ON audit (who, number);
    CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
        BEGIN SELECT raise(ABORT, 'the audit log is never changed'); END;
    """


class Action(StrEnum):
    """What a person did. The value is what the log keeps and shows."""

    RETRY = "image.retry"
    DISCARD = "image.discard"
    SAFE_OFF = "safe-off"
    SAFE_ON = "safe-on"
    PURGE = "purge"
    REUPLOAD = "reupload"
    HOLD = "hold"
    RELEASE = "release"
    PAUSE = "uploads.pause"
    RESUME = "uploads.resume"
    LIMIT = "uploads.limit"
    LIMIT_END = "uploads.limit-end"
    SILENCE = "alert.silence"
    SILENCE_END = "alert.silence-end"
    DEVICE_ADD = "device.add"
    DEVICE_ROTATE = "device.rotate"
    DEVICE_REVOKE = "device.revoke"
    DEVICE_IMPORT = "device.import"
    DEVICE_LABEL = "device.label"
    DEVICE_GAPS = "device.gaps"
    DEVICE_RENAME = "device.rename"
    DEVICE_REMOVE = "device.remove"
    USER_ADD = "user.add"
    USER_REMOVE = "user.remove"
    USER_ROLE = "user.role"
    USER_PASSWORD = "user.password"
    TOKEN_ADD = "token.add"
    TOKEN_REMOVE = "token.remove"
    LOG_IN = "user.log-in"
    LOG_OUT = "user.log-out"
    SPOOL_ADOPT = "spool.adopt"
    SPOOL_REPAIR = "spool.repair"
    CRON_INSTALL = "cron.install"
    CRON_REMOVE = "cron.remove"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person, and where the request came from: an IP address, or TERMINAL."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log. ``action`` is a text, because a newer Headgate may have written
    one that this version does not know."""

    number: int
    at: datetime
    who: str
    action: str
    subject: str  # an image, a device, an alert, a user; empty where there is but one
    detail: str
    address: str


class Audit:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def record(
        self, by: Actor, action: Action, at: datetime, subject: str = "", detail: str = ""
    ) -> None:
        """Add a line to the log. What is longer than a line may be is cut."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT INTO audit (at, who, action, subject, detail, address) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    stamp(at),
                    by.name[:WORD_MAX],
                    action,
                    subject[:WORD_MAX],
                    detail[:DETAIL_MAX],
                    by.address[:WORD_MAX],
                ),
            )

    def entries(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        who: str = "",
        limit: int = 100,
        cursor: int | None = None,
    ) -> list[Entry]:
        """Lines of the log, the newest first. ``until`` itself is left out; ``cursor`` is the
        number of the last line of the page before."""
        wanted = {
            "at >= ?": since and stamp(since),
            "at < ?": until and stamp(until),
            "who = ?": who or None,
            "number < ?": cursor,
        }
        with self._lock:
            rows = sqlite.newest_first(
                self._db,
                "SELECT number, at, who, action, subject, detail, address FROM audit",
                wanted,
                limit,
            )
        return [Entry(number, instant(at), *rest) for number, at, *rest in rows]

    def drop_before(self, now: datetime, keep: timedelta) -> int:
        """Drop lines that are older than they are kept; how many went."""
        before = (stamp(now - keep),)
        with self._lock:
            if not self._db.execute("SELECT 1 FROM audit WHERE at < ? LIMIT 1", before).fetchone():
                return 0
            with sqlite.transaction(self._db) as db:
                db.execute("DELETE FROM audit WHERE at < ?", before)
                return sqlite.changes(db)
