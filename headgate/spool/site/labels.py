"""What people call a device, and with which others they see it. It is in no path and no key."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from headgate.spool import sqlite

TABLES = """
    CREATE TABLE labels (
        device TEXT PRIMARY KEY,
        label TEXT NOT NULL,
        device_group TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """


@dataclass(frozen=True, slots=True)
class Label:
    """Empty where a person gave none."""

    label: str = ""
    group: str = ""


class Labels:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def all(self) -> Mapping[str, Label]:
        """The labels by device; only of devices that have one."""
        with self._lock:
            rows = self._db.execute("SELECT device, label, device_group FROM labels").fetchall()
        return {device: Label(label, group) for device, label, group in rows}

    def of(self, device: str) -> Label:
        """Empty for a device that has none."""
        with self._lock:
            row = self._db.execute(
                "SELECT label, device_group FROM labels WHERE device = ?", (device,)
            ).fetchone()
        return Label() if row is None else Label(*row)

    def put(self, device: str, label: Label) -> None:
        """An empty one is forgotten."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute("DELETE FROM labels WHERE device = ?", (device,))
            if label != Label():
                db.execute(
                    "INSERT INTO labels (device, label, device_group) VALUES (?, ?, ?)",
                    (device, label.label, label.group),
                )
