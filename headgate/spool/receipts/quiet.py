"""Reading the file of a day that no program writes, without locks and without its log.

Opening a file in WAL mode takes locks, and makes a log and an index of it, which closing deletes
again: ten times what most questions cost, and a search may ask the days of years. A file whose time
stamps say that it was written neither lately nor meanwhile is read as it is instead (SQLite's
``immutable=1``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from headgate.spool import sqlite
from headgate.spool.receipts.schema import MIGRATIONS

_T = TypeVar("_T")
_QUIET_NS = 2_000_000_000
_NO_FILE = (0, 0, 0)


class NotQuiet(Exception):
    """The file has to be opened as usual: it may be written, is of an older version, or the usual
    way knows better what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A day's file and its log as they stood: inode, size, and time of the last change. An empty
    log says nothing."""

    file: tuple[int, int, int]
    log: tuple[int, int, int]

    @classmethod
    def of(cls, path: str) -> Mark:
        """Changes whenever the day's file is written."""
        return cls(_stood(path), _stood(f"{path}-wal"))

    def is_quiet(self) -> bool:
        """Whether a change after this would show: a file that was written within the last moments
        may be written again in the same tick of its time stamp."""
        return time.time_ns() - max(self.file[2], self.log[2]) > _QUIET_NS


def _stood(path: str) -> tuple[int, int, int]:
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return _NO_FILE
    return (seen.st_ino, seen.st_size, seen.st_mtime_ns) if seen.st_size else _NO_FILE


def read_quiet(path: str, read: Callable[[sqlite.Connection], _T]) -> _T:
    """What a day's file says; NotQuiet unless no program wrote it while it was read."""
    before = Mark.of(path)
    if before.file == _NO_FILE or before.log != _NO_FILE or not before.is_quiet():
        raise NotQuiet
    try:
        with closing(sqlite.unlocked(path)) as db:
            if sqlite.schema_of(db) != len(MIGRATIONS):
                raise NotQuiet
            found = read(db)
    except Exception as error:  # of a file that changed under it anything may be read
        raise NotQuiet from error
    if Mark.of(path) != before:
        raise NotQuiet
    return found
