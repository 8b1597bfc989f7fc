"""The minute folders that the catalog names: those that an unclean stop may have left ahead of it.

A folder is named in a FULL commit before the first file is linked there, and stays named while it
or the one after it is the newest, or an accept in it is under way. A program that starts scans the
named folders (``headgate.spool.recovery``), so no file is missed whose row was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headgate.spool import sqlite
from headgate.spool.catalog.schema import count_received
from headgate.spool.image.image import Count

NAMED_BEFORE = 1
"""Minute folders that stay named after the next one was entered."""


class Minutes:
    """Belongs to ``Catalog``, whose connections it shares."""

    def __init__(self, on: sqlite.Pair) -> None:
        self._on = on
        self._under_way: dict[str, int] = {}
        self._entered: set[str] = set()

    def enter(self, folder: str, finished: Callable[[], Mapping[str, int]] = dict) -> None:
        """Name the folder in a FULL commit, unless it is named; before linking a file into it.

        Every ``enter`` is followed by a ``leave``, after the image's row or its failure.
        ``finished`` gives the ids and sizes of the folder's images that have a receipt: where the
        clock was set back, images arrived there before, and were counted.
        """
        with self._on.write:
            self._under_way[folder] = self._under_way.get(folder, 0) + 1
            if folder in self._entered:
                return
            try:
                self._name(folder, finished)
            except BaseException:
                self._leave(folder)
                raise
            self._entered.add(folder)

    def _name(self, folder: str, finished: Callable[[], Mapping[str, int]]) -> None:
        self._on.writer.execute("PRAGMA synchronous = FULL")
        try:
            with sqlite.transaction(self._on.writer) as db:
                last = int(db.execute("SELECT ifnull(max(position), 0) FROM minutes").fetchone()[0])
                db.execute("UPDATE minutes SET position = ? WHERE folder = ?", (last + 1, folder))
                if not sqlite.changes(db):
                    sizes = {**finished(), **_rows(db, folder)}
                    db.execute(
                        "INSERT INTO minutes (folder, position, images, bytes) VALUES (?, ?, ?, ?)",
                        (folder, last + 1, len(sizes), sum(sizes.values())),
                    )
                rows = db.execute("SELECT folder FROM minutes ORDER BY position DESC").fetchall()
                old = [
                    name for (name,) in rows[1 + NAMED_BEFORE :] if not self._under_way.get(name)
                ]
                db.executemany("DELETE FROM minutes WHERE folder = ?", [(name,) for name in old])
                self._entered.difference_update(old)
        finally:
            self._on.writer.execute("PRAGMA synchronous = NORMAL")

    def leave(self, folder: str) -> None:
        with self._on.write:
            self._leave(folder)

    def _leave(self, folder: str) -> None:
        left = self._under_way[folder] - 1
        if left:
            self._under_way[folder] = left
        else:
            del self._under_way[folder]

    def named(self) -> dict[str, Count]:
        """The folders that an unclean stop may have left ahead of the catalog, and their counts."""
        with self._on.read:
            rows = self._on.reader.execute("SELECT folder, images, bytes FROM minutes").fetchall()
        return {folder: Count(images, size) for folder, images, size in rows}

    def rows(self, folder: str) -> dict[str, int]:
        """Ids and sizes of the images alive that arrived in a minute folder."""
        with self._on.read:
            return _rows(self._on.reader, folder)

    def settle(self, db: sqlite.Connection, gone_from: Callable[[str], Mapping[str, int]]) -> None:
        """Count each named folder again, in a transaction that recounts ``received``."""
        for (folder,) in db.execute("SELECT folder FROM minutes").fetchall():
            sizes = {**gone_from(folder), **_rows(db, folder)}
            db.execute(
                "UPDATE minutes SET images = ?, bytes = ? WHERE folder = ?",
                (len(sizes), sum(sizes.values()), folder),
            )

    def recount(self, folder: str, found: Count) -> None:
        """Correct ``received`` by what the scan found to have arrived in a named folder."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            row = db.execute(
                "SELECT images, bytes FROM minutes WHERE folder = ?", (folder,)
            ).fetchone()
            if row is None:
                return
            missing = found - Count(*row)
            db.execute(
                "UPDATE minutes SET images = ?, bytes = ? WHERE folder = ?",
                (found.images, found.bytes, folder),
            )
            count_received(db, missing)


def _rows(db: sqlite.Connection, folder: str) -> dict[str, int]:
    low = folder.replace("-", "").replace("/", "T")
    found = db.execute("SELECT id, size FROM images WHERE id >= ? AND id < ?", (low, low + "~"))
    return dict(found.fetchall())
