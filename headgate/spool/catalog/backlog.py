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
        with self._on.read:
            row = self._on.reader.execute(
                "SELECT count(*), ifnull(sum(size), 0) FROM images "
                f"WHERE device = ? AND state IN ({WAITING}, {RETRY}, {SENDING})",
                (device,),
            ).fetchone()
        return Count(*row)

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
        """Of the device's images that may go now; only the urgent ones, or only the others."""
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
