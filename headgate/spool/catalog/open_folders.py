"""The minute folders that the catalog names: those that an unclean stop may have left ahead of it.

A folder is named in a FULL commit before the first file is linked there, and stays named while it
or the one after it is the newest, or an accept in it is under way. A program that starts scans the
named folders (``headgate.spool.recovery``), so no file is missed whose row was lost.

Each process of the receiver marks on the board which folders it links into, before the commit that
names them, and reads everyone's marks inside the commit that forgets old ones. SQLite lets one of
these commits happen after the other: so either the mark is seen, or the folder is named again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from headgate.host.board import FOLDERS, Board
from headgate.spool import sqlite
from headgate.spool.catalog.schema import count_received
from headgate.spool.image.image import Count

NAMED_BEFORE = 1
"""Minute folders that stay named after the next one was entered."""

_ALL = -1
"""The mark of a process that links into more folders than it has cells for: none is forgotten."""


class Minutes:
    """Belongs to ``Catalog``, whose connections it shares."""

    def __init__(self, on: sqlite.Pair, board: Board) -> None:
        self._on = on
        self._board = board
        self._lock = threading.Lock()  # of this process's own books, below; never held for long
        self._under_way: dict[str, int] = {}
        self._entered: dict[str, None] = {}  # marked and named since, the latest at the end

    def enter(self, folder: str, finished: Callable[[], Mapping[str, int]] = dict) -> None:
        """Name the folder in a FULL commit, unless it is named; before linking a file into it.

        Every ``enter`` is followed by a ``leave``, after the image's row or its failure.
        ``finished`` gives the ids and sizes of the folder's images that have a receipt: where the
        clock was set back, images arrived there before, and were counted.
        """
        with self._lock:
            self._under_way[folder] = self._under_way.get(folder, 0) + 1
            if folder in self._entered:
                return
        try:
            self._enter(folder, finished)
        except BaseException:
            self.leave(folder)
            raise

    def _enter(self, folder: str, finished: Callable[[], Mapping[str, int]]) -> None:
        with self._on.write:
            with self._lock:
                if folder in self._entered:  # by another thread, meanwhile
                    return
                latest = [*self._entered][-NAMED_BEFORE:]
                self._entered = {
                    one: None for one in self._entered if one in latest or self._under_way.get(one)
                }
                self._mark({*self._entered, *self._under_way})
            self._name(folder, finished)
            with self._lock:
                self._entered[folder] = None

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
                marked = set[int]().union(*self._board.all(FOLDERS))
                if _ALL not in marked:
                    old = [
                        name for (name,) in rows[1 + NAMED_BEFORE :] if _minute(name) not in marked
                    ]
                    forget = "DELETE FROM minutes WHERE folder = ?"
                    db.executemany(forget, [(name,) for name in old])
        finally:
            self._on.writer.execute("PRAGMA synchronous = NORMAL")

    def _mark(self, folders: set[str]) -> None:
        """Keep these named, and no others, for as far as this process is concerned. The last ones
        that were entered stay marked while nothing is linked."""
        cells = self._board.own(FOLDERS)
        wanted = [_minute(folder) for folder in folders]
        if len(wanted) > len(cells):
            wanted = [_ALL]
        # What is to be there is there before anything goes.
        kept = {at for at, minute in enumerate(cells) if minute and minute in wanted}
        free = [at for at in range(len(cells)) if at not in kept]
        for minute in {*wanted} - {cells[at] for at in kept}:
            cells[free.pop()] = minute
        for at in free:
            cells[at] = 0

    def leave(self, folder: str) -> None:
        with self._lock:
            left = self._under_way[folder] - 1
            if left:
                self._under_way[folder] = left
            else:
                del self._under_way[folder]

    def marked_by(self, process: int) -> list[str]:
        """The folders that a process may have linked into and left without a row: of one that died,
        until ``unmark``."""
        marks = set(self._board.all(FOLDERS)[process])
        return [one for one in self.named() if _ALL in marks or _minute(one) in marks]

    def unmark(self, process: int) -> None:
        """A process has died, and what it left in its folders has its rows."""
        cells = self._board.all(FOLDERS)[process]
        for at in range(len(cells)):
            cells[at] = 0

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


def _minute(folder: str) -> int:
    """A folder as a mark: ``2026-11-23/1604`` is 202611231604."""
    return int(folder.replace("-", "").replace("/", ""))
