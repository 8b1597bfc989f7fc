"""The tables of a day's receipts, and what their rows mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.image.image import (
    Item,
    Receipt,
    Remarks,
    Sent,
    State,
    decode_tags,
    encode_tags,
)
from headgate.spool.image.names import MEDIA_TYPES, Name

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE images (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        ext TEXT NOT NULL,
        device TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        digest INTEGER NOT NULL,
        size INTEGER NOT NULL,
        idem TEXT,
        sequence INTEGER,
        local INTEGER NOT NULL,
        uploaded_at INTEGER NOT NULL,
        place INTEGER NOT NULL REFERENCES places (place),
        rest TEXT NOT NULL,
        etag TEXT NOT NULL,
        version_id TEXT NOT NULL
    ) STRICT;
    CREATE INDEX images_by_digest ON images (digest);
    CREATE INDEX images_by_key ON images (device, idem) WHERE idem IS NOT NULL;
    CREATE TABLE places (
        place INTEGER PRIMARY KEY,
        bucket TEXT NOT NULL,
        folder TEXT NOT NULL,
        UNIQUE (bucket, folder)
    ) STRICT;
    CREATE TABLE totals (
        local INTEGER PRIMARY KEY,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO totals (local) VALUES (0), (1);
    CREATE TRIGGER images_added AFTER INSERT ON images BEGIN
        UPDATE totals SET images = images + 1, bytes = bytes + new.size WHERE local = new.local;
    END;
    CREATE TRIGGER images_pruned AFTER UPDATE OF local ON images WHEN new.local <> old.local BEGIN
        UPDATE totals SET images = images - 1, bytes = bytes - old.size WHERE local = old.local;
        UPDATE totals SET images = images + 1, bytes = bytes + new.size WHERE local = new.local;
    END;
    """,
    # Pruning asks for the oldest copies that are still here, and for nothing else.
    "CREATE INDEX images_local ON images (uploaded_at) WHERE local = 1;",
    """
    CREATE TRIGGER images_withdrawn AFTER DELETE ON images BEGIN
        UPDATE totals SET images = images - 1, bytes = bytes - old.size WHERE local = old.local;
    END;
    """,
    "ALTER TABLE images ADD COLUMN remarks TEXT NOT NULL DEFAULT '';",
    # What people search by. ``captured`` is in microseconds since 1970.
    """
    ALTER TABLE images ADD COLUMN captured INTEGER;
    ALTER TABLE images ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    """,
    # When the copy here was deleted, and by which rule.
    """
    ALTER TABLE images ADD COLUMN pruned_at INTEGER;
    ALTER TABLE images ADD COLUMN pruned_by TEXT NOT NULL DEFAULT '';
    """,
)
SEARCH_INDEXES = """
    CREATE INDEX IF NOT EXISTS images_by_device ON images (device, id);
    CREATE INDEX IF NOT EXISTS images_by_sequence ON images (device, sequence)
        WHERE sequence IS NOT NULL;
    CREATE INDEX IF NOT EXISTS images_by_capture ON images (captured) WHERE captured IS NOT NULL;
    CREATE INDEX IF NOT EXISTS images_with_tags ON images (id, tags) WHERE tags <> '';
    """
"""No migration: a day of millions of rows takes seconds to index, and after an upgrade the first
upload, or the first look at the totals, would wait for all of them. A new day has them from the
start; each run adds them to one older day, and until then a search there takes longer."""

SELECT = (
    "SELECT id, ext, device, sha256, size, idem, sequence, local, uploaded_at, bucket, "
    "folder || rest, etag, version_id, remarks, captured, tags, "
    "pruned_at, pruned_by "
    "FROM images JOIN places USING (place) "
)


def digest(sha256: str) -> int:
    """The first 8 bytes as SQLite's signed integer: an index of 8 bytes a row."""
    return int.from_bytes(bytes.fromhex(sha256[:16]), signed=True)


def receipt(row: tuple[object, ...]) -> Receipt:
    ident, ext, device, sha256, size, idem, sequence, local, uploaded_at = row[:9]
    bucket, key, etag, version_id, remarks, captured, tags, pruned_at, pruned_by = row[9:]
    assert isinstance(sha256, bytes) and isinstance(uploaded_at, int)
    return Receipt(
        id=str(ident),
        sha256=sha256.hex(),
        size=int(str(size)),
        device=str(device),
        received_at=names.parse(f"{ident}.{ext}").received_at,
        state=State.UPLOADED,
        local=bool(local),
        media_type=MEDIA_TYPES[str(ext)],
        key_given=str(idem or ""),
        sequence=None if sequence is None else int(str(sequence)),
        bucket=str(bucket),
        key=str(key),
        etag=str(etag),
        version_id=str(version_id),
        uploaded_at=datetime.fromtimestamp(uploaded_at, UTC),
        remarks=Remarks.decode(str(remarks)),
        captured_at=None if captured is None else sqlite.instant(int(str(captured))),
        tags=decode_tags(str(tags)),
        pruned_at=None if pruned_at is None else sqlite.instant(int(str(pruned_at))),
        pruned_by=str(pruned_by),
    )


class Places(dict[tuple[str, str], int]):
    """The numbers of buckets and folders within one transaction, entered where they are new."""

    def __init__(self, db: sqlite.Connection) -> None:
        self._db = db

    def __missing__(self, place: tuple[str, str]) -> int:
        self._db.execute("INSERT OR IGNORE INTO places (bucket, folder) VALUES (?, ?)", place)
        query = "SELECT place FROM places WHERE bucket = ? AND folder = ?"
        self[place] = int(self._db.execute(query, place).fetchone()[0])
        return self[place]


INSERT = (
    "INSERT OR IGNORE INTO images (id, ext, device, sha256, digest, size, idem, sequence,"
    " local, uploaded_at, place, rest, etag, version_id, remarks, captured, tags)"
    " VALUES (?,?,?,?,?,?,?,?,1,?,?,?,?,?,?,?,?)"
)
"""The row of a finished image; one that is there stays."""


def row_of(
    places: Places, name: Name, known: Item | Receipt, sent: Sent, uploaded_at: datetime
) -> tuple[object, ...]:
    """The values for ``INSERT``."""
    # Keys mostly end in the file's name, and the part before it repeats: stored once.
    cut = sent.key.rfind("/") + 1
    place = places[sent.bucket, sent.key[:cut]]
    key = known.key if isinstance(known, Item) else known.key_given
    return (
        name.id,
        name.ext,
        name.device,
        bytes.fromhex(known.sha256),
        digest(known.sha256),
        known.size,
        key or None,
        known.sequence,
        int(uploaded_at.timestamp()),
        place,
        sent.key[cut:],
        sent.etag,
        sent.version_id,
        known.remarks.encode(),
        None if known.captured_at is None else sqlite.stamp(known.captured_at),
        encode_tags(known.tags),
    )
