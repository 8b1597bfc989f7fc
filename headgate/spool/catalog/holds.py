"""Keeps what a person holds out of every pick.

A trigger moves each row that comes to wait, or to wait for its next attempt, to the state of held
images, if its image or its device is held. So no way in, back or out of a failed attempt can forget
to ask.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from headgate.spool import sqlite

HELD = 4
"""The state of the catalog's rows. It takes part in no index of what may go."""

TABLES = f"""
    CREATE TABLE holds (
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO totals (state) VALUES ({HELD});
    CREATE INDEX images_held ON images (device, arrival) WHERE state = {HELD};
    CREATE TRIGGER images_held_when_moved AFTER UPDATE OF state ON images
    WHEN new.state IN (0, 2) AND EXISTS (
        SELECT 1 FROM holds
        WHERE kind = 'image' AND subject = new.id OR kind = 'device' AND subject = new.device
    ) BEGIN
        UPDATE images SET state = {HELD} WHERE arrival = new.arrival;
    END;
    CREATE TRIGGER images_held_when_added AFTER INSERT ON images
    WHEN new.state IN (0, 2) AND EXISTS (
        SELECT 1 FROM holds
        WHERE kind = 'image' AND subject = new.id OR kind = 'device' AND subject = new.device
    ) BEGIN
        UPDATE images SET state = {HELD} WHERE arrival = new.arrival;
    END;
    """

_PAGE = 10_000
"""Rows in one transaction: an upload waits for it."""
_COLUMN = {"image": "id", "device": "device"}

Subjects = Collection[tuple[str, str]]
"""A kind and a name each."""


class Holds:
    """Belongs to ``Catalog``, whose connections it shares."""

    def __init__(self, on: sqlite.Pair) -> None:
        self._on = on

    def agree(self, held: Subjects, now: datetime) -> None:
        """Hold these and nothing else; what is released returns to its place in the order."""
        with self._on.read:
            known = set(self._on.reader.execute("SELECT kind, subject FROM holds").fetchall())
        for subject in sorted(set(held) - known):
            self._hold(subject)
        for subject in sorted(known - set(held)):
            self._release(subject, now)

    def _hold(self, subject: tuple[str, str]) -> None:
        where = f"{_COLUMN[subject[0]]} = ? AND state IN (0, 2)"
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute("INSERT OR IGNORE INTO holds (kind, subject) VALUES (?, ?)", subject)
        self._move(where, subject[1], f"state = {HELD}")

    def _release(self, subject: tuple[str, str], now: datetime) -> None:
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute("DELETE FROM holds WHERE kind = ? AND subject = ?", subject)
        waits = f"iif(refusals > 0 OR next_attempt_at > {int(now.timestamp())}, 2, 0)"
        self._move(f"{_COLUMN[subject[0]]} = ? AND state = {HELD}", subject[1], f"state = {waits}")

    def _move(self, where: str, name: str, change: str) -> None:
        """Page by page, by arrival: one that is held otherwise as well goes back at once."""
        last = 0
        while True:
            with self._on.write, sqlite.transaction(self._on.writer) as db:
                rows = db.execute(
                    f"SELECT arrival FROM images WHERE {where} AND arrival > ? "
                    f"ORDER BY arrival LIMIT {_PAGE}",
                    (name, last),
                ).fetchall()
                if not rows:
                    return
                db.execute(
                    f"UPDATE images SET {change} WHERE {where} AND arrival > ? AND arrival <= ?",
                    (name, last, rows[-1][0]),
                )
                last = rows[-1][0]
