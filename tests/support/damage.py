"""Databases damaged as the WAL reset bug damages them: pages of a commit that never arrived.

A page is put back as it was before a commit, of the table or of an index, so that the two no longer
agree. Every page by itself is sound.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from headgate.spool import sqlite

PAGE = 4096


def lose(path: Path, commits: Callable[[], None], *trees: str) -> None:
    """Run ``commits``, and take back what they changed on the leaves of these tables and indexes.

    Nothing may have the file open, before and after.
    """
    before = path.read_bytes()
    commits()
    assert not path.with_name(f"{path.name}-wal").exists(), "somebody has it open"
    data = bytearray(path.read_bytes())
    with closing(sqlite.raw(path, read_only=True)) as db:
        query = "SELECT name, pageno FROM dbstat WHERE pagetype = 'leaf'"
        leaves = db.execute(query).fetchall()
    changed = 0
    for name, number in leaves:
        place = slice((number - 1) * PAGE, number * PAGE)
        if name in trees and place.stop <= len(before) and data[place] != before[place]:
            data[place] = before[place]
            changed += 1
    assert changed == len(trees)
    path.write_bytes(data)
