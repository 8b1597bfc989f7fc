"""The catalog's tables, and what their rows mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from headgate.spool import sqlite
from headgate.spool.catalog import corrections, device_stats, holds, refused, traffic
from headgate.spool.catalog.holds import HELD
from headgate.spool.image import names
from headgate.spool.image.image import (
    Count,
    Item,
    Metadata,
    Remarks,
    State,
    Totals,
    decode_tags,
    encode_tags,
)
from headgate.spool.image.names import Name

WAITING, SENDING, RETRY, ASIDE = range(4)
STATES = {
    WAITING: State.WAITING,
    SENDING: State.SENDING,
    RETRY: State.WAITING,  # waits for next_attempt_at; for people it just waits
    ASIDE: State.SET_ASIDE,
    HELD: State.HELD,
}

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE images (
        arrival INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        ext TEXT NOT NULL,
        device TEXT NOT NULL,
        sha256 BLOB NOT NULL,
        size INTEGER NOT NULL,
        idem TEXT,
        sequence INTEGER,
        state INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_attempt_at INTEGER NOT NULL DEFAULT 0,
        unknown INTEGER NOT NULL DEFAULT 0,
        last_error TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX images_by_digest ON images (sha256);
    CREATE INDEX images_by_key ON images (device, idem) WHERE idem IS NOT NULL;
    CREATE INDEX images_waiting ON images (device, arrival) WHERE state = 0;
    CREATE INDEX images_sending ON images (arrival) WHERE state = 1;
    CREATE INDEX images_retry ON images (next_attempt_at) WHERE state = 2;
    CREATE INDEX images_aside ON images (arrival) WHERE state = 3;
    CREATE TABLE totals (
        state INTEGER PRIMARY KEY,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO totals (state) VALUES (-1), (0), (1), (2), (3);
    CREATE TRIGGER images_added AFTER INSERT ON images BEGIN
        UPDATE totals SET images = images + 1, bytes = bytes + new.size WHERE state = new.state;
    END;
    CREATE TRIGGER images_gone AFTER DELETE ON images BEGIN
        UPDATE totals SET images = images - 1, bytes = bytes - old.size WHERE state = old.state;
    END;
    CREATE TRIGGER images_moved AFTER UPDATE OF state ON images WHEN new.state <> old.state BEGIN
        UPDATE totals SET images = images - 1, bytes = bytes - old.size WHERE state = old.state;
        UPDATE totals SET images = images + 1, bytes = bytes + new.size WHERE state = new.state;
    END;
    CREATE TABLE minutes (
        folder TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE devices (
        device TEXT PRIMARY KEY,
        served INTEGER NOT NULL
    ) STRICT;
    """,
    # What devices mark as urgent goes first; and what each of them has sent.
    """
    ALTER TABLE images ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX images_urgent ON images (device, arrival) WHERE state = 0 AND urgent = 1;
    """
    + device_stats.TABLES,
    # What came in and went out, minute by minute.
    traffic.TABLES,
    # Picking asks for a device's urgent images and for its others, each by arrival.
    """
    DROP INDEX images_waiting;
    CREATE INDEX images_waiting ON images (device, urgent, arrival) WHERE state = 0;
    """,
    # Which image of each device came last.
    device_stats.LAST_IMAGE,
    # How many images of each device could not be taken.
    device_stats.UNUSABLE_TABLES,
    # How many uploads were refused lately, and why.
    refused.TABLES,
    # Images that S3 refused in a way that any image might be refused: see ``Catalog.hold``.
    """
    ALTER TABLE images ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX images_refused ON images (next_attempt_at) WHERE refusals > 0;
    """,
    # What was noticed about an image that was taken all the same, and how often, by device.
    """
    ALTER TABLE images ADD COLUMN remarks TEXT NOT NULL DEFAULT '';
    """
    + device_stats.WARNED,
    # Images whose rows verify --repair wrote while their receiver may still have been about to.
    # A run can send such an image and delete its row before the receiver writes it: see ``arrive``.
    """
    CREATE TABLE restored (id TEXT PRIMARY KEY, folder TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX restored_by_folder ON restored (folder);
    CREATE TRIGGER restored_gone AFTER DELETE ON minutes BEGIN
        DELETE FROM restored WHERE folder = old.folder;
    END;
    """,
    # What people search by. ``captured`` is in microseconds since 1970.
    """
    ALTER TABLE images ADD COLUMN captured INTEGER;
    ALTER TABLE images ADD COLUMN tags TEXT NOT NULL DEFAULT '';
    CREATE INDEX images_by_device ON images (device, id);
    """,
    # What a person holds.
    holds.TABLES,
    corrections.TABLES,
)

