"""What may go, and in which order it may be looked at: by device, oldest or newest first.

Each question is an index's step or a few of them, so its cost does not grow with the backlog.
"""

from __future__ import annotations

from datetime import UTC, datetime

from headgate.spool import sqlite
from headgate.spool.catalog.schema import RETRY, SENDING, WAITING, items
from headgate.spool.image.image import Count, Item

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MAY_GO = {
    None: "state = 0",
    True: "state = 0 AND urgent = 1",
    False: "state = 0 AND urgent = 0",
}


NEWEST_IN_TEN = 7
"""Of ten images of one device with ``uplink.order = "mixed"``: the newest seven, then the three
oldest."""


def _devices(*, urgent: bool) -> str:
    """Names ``found``: every device with an image that may go now, or with an urgent one, and a
    NULL at the end. An index's step for each."""
    # Left to itself SQLite takes the other index, and looks at every image that waits.
    index = "images_urgent" if urgent else "images_waiting"
    source = f"images INDEXED BY {index} WHERE {_MAY_GO[urgent or None]}"
    return f"""
        WITH RECURSIVE found (device) AS (
            SELECT (SELECT min(device) FROM {source})
            UNION ALL
            SELECT (SELECT min(device) FROM {source} AND device > found.device)
            FROM found WHERE device IS NOT NULL
        ) """


def _share(count: Count, size: int) -> Count:
    """The part of these images that goes while this many bytes of others go."""
    if count.bytes <= size:
        return count
    return Count(count.images * size // count.bytes, size)


def _mixed(newer: Count, older: Count) -> Count:
    """What goes before an image where newest and oldest take turns."""
    all_others = newer + older
    if not all_others.images:
        return all_others
    rounds, rest = divmod(newer.images, NEWEST_IN_TEN)
    from_new = 10 * rounds + rest
    rounds, rest = divmod(older.images, 10 - NEWEST_IN_TEN)
    from_old = 10 * rounds + NEWEST_IN_TEN + rest
    images = min(from_new, from_old, all_others.images)
    return Count(images, all_others.bytes * images // all_others.images)


class Backlog:
    """Belongs to ``Catalog``, whose connections it shares."""

    def __init__(self, on: sqlite.Pair) -> None:
        self._on = on

    def _items(self, where: str, values: tuple[object, ...]) -> list[Item]:
        with self._on.read:
            return items(self._on.reader, where, values)

    def oldest_waiting(self) -> Item | None:
        """The image that has waited longest, sent again or not."""
        found = self._items(f"state IN ({WAITING}, {RETRY}) ORDER BY arrival LIMIT 1", ())
        return found[0] if found else None

    def waiting(self, device: str) -> Count:
        """How many of a device's images wait, sent again or not: counted row by row."""
        where = f"device = ? AND state IN ({WAITING}, {RETRY}, {SENDING})"
        return self._count(where, (device,))

    def oldest_due_at(self, now: datetime) -> datetime | None:
        """Since when an image could have gone and did not: since it came, or since its next
        attempt came due. A step in an index for each device that waits."""
        oldest = f"""SELECT min((SELECT min(arrival) FROM images WHERE state = {WAITING}
                     AND device = found.device AND urgent = way.column1))
                     FROM found, (VALUES (0), (1)) AS way"""
        with self._on.read:
            row = self._on.reader.execute(_devices(urgent=False) + oldest).fetchone()
            (retry,) = self._on.reader.execute(
                f"SELECT min(next_attempt_at) FROM images WHERE state = {RETRY}"
            ).fetchone()
        found = []
        if row[0] is not None and (first := self._items("arrival = ?", (row[0],))):
            found.append(max(first[0].name.received_at, first[0].next_attempt_at or _LONG_AGO))
        if retry is not None and retry <= now.timestamp():
            found.append(datetime.fromtimestamp(retry, UTC))
        return min(found, default=None)

    def urgent_bytes(self, most_images: int = 1000) -> int:
        """Bytes of the urgent images that may go now; more of them than that are not added up."""
        with self._on.read:
            (size,) = self._on.reader.execute(
                "SELECT sum(size) FROM (SELECT size FROM images INDEXED BY images_urgent "
                f"WHERE {_MAY_GO[True]} LIMIT ?)",
                (most_images,),
            ).fetchone()
        return int(size or 0)

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        """Every device with an image that may go now, or with an urgent one: one index step
        each."""
        wanted = "SELECT device FROM found WHERE device IS NOT NULL"
        with self._on.read:
            rows = self._on.reader.execute(_devices(urgent=urgent) + wanted).fetchall()
        return [str(device) for (device,) in rows]

    def oldest_of(
        self, device: str, after: int, limit: int, *, urgent: bool | None = None
    ) -> list[Item]:
        """The device's oldest images that may go now; only the urgent ones, or only the others."""
        may_go = _MAY_GO[urgent]
        return self._items(
            f"{may_go} AND device = ? AND arrival > ? ORDER BY arrival LIMIT ?",
            (device, after, limit),
        )

    def newest_of(
        self, device: str, before: int | None, limit: int, *, urgent: bool | None = None
    ) -> list[Item]:
        may_go = _MAY_GO[urgent]
        return self._items(
            f"{may_go} AND device = ? AND arrival < ? ORDER BY arrival DESC LIMIT ?",
            (device, before if before is not None else 2**62, limit),
        )

    def ahead_of(self, item: Item, order: str) -> Count:
        """What leaves before an image that may go now, if nothing else comes: about, because turns
        change with every image. Counted row by row; for people, not for runs."""
        same = "state = 0 AND device = ? AND urgent = ? AND arrival"
        lane = (item.name.device, int(item.urgent), item.arrival)
        older, newer = self._count(f"{same} < ?", lane), self._count(f"{same} > ?", lane)
        if order == "newest":
            own = newer
        elif order == "oldest":
            own = older
        else:
            own = _mixed(newer, older)
        with self._on.read:
            rows = self._on.reader.execute(
                "SELECT device, urgent, count(*), sum(size) FROM images WHERE state = 0 "
                "GROUP BY device, urgent"
            ).fetchall()
        found, other = own, Count()
        for device, urgent, images, size in rows:
            if urgent != item.urgent:
                other += Count(images, size)
            elif device != item.name.device:  # devices are served alike, in bytes
                found += _share(Count(images, size), own.bytes + item.size)
        # Urgent images get half the bytes while there are others.
        return found + _share(other, found.bytes)

    def _count(self, where: str, values: tuple[object, ...]) -> Count:
        with self._on.read:
            row = self._on.reader.execute(
                f"SELECT count(*), ifnull(sum(size), 0) FROM images WHERE {where}", values
            ).fetchone()
        return Count(*row)

    def served(self) -> dict[str, int]:
        """Bytes credited to each device so far, for the fair order."""
        with self._on.read:
            return dict(self._on.reader.execute("SELECT device, served FROM devices").fetchall())

    def credit(self, served: dict[str, int]) -> None:
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.executemany(
                "INSERT INTO devices (device, served) VALUES (?1, ?2) "
                "ON CONFLICT (device) DO UPDATE SET served = ?2",
                served.items(),
            )
