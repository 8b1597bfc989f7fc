"""Statistics of each device: when it last sent, how much, by what clock, which numbers are missing.

Kept in the catalog and written in the transaction of the image's own row. It counts since the
catalog was made; a catalog rebuilt from the files begins with the images that are waiting then.

Sequence numbers are kept as ranges of those that came. A number below the first that is 0 or 1, a
number that came before with other bytes, or a leap of more than ``LEAP`` in either direction begins
a new series: the camera was reset. Gaps are only told within the series that runs. A number that is
the time is no count, and tells of no gaps.

Images that could not be taken for what they are (cut off, changed on the way, no image) are counted
too, since a camera that is breaking shows itself so. Their share is of an hour at most: the first
unusable image after that begins a new one. Nothing is written for an image that is taken. Only
devices that are enrolled or have sent an image are counted, so that invented names fill nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from headgate.host.clock import CLOCK_OFF_SECONDS
from headgate.spool import sqlite
from headgate.spool.catalog.corrections import is_accepted
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import Name
from headgate.spool.sqlite import instant, stamp

RANGES_MAX = 1000
"""Ranges kept of one device; beyond them the oldest gap is forgotten."""
LEAP = 1_000_000
_DAY_SECONDS = 86_400
_TIME_UNITS = (1, 1_000, 1_000_000)
"""Of a number that is the time since 1970: seconds, milliseconds, microseconds."""
CLOCK_KEPT = timedelta(hours=1)
"""How long the best reading of a device's clock stands against worse ones."""

TABLES = """
    CREATE TABLE arrivals (
        device TEXT PRIMARY KEY,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        images INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        clock_offset REAL,
        clock_at INTEGER,
        clock_exact INTEGER,
        series_at INTEGER
    ) STRICT;
    CREATE TABLE sequences (
        device TEXT NOT NULL,
        low INTEGER NOT NULL,
        high INTEGER NOT NULL,
        PRIMARY KEY (device, low)
    ) STRICT, WITHOUT ROWID;
    """


UNUSABLE_WINDOW = timedelta(hours=1)

UNUSABLE_TABLES = """
    CREATE TABLE unusable (
        device TEXT PRIMARY KEY,
        images INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        since INTEGER NOT NULL,
        lately INTEGER NOT NULL,
        good_before INTEGER NOT NULL
    ) STRICT;
    """

LAST_IMAGE = "ALTER TABLE arrivals ADD COLUMN last_image TEXT NOT NULL DEFAULT '';"
WARNED = """
    ALTER TABLE arrivals ADD COLUMN warned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE arrivals ADD COLUMN last_warning TEXT NOT NULL DEFAULT '';
    """
