"""What a person corrects of a device's statistics: gaps that are accepted, another name, an end.

Like the statistics themselves, corrections count from the time when the catalog was made.
"""

from __future__ import annotations

from headgate.spool import sqlite

TABLES = """
    CREATE TABLE accepted (
        device TEXT NOT NULL,
        low INTEGER NOT NULL,
        high INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX accepted_by_device ON accepted (device, low);
    """
"""Numbers that never came, and that are no gap any more."""
_OF_A_DEVICE = ("arrivals", "sequences", "unusable", "accepted", "devices")


def is_accepted(db: sqlite.Connection, device: str, number: int) -> bool:
    """Whether a number counts as come without an image: one that comes late begins no series."""
    query = "SELECT 1 FROM accepted WHERE device = ? AND low <= ? AND high >= ? LIMIT 1"
    return db.execute(query, (device, number, number)).fetchone() is not None


class Corrections:
    """Belongs to ``Catalog``, whose connections it shares."""

    def __init__(self, on: sqlite.Pair) -> None:
        self._on = on

    def accept_gaps(self, device: str, first: int, last: int) -> int:
        """Missing numbers from ``first`` to ``last`` are no gaps any more; how many were."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            ranges = db.execute(
                "SELECT low, high FROM sequences WHERE device = ? ORDER BY low", (device,)
            ).fetchall()
            filled: list[tuple[int, int]] = []
            accepted: list[tuple[int, int]] = []
            for low, high in ranges:
                if filled:
                    start, end = max(first, filled[-1][1] + 1), min(last, low - 1)
                    if start <= end:
                        accepted.append((start, end))
                        filled.append((start, end))
                filled.append((low, high))
            merged: list[tuple[int, int]] = []
            for low, high in filled:
                if merged and merged[-1][1] + 1 == low:
                    merged[-1] = (merged[-1][0], high)
                else:
                    merged.append((low, high))
            db.execute("DELETE FROM sequences WHERE device = ?", (device,))
            db.executemany(
                "INSERT INTO sequences (device, low, high) VALUES (?, ?, ?)",
                [(device, *one) for one in merged],
            )
            db.executemany(
                "INSERT INTO accepted (device, low, high) VALUES (?, ?, ?)",
                [(device, *one) for one in accepted],
            )
        return sum(end - start + 1 for start, end in accepted)

    def rename_device(self, device: str, name: str) -> None:
        """Continue a device's statistics under another name, of which there are none yet."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            for table in _OF_A_DEVICE:
                db.execute(
                    f"UPDATE OR REPLACE {table} SET device = ? WHERE device = ?", (name, device)
                )

    def forget_device(self, device: str) -> None:
        """Forget a device's statistics; they begin again if it sends again. Its images stay."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            for table in _OF_A_DEVICE:
                db.execute(f"DELETE FROM {table} WHERE device = ?", (device,))
