"""What came in and what went out, minute by minute: for the page's curves and for forecasts.

Kept in the catalog, and written in the transactions that add and finish images, so that it can say
neither more nor less than they do. Nine days of it are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.image.image import Count

KEEP = timedelta(days=9)
"""A day of the week can be compared with the same one before."""

TABLES = """
    CREATE TABLE flow (
        minute INTEGER PRIMARY KEY,
        received_images INTEGER NOT NULL DEFAULT 0,
        received_bytes INTEGER NOT NULL DEFAULT 0,
        uploaded_images INTEGER NOT NULL DEFAULT 0,
        uploaded_bytes INTEGER NOT NULL DEFAULT 0,
        sent_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    """


@dataclass(frozen=True, slots=True)
class Flow:
    """What came in and went out in some minutes from ``at`` on. ``sent_bytes`` are the wire's."""

    at: datetime
    minutes: int
    received: Count
    uploaded: Count
    sent_bytes: int


def received(db: sqlite.Connection, at: datetime, count: Count) -> None:
    """Count images that arrived; inside the transaction that adds their rows."""
    _add(db, at, "received_images", "received_bytes", count)


def uploaded(db: sqlite.Connection, at: datetime, count: Count) -> None:
    """Count images that were uploaded; inside the transaction that drops their rows."""
    _add(db, at, "uploaded_images", "uploaded_bytes", count)


def sent(db: sqlite.Connection, at: datetime, size: int) -> None:
    """Bytes that left on the wire, whatever became of them."""
    db.execute(
        "INSERT INTO flow (minute, sent_bytes) VALUES (?1, ?2) ON CONFLICT (minute) DO UPDATE "
        "SET sent_bytes = sent_bytes + ?2",
        (_minute(at), size),
    )


def _add(db: sqlite.Connection, at: datetime, images: str, size: str, count: Count) -> None:
    db.execute(
        f"INSERT INTO flow (minute, {images}, {size}) VALUES (?1, ?2, ?3) ON CONFLICT (minute) "
        f"DO UPDATE SET {images} = {images} + ?2, {size} = {size} + ?3",
        (_minute(at), count.images, count.bytes),
    )


def forget(db: sqlite.Connection, before: datetime) -> None:
    """Drop minutes that are older."""
    db.execute("DELETE FROM flow WHERE minute < ?", (_minute(before),))


def read(db: sqlite.Connection, since: datetime, step_minutes: int) -> list[Flow]:
    """Read the traffic since then, in steps of this many minutes; a step without traffic is left
    out."""
    rows = db.execute(
        "SELECT minute / ?2 * ?2 AS step, sum(received_images), sum(received_bytes),"
        " sum(uploaded_images), sum(uploaded_bytes), sum(sent_bytes) FROM flow"
        " WHERE minute >= ?1 GROUP BY step ORDER BY step",
        (_minute(since), step_minutes),
    ).fetchall()
    return [
        Flow(
            at=datetime.fromtimestamp(minute * 60, UTC),
            minutes=step_minutes,
            received=Count(came, came_bytes),
            uploaded=Count(went, went_bytes),
            sent_bytes=left,
        )
        for minute, came, came_bytes, went, went_bytes, left in rows
    ]


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
