"""Images that came and could not be taken for what they are: cut off, changed on the way, no image.

Counted by device in the catalog, since a camera that is breaking shows itself so. Its share is of
an hour at most: the first unusable image after that begins a new one. Nothing is written for an
image that is taken. Only devices that are enrolled or have sent an image are counted, so that names
that somebody invents fill nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate.spool import sqlite
from headgate.spool.sqlite import instant, stamp

WINDOW = timedelta(hours=1)

TABLES = """
    CREATE TABLE unusable (
        device TEXT PRIMARY KEY,
        images INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        since INTEGER NOT NULL,
        lately INTEGER NOT NULL,
        good_before INTEGER NOT NULL
    ) STRICT;
    """


@dataclass(frozen=True, slots=True)
class Unusable:
    """Images of one device that could not be taken for what they are. ``lately``: of the hour that
    the first of them began, beside as many ``good`` ones."""

    images: int = 0
    last_at: datetime | None = None
    lately: int = 0
    good: int = 0

    @property
    def share(self) -> float:
        """Of all that came lately, from 0 to 1."""
        return self.lately / (self.lately + self.good) if self.lately else 0.0


def note(db: sqlite.Connection, device: str, at: datetime, *, enrolled: bool) -> None:
    """One more of this device; inside a transaction."""
    row = db.execute("SELECT images FROM arrivals WHERE device = ?", (device,)).fetchone()
    if row is None and not enrolled:
        return
    good, now = (0 if row is None else row[0]), stamp(at)
    fresh = f"abs(?2 - since) > {int(WINDOW.total_seconds() * 1_000_000)}"
    db.execute(
        "INSERT INTO unusable (device, images, last_at, since, lately, good_before) VALUES"
        " (?1, 1, ?2, ?2, 1, ?3) ON CONFLICT (device) DO UPDATE SET images = images + 1,"
        f" last_at = ?2, lately = iif({fresh}, 1, lately + 1),"
        f" good_before = iif({fresh}, ?3, good_before), since = iif({fresh}, ?2, since)",
        (device, now, good),
    )


def read(db: sqlite.Connection, devices: Sequence[str], now: datetime) -> dict[str, Unusable]:
    """Of those of the devices that ever sent one."""
    rows = db.execute(
        "SELECT u.device, u.images, u.last_at, u.since, u.lately,"
        " max(0, ifnull(a.images, 0) - u.good_before) FROM unusable AS u"
        " LEFT JOIN arrivals AS a ON a.device = u.device"
        " WHERE u.device IN (SELECT value FROM json_each(?))",
        (json.dumps(list(devices)),),
    )
    found = {}
    for device, images, last_at, since, lately, good in rows.fetchall():
        over = abs(now - instant(since)) > WINDOW
        found[device] = Unusable(
            images, instant(last_at), 0 if over else lately, 0 if over else good
        )
    return found