COLUMNS = (
    "arrival, id, ext, device, sha256, size, idem, sequence, state, attempts, "
    "next_attempt_at, urgent, unknown, last_error, refusals, remarks, captured, tags"
)


def item_of(row: tuple[Any, ...]) -> Item:
    """The image of a row; the table is STRICT, so each column has its type."""
    arrival, ident, ext, _device, sha256, size, idem, sequence, state = row[:9]
    attempts, next_at, urgent, unknown, last_error, refusals, remarks, captured, tags = row[9:]
    return Item(
        name=names.parse(f"{ident}.{ext}"),
        sha256=sha256.hex(),
        size=size,
        state=STATES[state],
        arrival=arrival,
        key=idem or "",
        sequence=sequence,
        attempts=attempts,
        next_attempt_at=datetime.fromtimestamp(next_at, UTC) if next_at else None,
        urgent=bool(urgent),
        unknown=bool(unknown),
        last_error=last_error,
        refusals=refusals,
        remarks=Remarks.decode(remarks),
        captured_at=None if captured is None else sqlite.instant(captured),
        tags=decode_tags(tags),
    )


def items(db: sqlite.Connection, where: str, values: tuple[object, ...]) -> list[Item]:
    """The images of a condition, in its order."""
    rows = db.execute(f"SELECT {COLUMNS} FROM images WHERE {where}", values).fetchall()
    return [item_of(row) for row in rows]


def insert(
    db: sqlite.Connection,
    name: Name,
    meta: Metadata,
    state: int,
    *,
    unknown: bool,
    error: str = "",
) -> bool:
    """Add a row; False if the image has one."""
    db.execute(
        "INSERT OR IGNORE INTO images (id, ext, device, sha256, size, idem, sequence, state,"
        " urgent, unknown, last_error, remarks, captured, tags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name.id,
            name.ext,
            name.device,
            bytes.fromhex(meta.sha256),
            meta.size,
            meta.key or None,
            meta.sequence,
            state,
            int(meta.urgent),
            int(unknown),
            error,
            meta.remarks.encode(),
            None if meta.captured is None else sqlite.stamp(meta.captured),
            encode_tags(meta.tags),
        ),
    )
    return bool(sqlite.changes(db))


def arrive(db: sqlite.Connection, name: Name, meta: Metadata) -> bool:
    """Add the row of an image that has just been linked; False if it had one before.

    It may have had one that is gone again: ``verify --repair`` found the file first, and a run has
    sent it since. A second row would count the image twice.
    """
    return not was_restored(db, name) and insert(db, name, meta, WAITING, unknown=False)


def was_restored(db: sqlite.Connection, name: Name) -> bool:
    """Whether ``verify --repair`` wrote its row while its accept may have been under way."""
    return bool(db.execute("SELECT 1 FROM restored WHERE id = ?", (name.id,)).fetchone())


def note_restored(db: sqlite.Connection, name: Name) -> None:
    """Remember that this image has had its row, as long as its accept may be under way: that is,
    as long as the catalog names its minute folder."""
    db.execute(
        "INSERT OR IGNORE INTO restored SELECT ?, folder FROM minutes WHERE folder = ?",
        (name.id, name.folder),
    )


def count_received(db: sqlite.Connection, count: Count, folder: str = "") -> None:
    """More (or fewer) images were received, in that minute folder if it is given."""
    db.execute(
        "UPDATE totals SET images = images + ?, bytes = bytes + ? WHERE state = -1",
        (count.images, count.bytes),
    )
    db.execute(
        "UPDATE minutes SET images = images + ?, bytes = bytes + ? WHERE folder = ?",
        (count.images, count.bytes, folder),
    )


def read_totals(table: str, db: sqlite.Connection) -> Totals:
    rows = db.execute(f"SELECT state, images, bytes FROM {table}").fetchall()
    found = {state: Count(images, size) for state, images, size in rows}
    none = Count()
    return Totals(
        received=found.get(-1, none),
        waiting=found.get(WAITING, none) + found.get(RETRY, none),
        sending=found.get(SENDING, none),
        set_aside=found.get(ASIDE, none),
        held=found.get(HELD, none),
    )
