"""Images and devices that a person holds: not sent, and their copies not pruned, until they are
released.

These rows decide; the catalog has a copy of them, so that a pick does not ask here, and a run
compares the two when it begins.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

TABLES = """
    CREATE TABLE holds (
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID;
    """


class Kind(StrEnum):
    """What a hold applies to."""

    IMAGE = "image"
    DEVICE = "device"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """One image by its id, or one device with all its images, those to come included."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Who holds it, since when and why."""

    subject: Subject
    at: datetime
    who: str
    reason: str

    @property
    def words(self) -> str:
        """The hold in words."""
        why = f": {self.reason}" if self.reason else ""
        which = "its device is held" if self.subject.kind is Kind.DEVICE else "it is held"
        return f"{which} by {self.who} since {self.at:%Y-%m-%d %H:%M} UTC{why}"


class Holds:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def add(self, hold: Hold) -> None:
        """Add a hold; durable when it returns. A newer hold of the same subject replaces the older
        one."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO holds (kind, subject, at, who, reason) "
                "VALUES (?, ?, ?, ?, ?)",
                (hold.subject.kind, hold.subject.name, stamp(hold.at), hold.who, hold.reason),
            )

    def remove(self, subject: Subject) -> bool:
        """Remove a hold; False if there was none."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "DELETE FROM holds WHERE kind = ? AND subject = ?", (subject.kind, subject.name)
            )
            return bool(sqlite.changes(db))

    def all(self) -> list[Hold]:
        """All holds, the newest first."""
        return self._where("1 ORDER BY at DESC", ())

    def of(self, image: str, device: str) -> Hold | None:
        """What holds this image: itself, or its device."""
        found = self._where(
            "(kind, subject) IN (VALUES (?, ?), (?, ?)) ORDER BY kind DESC",
            (Kind.IMAGE, image, Kind.DEVICE, device),
        )
        return found[0] if found else None

    def _where(self, condition: str, values: tuple[object, ...]) -> list[Hold]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT kind, subject, at, who, reason FROM holds WHERE {condition}", values
            ).fetchall()
        return [
            Hold(Subject(Kind(kind), name), instant(at), who, reason)
            for kind, name, at, who, reason in rows
        ]


def names(subjects: Iterable[Subject], kind: Kind) -> str:
    """The names of held subjects of one kind as a JSON list, for ``json_each``."""
    return json.dumps([subject.name for subject in subjects if subject.kind is kind])
