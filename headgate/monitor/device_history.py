"""When one device sent its images, and how much on each day; of uploaded ones, too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from headgate.spool.image.image import Count
from headgate.spool.query import Query, id_from
from headgate.spool.spool import Spool

GAPS_SHOWN = 10


def minutes(spool: Spool, device: str, since: datetime) -> dict[datetime, int]:
    """The minutes since then in which images of the device arrived, and how many."""
    found: dict[datetime, int] = {}
    first = id_from(since)
    parts = [spool.catalog.minutes_of(device, first)]
    parts += [
        spool.receipts.minutes_of(day, device, first)
        for day in spool.receipts.days()
        if day >= f"{since.astimezone(UTC):%Y-%m-%d}"
    ]
    for part in parts:
        for minute, images in part.items():
            at = datetime.strptime(minute, "%Y%m%dT%H%M").replace(tzinfo=UTC)
            found[at] = found.get(at, 0) + images
    return dict(sorted(found.items()))


def days(spool: Spool, device: str, now: datetime, count: int) -> list[tuple[date, Count]]:
    """Images and bytes of the device on the last ``count`` days in UTC, the newest first."""
    today = now.astimezone(UTC).date()
    wanted = [today - timedelta(days=back) for back in range(count)]
    first = id_from(datetime(*wanted[-1].timetuple()[:3], tzinfo=UTC))
    alive: Mapping[str, Count] = spool.catalog.days_of(device, first)
    found = []
    for day in wanted:
        here = alive.get(f"{day:%Y%m%d}", Count())
        found.append((day, here + spool.receipts.of_device(day.isoformat(), device)))
    return found


def gaps_seen(spool: Spool, device: str, since: datetime) -> list[tuple[datetime, int]]:
    """When the newest gaps in the device's sequence numbers were noticed since then, and how many
    numbers each is: by the arrival of the image behind it."""
    known = spool.catalog.gaps(device, limit=100_000)
    found = []
    for first, last in known.gaps[-GAPS_SHOWN:] if known else ():
        behind = spool.find(
            Query(device=device, since=since, sequences=(last + 1, last + 1), limit=1)
        )
        found += [(image.received_at, last - first + 1) for image in behind.receipts]
    return sorted(found)