"""Images that were taken with a remark, and the first sentence of the last one."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far a device's clock was ahead of ours, in seconds; negative: behind.

    Exact from a request's Date; otherwise from the time of capture, which lies in the past: then
    the clock may be further ahead by as long as the image took to come.
    """

    offset_seconds: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What one device has sent since the catalog was made."""

    device: str
    first_at: datetime
    last_at: datetime
    images: int
    bytes: int
    clock_offset_seconds: float | None = None
    clock_exact: bool = False
    last_image: str = ""
    warned: int = 0  # images that were taken with a remark
    last_warning: str = ""

    @property
    def clock_is_off(self) -> bool:
        """Whether its clock is far enough from ours to say so."""
        offset = self.clock_offset_seconds
        return offset is not None and abs(offset) >= CLOCK_OFF_SECONDS


@dataclass(frozen=True, slots=True)
class Gaps:
    """The series of sequence numbers that runs, and its gaps (first and last missing), oldest
    first; ``missing`` counts all of them, also those beyond what was asked for."""

    device: str
    since: datetime
    first: int
    last: int
    missing: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Unusable:
    """Images of one device that could not be taken for what they are. ``lately``: of the hour that
    the first of them began, with the number of ``good`` ones."""

    images: int = 0
    last_at: datetime | None = None
    lately: int = 0
    good: int = 0

    @property
    def share(self) -> float:
        """The unusable share of what came lately, from 0 to 1."""
        return self.lately / (self.lately + self.good) if self.lately else 0.0


def note(db: sqlite.Connection, name: Name, meta: Metadata, clock: ClockReading | None) -> None:
    """Count one new image for its device; inside the transaction that adds its row."""
    device = name.device
    _seen(db, device, name.received_at, 1, meta.size, clock, name.id)
    if meta.remarks.warnings:
        db.execute(
            "UPDATE arrivals SET warned = warned + 1, last_warning = ? WHERE device = ?",
            (meta.remarks.warnings[0], device),
        )
    number = _count(meta.sequence, name.received_at)
    if number is None or is_accepted(db, device, number):
        return
    if not _mark(db, device, number):
        _begin_series(db, device, number)  # another image had this number


def found(db: sqlite.Connection, name: Name, meta: Metadata) -> None:
    """An image whose row was lost; its number may or may not have been noted."""
    _seen(db, name.device, name.received_at, 1, meta.size, None, name.id)
    number = _count(meta.sequence, name.received_at)
    if number is not None:
        _mark(db, name.device, number)


def repeat(
    db: sqlite.Connection,
    device: str,
    at: datetime,
    sequence: int | None,
    clock: ClockReading | None,
) -> None:
    """An image of this device came again."""
    _seen(db, device, at, 0, 0, clock)
    number = _count(sequence, at)
    if number is not None:
        _mark(db, device, number)


def _count(sequence: int | None, at: datetime) -> int | None:
    """A sequence number that counts images; None for none, and for one that is the time at which
    the image was taken, as some cameras number them."""
    if sequence is None:
        return None
    now = at.timestamp()
    is_time = any(abs(sequence / unit - now) < _DAY_SECONDS for unit in _TIME_UNITS)
    return None if is_time else sequence


def _seen(
    db: sqlite.Connection,
    device: str,
    at: datetime,
    images: int,
    size: int,
    clock: ClockReading | None,
    image: str = "",
) -> None:
    at_stamp = stamp(at)
    db.execute(
        "INSERT INTO arrivals (device, first_at, last_at, images, bytes, last_image)"
        " VALUES (?1, ?2, ?2, ?3, ?4, ?5) ON CONFLICT (device) DO UPDATE SET"
        " last_image = iif(?5 = '' OR ?2 < last_at, last_image, ?5),"
        " last_at = max(last_at, ?2), images = images + ?3, bytes = bytes + ?4",
        (device, at_stamp, images, size, image),
    )
    if clock is not None:
        # Of readings that may be late the one furthest ahead is nearest to the truth, for a while.
        db.execute(
            "UPDATE arrivals SET clock_offset = ?2, clock_at = ?3, clock_exact = ?4 "
            "WHERE device = ?1 AND (?4 OR clock_at IS NULL OR abs(?3 - clock_at) > ?5 "
            "OR (NOT clock_exact AND ?2 > clock_offset))",
            (device, clock.offset_seconds, at_stamp, int(clock.exact), _micros(CLOCK_KEPT)),
        )


def _mark(db: sqlite.Connection, device: str, number: int) -> bool:
    """Take the number into the ranges; False if it is in one already."""
    below = db.execute(
        "SELECT low, high FROM sequences WHERE device = ? AND low <= ? ORDER BY low DESC LIMIT 1",
        (device, number),
    ).fetchone()
    if below is not None and number <= below[1]:
        return False
    above = db.execute(
        "SELECT low, high FROM sequences WHERE device = ? AND low > ? ORDER BY low LIMIT 1",
        (device, number),
    ).fetchone()
    reset = below is None and above is not None and number <= 1 and above[0] > number + 1
    leap = above is None and below is not None and number - below[1] > LEAP
    leap_back = below is None and above is not None and above[0] - number > LEAP
    if (below is None and above is None) or reset or leap or leap_back:
        _begin_series(db, device, number)
        return True
    low = high = number
    if below is not None and below[1] == number - 1:
        low = below[0]
    if above is not None and above[0] == number + 1:
        high = above[1]
        db.execute("DELETE FROM sequences WHERE device = ? AND low = ?", (device, above[0]))
    db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?, ?)", (device, low, high))
    if low == high:
        _forget_oldest_gap(db, device)
    return True


def _forget_oldest_gap(db: sqlite.Connection, device: str) -> None:
    rows = db.execute(
        "SELECT low, high FROM sequences WHERE device = ? ORDER BY low LIMIT ?",
        (device, RANGES_MAX + 1),
    ).fetchall()
    if len(rows) > RANGES_MAX:
        db.execute("DELETE FROM sequences WHERE device = ? AND low = ?", (device, rows[1][0]))
        db.execute(
            "UPDATE sequences SET high = ? WHERE device = ? AND low = ?",
            (rows[1][1], device, rows[0][0]),
        )


def _begin_series(db: sqlite.Connection, device: str, number: int) -> None:
    db.execute("DELETE FROM sequences WHERE device = ?", (device,))
    db.execute("DELETE FROM accepted WHERE device = ?", (device,))
    db.execute("INSERT INTO sequences VALUES (?, ?, ?)", (device, number, number))
    db.execute("UPDATE arrivals SET series_at = last_at WHERE device = ?", (device,))


def read(db: sqlite.Connection, device: str | None = None) -> list[Arrivals]:
    """Read the statistics of all devices by name, or of one."""
    return _all(db, "WHERE ?1 IS NULL OR device = ?1 ORDER BY device", (device,))


def _all(db: sqlite.Connection, where: str, values: tuple[object, ...]) -> list[Arrivals]:
    rows = db.execute(
        "SELECT device, first_at, last_at, images, bytes, clock_offset, clock_exact, last_image, "
        "warned, last_warning FROM arrivals " + where,
        values,
    )
    return [
        Arrivals(name, instant(first), instant(last), images, size, offset, bool(exact), *described)
        for name, first, last, images, size, offset, exact, *described in rows.fetchall()
    ]


def of(db: sqlite.Connection, devices: Sequence[str], others: int) -> list[Arrivals]:
    """Read the statistics of these devices, and of at most this many others: those that were seen
    last."""
    named = json.dumps(list(devices))
    return [
        *_all(db, "WHERE device IN (SELECT value FROM json_each(?))", (named,)),
        *_all(
            db,
            "WHERE device NOT IN (SELECT value FROM json_each(?)) ORDER BY last_at DESC LIMIT ?",
            (named, others),
        ),
    ]


def missing(db: sqlite.Connection, devices: Sequence[str]) -> dict[str, int]:
    """How many sequence numbers never arrived from these devices, of the series that run."""
    rows = db.execute(
        "SELECT device, max(high) - min(low) + 1 - sum(high - low + 1) FROM sequences "
        "WHERE device IN (SELECT value FROM json_each(?)) GROUP BY device",
        (json.dumps(list(devices)),),
    )
    return {device: gaps for device, gaps in rows.fetchall() if gaps}


def clocks_off(db: sqlite.Connection, since: datetime, limit: int) -> list[Arrivals]:
    """Devices seen since then whose clock is off, the worst first."""
    return _all(
        db,
        "WHERE abs(clock_offset) >= ? AND last_at >= ? ORDER BY abs(clock_offset) DESC LIMIT ?",
        (CLOCK_OFF_SECONDS, stamp(since), limit),
    )


def gaps(db: sqlite.Connection, device: str, limit: int) -> Gaps | None:
    """The oldest ``limit`` gaps; None if the device has sent no sequence number."""
    rows = db.execute(
        "SELECT low, high FROM sequences WHERE device = ? ORDER BY low", (device,)
    ).fetchall()
    since = db.execute("SELECT series_at FROM arrivals WHERE device = ?", (device,)).fetchone()
    if not rows or since is None:
        return None
    found = [(high + 1, low - 1) for (_, high), (low, _) in pairwise(rows)]
    return Gaps(
        device=device,
        since=instant(since[0]),
        first=rows[0][0],
        last=rows[-1][1],
        missing=sum(last - first + 1 for first, last in found),
        gaps=tuple(found[:limit]),
    )


def note_unusable(db: sqlite.Connection, device: str, at: datetime, *, enrolled: bool) -> None:
    """Count one more unusable image of this device; inside a transaction."""
    row = db.execute("SELECT images FROM arrivals WHERE device = ?", (device,)).fetchone()
    if row is None and not enrolled:
        return
    good, now = (0 if row is None else row[0]), stamp(at)
    fresh = f"abs(?2 - since) > {int(UNUSABLE_WINDOW.total_seconds() * 1_000_000)}"
    db.execute(
        "INSERT INTO unusable (device, images, last_at, since, lately, good_before) VALUES"
        " (?1, 1, ?2, ?2, 1, ?3) ON CONFLICT (device) DO UPDATE SET images = images + 1,"
        f" last_at = ?2, lately = iif({fresh}, 1, lately + 1),"
        f" good_before = iif({fresh}, ?3, good_before), since = iif({fresh}, ?2, since)",
        (device, now, good),
    )


def read_unusable(
    db: sqlite.Connection, devices: Sequence[str], now: datetime
) -> dict[str, Unusable]:
    """Read the unusable images by device, for devices that ever sent one."""
    rows = db.execute(
        "SELECT u.device, u.images, u.last_at, u.since, u.lately,"
        " max(0, ifnull(a.images, 0) - u.good_before) FROM unusable AS u"
        " LEFT JOIN arrivals AS a ON a.device = u.device"
        " WHERE u.device IN (SELECT value FROM json_each(?))",
        (json.dumps(list(devices)),),
    )
    found = {}
    for device, images, last_at, since, lately, good in rows.fetchall():
        over = abs(now - instant(since)) > UNUSABLE_WINDOW
        found[device] = Unusable(
            images, instant(last_at), 0 if over else lately, 0 if over else good
        )
    return found


def _micros(span: timedelta) -> int:
    return int(span.total_seconds() * 1_000_000)
