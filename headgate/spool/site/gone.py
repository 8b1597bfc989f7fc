"""Images without a file and without proof: lost ones, and those that a person gave up.

Each has a line in ``state/site.sqlite3`` that stays, so that received = new + done + aside + pruned
+ lost + discarded. Commits are FULL: no file stands behind these lines.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.image.image import NONE, Count, Item, Receipt, State
from headgate.spool.image.names import MEDIA_TYPES
from headgate.spool.query import Query, where
from headgate.spool.sqlite import instant, stamp

TABLES = """
    CREATE TABLE gone (
        id TEXT PRIMARY KEY,
        ext TEXT NOT NULL,
        device TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        images INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        idem TEXT NOT NULL,
        sequence INTEGER,
        stage TEXT NOT NULL,
        at INTEGER NOT NULL,
        who TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX gone_by_digest ON gone (sha256);
    """

_COLUMNS = (
    "id, ext, device, sha256, images, bytes, idem, sequence, stage, at, who, reason FROM gone "
)


class Stage(StrEnum):
    """What became of an image that has no file. Only ``lost``, ``discarded`` and ``purged`` count:
    the others have a file."""

    LOST = "lost"  # its file is nowhere, and no one has said yet that this is all right
    ASKED = "asked"  # it is set aside, and the next holder of the drain lock discards it
    DISCARDED = "discarded"  # a person gave it up
    PURGED = "purged"  # erased for good: the line has nothing that says which image it was
    RETURNED = "returned"  # its file came back, or it was put back before it was discarded


_COUNTED = {State.LOST: Stage.LOST, State.DISCARDED: Stage.DISCARDED}


@dataclass(frozen=True, slots=True)
class GoneRecord:
    """One line of the books on images without a file. ``images`` is more than 1 only for what
    nothing else is known of."""

    id: str
    stage: Stage
    at: datetime
    who: str
    reason: str
    count: Count
    ext: str
    device: str
    sha256: str
    key: str
    sequence: int | None

    @property
    def is_named(self) -> bool:
        """Whether it is an image whose name is known, and no mere number of them."""
        return bool(self.ext)

    @property
    def said(self) -> str:
        """A sentence: since when, by whom and why."""
        if self.stage is Stage.DISCARDED:
            return f"discarded by {self.who} on {self.at:%Y-%m-%d %H:%M} UTC: {self.reason}"
        return self.reason

    @property
    def receipt(self) -> Receipt:
        """What a device or a person may ask for; only of one that is named."""
        discarded = self.stage is Stage.DISCARDED
        return Receipt(
            id=self.id,
            sha256=self.sha256,
            size=self.count.bytes,
            device=self.device,
            received_at=names.parse(f"{self.id}.{self.ext}").received_at,
            state=State.DISCARDED if discarded else State.LOST,
            local=False,
            media_type=MEDIA_TYPES[self.ext],
            key_given=self.key,
            sequence=self.sequence,
            reason=self.said,
        )


class Gone:
    """Belongs to ``Site``, whose connection and lock it shares."""

    def __init__(self, db: sqlite.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    # -- reading

    def get(self, image_id: str) -> GoneRecord | None:
        """The line of an image; None if it has none, or none that counts any more."""
        ids = (image_id, purged_id(image_id))
        found = self._lines("WHERE id IN (?, ?) AND stage <> 'returned'", ids)
        return found[0] if found else None

    def by_sha256(self, sha256: str, device: str = "") -> GoneRecord | None:
        """The newest with these bytes that counts, from this device if one is named."""
        where = (
            "WHERE sha256 = ? AND ? IN ('', device) AND stage IN ('lost', 'discarded') "
            "ORDER BY at DESC LIMIT 1"
        )
        found = self._lines(where, (bytes.fromhex(sha256), device))
        return found[0] if found else None

    def of(self, stage: Stage, limit: int = 1_000_000) -> list[GoneRecord]:
        """The newest lines of a stage."""
        return self._lines("WHERE stage = ? ORDER BY at DESC, id DESC LIMIT ?", (stage, limit))

    def find(self, query: Query) -> list[Receipt]:
        """What a search finds among the lost and the discarded, and one more than a page holds."""
        condition, values = where(query, searchable=False)
        counted = [_COUNTED[state] for state in _COUNTED if state in query.states]
        words = ", ".join(f"'{stage}'" for stage in counted)
        lines = self._lines(f"WHERE ext <> '' AND stage IN ({words}) AND {condition}", values)
        return [line.receipt for line in lines]

    def _lines(self, where: str, values: Sequence[object]) -> list[GoneRecord]:
        with self._lock:
            rows = self._db.execute("SELECT " + _COLUMNS + where, tuple(values)).fetchall()
        return [_line(row) for row in rows]

    def in_folder(self, folder: str) -> dict[str, int]:
        """Ids and sizes of those that count and arrived in one minute folder."""
        low = folder.replace("-", "").replace("/", "T")
        query = (
            "SELECT id, bytes FROM gone WHERE id >= ? AND id < ? "
            "AND stage IN ('lost', 'discarded', 'purged')"
        )
        with self._lock:
            return dict(self._db.execute(query, (low, low + "~")).fetchall())

    def totals(self) -> tuple[Count, Count, Count]:
        """(lost, discarded, purged)."""
        with self._lock:
            rows = self._db.execute(
                "SELECT stage, sum(images), sum(bytes) FROM gone GROUP BY stage"
            ).fetchall()
        counts = {stage: Count(images, size) for stage, images, size in rows}
        lost, discarded, purged = Stage.LOST, Stage.DISCARDED, Stage.PURGED
        return counts.get(lost, NONE), counts.get(discarded, NONE), counts.get(purged, NONE)

    # -- writing; durable when it returns

    def lose(self, item: Item, at: datetime, reason: str) -> None:
        """Record that an image's file is nowhere. An older line of the same image is replaced."""
        self._write(item, Stage.LOST, at, "", reason)

    def ask(self, item: Item, at: datetime, who: str, reason: str) -> None:
        """The holder of the drain lock is to discard it."""
        self._write(item, Stage.ASKED, at, who, reason)

    def missing(self, count: Count, at: datetime) -> None:
        """This many were received, and neither file nor name is left of them."""
        ident = f"unaccounted-{at:%Y%m%dT%H%M%S.%fZ}"
        reason = "they were received, and neither a file nor a row is left of them"
        values = (ident, "", "", b"", count.images, count.bytes, "", None)
        self._insert((*values, Stage.LOST, stamp(at), "", reason))

    def discarded(self, image_id: str, at: datetime, who: str = "", reason: str = "") -> None:
        """Record that an image has neither a file nor a row any more. ``who`` and ``reason`` stay
        if left out."""
        self._change(
            "stage = 'discarded', at = ?2, who = iif(?3 = '', who, ?3),"
            " reason = iif(?4 = '', reason, ?4) WHERE id = ?1",
            (image_id, stamp(at), who, reason),
        )

    def purged(self, images: Sequence[tuple[str, int]], at: datetime) -> None:
        """Record that these images are erased, by id and size: each keeps a line that only counts,
        and that only the id itself leads to. A line that it had goes."""
        with self._lock, sqlite.transaction(self._db) as db:
            db.executemany("DELETE FROM gone WHERE id = ?", [(image,) for image, _ in images])
            db.executemany(
                "INSERT OR IGNORE INTO gone"
                " (id, ext, device, sha256, images, bytes, idem, stage, at)"
                " VALUES (?, '', '', x'', 1, ?, '', 'purged', ?)",
                [(purged_id(image), size, stamp(at)) for image, size in images],
            )

    def returned(self, image_id: str) -> None:
        """Record that an image has a file again, or still: its line does not count."""
        self._change("stage = 'returned' WHERE id = ?1", (image_id,))

    def _write(self, item: Item, stage: Stage, at: datetime, who: str, reason: str) -> None:
        sha256 = bytes.fromhex(item.sha256)
        values = (item.id, item.name.ext, item.name.device, sha256, 1, item.size, item.key)
        self._insert((*values, item.sequence, stage, stamp(at), who, reason))

    def _insert(self, values: tuple[object, ...]) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(
                "INSERT OR REPLACE INTO gone (id, ext, device, sha256, images, bytes, idem,"
                " sequence, stage, at, who, reason) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                values,
            )

    def _change(self, what: str, values: tuple[object, ...]) -> None:
        with self._lock, sqlite.transaction(self._db) as db:
            db.execute(f"UPDATE gone SET {what}", values)


def purged_id(image_id: str) -> str:
    """The minute of arrival, by which images are counted, and what no one can guess the id from: it
    has 64 bits of the image's digest."""
    digest = hashlib.sha256(f"purged {image_id}".encode()).hexdigest()
    return f"{image_id[:13]}-purged-{digest}"


def _line(row: Sequence[object]) -> GoneRecord:
    ident, ext, device, sha256, images, size, idem, sequence, stage, at, who, reason = row
    assert isinstance(sha256, bytes)
    return GoneRecord(
        id=str(ident),
        stage=Stage(str(stage)),
        at=instant(int(str(at))),
        who=str(who),
        reason=str(reason),
        count=Count(int(str(images)), int(str(size))),
        ext=str(ext),
        device=str(device),
        sha256=sha256.hex(),
        key=str(idem),
        sequence=None if sequence is None else int(str(sequence)),
    )
