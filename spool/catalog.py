"""The catalog: the index of images that are alive, which makes questions about them cheap.

The files are the truth; where they differ, the file's place wins, and the catalog can be rebuilt
from them at any time. So it commits with ``synchronous=NORMAL``, and an unclean stop loses at most
a suffix of its rows. Nothing depends on such a row unseen: each new minute folder is entered with
a FULL commit that names it *before* a file is linked there, and stays named while an accept in it
is under way. Whoever starts scans the named folders (``spool.recover``).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from spool import arrivals, flow, sqlite, unusable
from spool.catalog_schema import (
    ASIDE,
    COLUMNS,
    MIGRATIONS,
    RETRY,
    SENDING,
    STATES,
    WAITING,
    count_received,
    insert,
    item_of,
    read_totals,
)
from spool.facts import Arrivals, ClockReading, Flow, Gaps, Unusable
from spool.item import Count, Item, Metadata, State, Totals
from spool.names import Name

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
NAMED_BEFORE = 1
"""Minute folders that stay named after the next one was entered."""


_MAY_GO = {
    None: "state = 0",
    True: "state = 0 AND urgent = 1",
    False: "state = 0 AND urgent = 0",
}
_LISTED = "(SELECT value FROM json_each(?))"  # one statement for a batch, however large


class Catalog:
    """One writer connection under a lock, one reader. Open it after any fork."""

    def __init__(self, path: Path) -> None:
        self._writer = sqlite.connect(path, MIGRATIONS, full=False)
        self._reader = sqlite.connect(path, MIGRATIONS, full=False, read_only=True)
        self._checkpointer = sqlite.connect(path, MIGRATIONS, full=False)
        self._write = threading.Lock()
        self._read = threading.Lock()
        self._under_way: dict[str, int] = {}
        self._entered: set[str] = set()

    def close(self) -> None:
        with self._write, self._read:
            self._writer.close()
            self._reader.close()
            self._checkpointer.close()

    def checkpoint(self) -> None:
        """Outside requests (the receiver's own thread, or between the batches of a run).

        On a connection of its own, so that no accept waits for the writer's lock meanwhile.
        """
        sqlite.checkpoint(self._checkpointer)

    # -- minute folders

    def enter(self, folder: str, finished: Callable[[], Mapping[str, int]] = dict) -> None:
        """Name the folder in a FULL commit, unless it is named; before linking a file into it.

        Every ``enter`` is followed by a ``leave``, after the image's row or its failure.
        ``finished`` gives the ids and sizes of the folder's images that have a receipt: where the
        clock was set back, images arrived there before, and were counted.
        """
        with self._write:
            self._under_way[folder] = self._under_way.get(folder, 0) + 1
            if folder in self._entered:
                return
            try:
                self._name(folder, finished)
            except BaseException:
                self._leave(folder)
                raise
            self._entered.add(folder)

    def _name(self, folder: str, finished: Callable[[], Mapping[str, int]]) -> None:
        self._writer.execute("PRAGMA synchronous = FULL")
        try:
            with sqlite.transaction(self._writer) as db:
                last = int(db.execute("SELECT ifnull(max(position), 0) FROM minutes").fetchone()[0])
                if not db.execute(
                    "UPDATE minutes SET position = ? WHERE folder = ?", (last + 1, folder)
                ).rowcount:
                    low = folder.replace("-", "").replace("/", "T")
                    alive = db.execute(
                        "SELECT id, size FROM images WHERE id >= ? AND id < ?", (low, low + "~")
                    )
                    sizes = {**finished(), **dict(alive.fetchall())}
                    db.execute(
                        "INSERT INTO minutes (folder, position, images, bytes) VALUES (?, ?, ?, ?)",
                        (folder, last + 1, len(sizes), sum(sizes.values())),
                    )
                rows = db.execute("SELECT folder FROM minutes ORDER BY position DESC").fetchall()
                old = [
                    name for (name,) in rows[1 + NAMED_BEFORE :] if not self._under_way.get(name)
                ]
                db.executemany("DELETE FROM minutes WHERE folder = ?", [(name,) for name in old])
                self._entered.difference_update(old)
        finally:
            self._writer.execute("PRAGMA synchronous = NORMAL")

    def leave(self, folder: str) -> None:
        with self._write:
            self._leave(folder)

    def _leave(self, folder: str) -> None:
        left = self._under_way[folder] - 1
        if left:
            self._under_way[folder] = left
        else:
            del self._under_way[folder]

    def named(self) -> dict[str, Count]:
        """The folders that an unclean stop may have left ahead of the catalog, and their counts."""
        with self._read:
            rows = self._reader.execute("SELECT folder, images, bytes FROM minutes").fetchall()
        return {folder: Count(images, size) for folder, images, size in rows}

    def recount(self, folder: str, found: Count) -> None:
        """Correct ``received`` by what the scan found to have arrived in a named folder."""
        with self._write, sqlite.transaction(self._writer) as db:
            row = db.execute(
                "SELECT images, bytes FROM minutes WHERE folder = ?", (folder,)
            ).fetchone()
            if row is None:
                return
            missing = found - Count(*row)
            db.execute(
                "UPDATE minutes SET images = ?, bytes = ? WHERE folder = ?",
                (found.images, found.bytes, folder),
            )
            count_received(db, missing)

    # -- images

    def add(self, name: Name, meta: Metadata, clock: ClockReading | None = None) -> None:
        """The row of an image that has just arrived, with what its device's clock said then.

        It may be there already: verify --repair can find the file before its receiver gets here.
        """
        self.add_all([(name, meta, clock)])

    def add_all(self, arrived: Iterable[tuple[Name, Metadata, ClockReading | None]]) -> None:
        """The same for several in one transaction: most of what it costs is its pages."""
        with self._write, sqlite.transaction(self._writer) as db:
            new: dict[str, tuple[datetime, Count]] = {}
            for name, meta, clock in arrived:
                if insert(db, name, meta, WAITING, unknown=False):
                    at, count = new.get(name.folder, (name.received_at, Count()))
                    new[name.folder] = at, count + Count(1, meta.size)
                    arrivals.note(db, name, meta, clock)
            for folder, (at, count) in new.items():  # a folder is a minute
                count_received(db, count, folder)
                flow.received(db, at, count)

    def restore(
        self,
        name: Name,
        meta: Metadata,
        state: State,
        *,
        unknown: bool = False,
        error: str = "",
        received: bool = False,
    ) -> bool:
        """The row of a file that was found without one; False if there is one by now.

        ``received``: it was not counted as received either.
        """
        internal = ASIDE if state is State.SET_ASIDE else WAITING
        with self._write, sqlite.transaction(self._writer) as db:
            new = insert(db, name, meta, internal, unknown=unknown, error=error)
            if new and received:
                count_received(db, Count(1, meta.size), name.folder)
            if new:
                flow.received(db, name.received_at, Count(1, meta.size))
                arrivals.found(db, name, meta)
        return new

    def repeated(
        self, device: str, at: datetime, sequence: int | None, clock: ClockReading | None
    ) -> None:
        """The device sent an image again that was held already: it is alive, and this number of
        its came."""
        with self._write, sqlite.transaction(self._writer) as db:
            arrivals.repeat(db, device, at, sequence, clock)

    def arrivals(self) -> list[Arrivals]:
        """What each device has sent, by name."""
        with self._read:
            return arrivals.read(self._reader)

    def arrivals_of(self, device: str) -> Arrivals | None:
        """None if it has sent nothing."""
        with self._read:
            found = arrivals.read(self._reader, device)
        return found[0] if found else None

    def arrivals_of_all(self, devices: Sequence[str], others: int) -> list[Arrivals]:
        """Of these devices, and of so many others at most: those that were seen last."""
        with self._read:
            return arrivals.of(self._reader, devices, others)

    def missing(self, devices: Sequence[str]) -> dict[str, int]:
        """How many sequence numbers never arrived, of the devices where there are any."""
        with self._read:
            return arrivals.missing(self._reader, devices)

    def unusable(self, device: str, at: datetime, *, enrolled: bool) -> None:
        """An image of this device came and could not be taken for what it is."""
        with self._write, sqlite.transaction(self._writer) as db:
            unusable.note(db, device, at, enrolled=enrolled)

    def unusable_of(self, devices: Sequence[str], now: datetime) -> dict[str, Unusable]:
        """Of those of the devices that ever sent one."""
        with self._read:
            return unusable.read(self._reader, devices, now)

    def clocks_off(self, since: datetime, limit: int) -> list[Arrivals]:
        """Devices seen since then whose clock is off, the worst first."""
        with self._read:
            return arrivals.clocks_off(self._reader, since, limit)

    def gaps(self, device: str, limit: int) -> Gaps | None:
        """Sequence numbers that never arrived; None if it has sent none."""
        with self._read:
            return arrivals.gaps(self._reader, device, limit)

    def get(self, image_id: str) -> Item | None:
        return self._one("id = ?", (image_id,))

    def by_digest(self, device: str, sha256: str, sequence: int | None) -> Item | None:
        """What this device sent with these bytes and this sequence number, the first of them."""
        return self._one(
            "sha256 = ? AND device = ? AND sequence IS ? ORDER BY arrival LIMIT 1",
            (bytes.fromhex(sha256), device, sequence),
        )

    def by_sha256(self, sha256: str) -> Item | None:
        return self._one("sha256 = ? ORDER BY arrival LIMIT 1", (bytes.fromhex(sha256),))

    def by_key(self, device: str, key: str) -> Item | None:
        return self._one("device = ? AND idem = ? ORDER BY arrival LIMIT 1", (device, key))

    def _one(self, where: str, values: tuple[object, ...]) -> Item | None:
        with self._read:
            row = self._reader.execute(
                f"SELECT {COLUMNS} FROM images WHERE {where}", values
            ).fetchone()
        return None if row is None else item_of(row)

    def _many(self, where: str, values: tuple[object, ...]) -> list[Item]:
        with self._read:
            rows = self._reader.execute(
                f"SELECT {COLUMNS} FROM images WHERE {where}", values
            ).fetchall()
        return [item_of(row) for row in rows]

    def latest(self, limit: int) -> list[Item]:
        """The newest arrivals that are still alive."""
        return self._many("1 ORDER BY arrival DESC LIMIT ?", (limit,))

    def after(self, arrival: int, limit: int) -> list[Item]:
        """All rows in order of arrival, a page at a time: no read transaction stays open."""
        return self._many("arrival > ? ORDER BY arrival LIMIT ?", (arrival, limit))

    def in_state(self, state: State, limit: int) -> list[Item]:
        """The newest images in a state, newest first."""
        internal = [number for number, word in STATES.items() if word is state]
        found: list[Item] = []
        for number in internal:
            found += self._many(f"state = {number} ORDER BY arrival DESC LIMIT ?", (limit,))
        return sorted(found, key=lambda item: item.arrival, reverse=True)[:limit]

    def oldest_waiting(self) -> Item | None:
        """The image that has waited longest, sent again or not."""
        found = self._many(f"state IN ({WAITING}, {RETRY}) ORDER BY arrival LIMIT 1", ())
        return found[0] if found else None

    def oldest_due_at(self, now: datetime) -> datetime | None:
        """Since when an image could have gone and did not: since it came, or since its next
        attempt came due. A step in an index for each device that waits."""
        with self._read:
            row = self._reader.execute(
                f"""
                WITH RECURSIVE found (device) AS (
                    SELECT (SELECT min(device) FROM images WHERE state = {WAITING})
                    UNION ALL
                    SELECT (SELECT min(device) FROM images
                            WHERE state = {WAITING} AND device > found.device)
                    FROM found WHERE device IS NOT NULL
                ) SELECT min((SELECT min(arrival) FROM images WHERE state = {WAITING}
                              AND device = found.device AND urgent = way.column1))
                FROM found, (VALUES (0), (1)) AS way
                """
            ).fetchone()
            (retry,) = self._reader.execute(
                f"SELECT min(next_attempt_at) FROM images WHERE state = {RETRY}"
            ).fetchone()
        found = []
        if row[0] is not None and (oldest := self._many("arrival = ?", (row[0],))):
            found.append(max(oldest[0].name.received_at, oldest[0].next_attempt_at or _LONG_AGO))
        if retry is not None and retry <= now.timestamp():
            found.append(datetime.fromtimestamp(retry, UTC))
        return min(found, default=None)

    # -- picking; the cost of each does not grow with the backlog

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        """Every device with an image that may go now, or with an urgent one: one index step
        each."""
        # Left to itself SQLite takes the other index, and looks at every image that waits.
        index = "images_urgent" if urgent else "images_waiting"
        source = f"images INDEXED BY {index} WHERE {_MAY_GO[urgent or None]}"
        with self._read:
            rows = self._reader.execute(
                f"""
                WITH RECURSIVE found (device) AS (
                    SELECT (SELECT min(device) FROM {source})
                    UNION ALL
                    SELECT (SELECT min(device) FROM {source} AND device > found.device)
                    FROM found WHERE device IS NOT NULL
                ) SELECT device FROM found WHERE device IS NOT NULL
                """
            ).fetchall()
        return [str(device) for (device,) in rows]

    def oldest_of(
        self, device: str, after: int, limit: int, *, urgent: bool | None = None
    ) -> list[Item]:
        """Of the device's images that may go now; only the urgent ones, or only the others."""
        may_go = _MAY_GO[urgent]
        return self._many(
            f"{may_go} AND device = ? AND arrival > ? ORDER BY arrival LIMIT ?",
            (device, after, limit),
        )

    def newest_of(
        self, device: str, before: int | None, limit: int, *, urgent: bool | None = None
    ) -> list[Item]:
        may_go = _MAY_GO[urgent]
        return self._many(
            f"{may_go} AND device = ? AND arrival < ? ORDER BY arrival DESC LIMIT ?",
            (device, before if before is not None else 2**62, limit),
        )

    def served(self) -> dict[str, int]:
        """Bytes credited to each device so far, for the fair order."""
        with self._read:
            return dict(self._reader.execute("SELECT device, served FROM devices").fetchall())

    def credit(self, served: dict[str, int]) -> None:
        with self._write, sqlite.transaction(self._writer) as db:
            db.executemany(
                "INSERT INTO devices (device, served) VALUES (?1, ?2) "
                "ON CONFLICT (device) DO UPDATE SET served = ?2",
                served.items(),
            )

    # -- changes of state; only the holder of the drain lock calls these

    def claim(self, items: Iterable[Item]) -> None:
        """These are being sent: after a kill their outcome is unknown."""
        ids = json.dumps([item.id for item in items])
        with self._write, sqlite.transaction(self._writer) as db:
            db.execute(
                f"UPDATE images SET state = {SENDING}, unknown = 1 "
                f"WHERE id IN {_LISTED} AND state IN ({WAITING}, {RETRY})",
                (ids,),
            )

    def unclaim(self, items: Iterable[Item]) -> None:
        """These were picked, and nothing of them was sent."""
        self._set(
            f"state = {WAITING}, unknown = ?",
            [(int(item.unknown), item.id) for item in items],
            f"state = {SENDING}",
        )

    def defer(self, item: Item, next_attempt_at: datetime, error: str, *, unknown: bool) -> None:
        """A failed attempt: try again then."""
        self._set(
            f"state = {RETRY}, attempts = attempts + 1, next_attempt_at = ?, last_error = ?, "
            "unknown = ?",
            [(int(next_attempt_at.timestamp()), error, int(unknown), item.id)],
        )

    def put_aside(self, image_id: str, error: str) -> None:
        self._set(f"state = {ASIDE}, last_error = ?", [(error, image_id)])

    def put_back(self, image_id: str) -> None:
        """From aside/, or out of its wait, to the front of what may go now."""
        self._set(
            f"state = {WAITING}, attempts = 0, next_attempt_at = 0, unknown = 1", [(image_id,)]
        )

    def reclaim(self) -> int:
        """A run died: what it was sending waits again, its outcome unknown. How many."""
        with self._write, sqlite.transaction(self._writer) as db:
            return db.execute(
                f"UPDATE images SET state = {WAITING}, unknown = 1 WHERE state = {SENDING}"
            ).rowcount

    def due(self, now: datetime) -> int:
        """Let retries whose time has come wait with the others. How many."""
        with self._write, sqlite.transaction(self._writer) as db:
            return db.execute(
                f"UPDATE images SET state = {WAITING} "
                f"WHERE state = {RETRY} AND next_attempt_at <= ?",
                (int(now.timestamp()),),
            ).rowcount

    def next_due(self) -> datetime | None:
        """When the next retry comes due."""
        with self._read:
            row = self._reader.execute(
                f"SELECT min(next_attempt_at) FROM images WHERE state = {RETRY}"
            ).fetchone()
        return None if row[0] is None else datetime.fromtimestamp(row[0], UTC)

    def finished(self, items: Sequence[Item], now: datetime) -> None:
        """These are in the bucket, and their receipts say so: forget them, and count them."""
        with self._write, sqlite.transaction(self._writer) as db:
            ids = json.dumps([item.id for item in items])
            db.execute(f"DELETE FROM images WHERE id IN {_LISTED}", (ids,))
            flow.uploaded(db, now, Count(len(items), sum(item.size for item in items)))

    def note_sent(self, size: int, now: datetime) -> None:
        """A run let so many bytes out since it last said so. Old minutes go on the way."""
        with self._write, sqlite.transaction(self._writer) as db:
            flow.sent(db, now, size)
            flow.forget(db, now - flow.KEEP)

    def flow(self, since: datetime, step_minutes: int) -> list[Flow]:
        """What came in and went out since then."""
        with self._read:
            return flow.read(self._reader, since, step_minutes)

    def drop(self, ids: Iterable[str]) -> None:
        """Forget images whose receipts say that they are uploaded."""
        with self._write, sqlite.transaction(self._writer) as db:
            db.execute(f"DELETE FROM images WHERE id IN {_LISTED}", (json.dumps([*ids]),))

    def drop_lost(self, item: Item) -> None:
        """Forget an image whose file is nowhere, as if it had never come; verify says so aloud."""
        with self._write, sqlite.transaction(self._writer) as db:
            if db.execute("DELETE FROM images WHERE id = ?", (item.id,)).rowcount:
                count_received(db, Count(-1, -item.size), item.name.folder)

    def _set(self, what: str, values: list[tuple[object, ...]], where: str = "1") -> None:
        with self._write, sqlite.transaction(self._writer) as db:
            db.executemany(f"UPDATE images SET {what} WHERE id = ? AND {where}", values)

    # -- totals

    def totals(self) -> Totals:
        with self._read:
            return read_totals("totals", self._reader)

    def counted(self) -> Totals:
        """The same, counted row by row: for verify."""
        with self._read:
            received = read_totals("totals", self._reader).received
            found = read_totals(
                "(SELECT state, count(*) AS images, sum(size) AS bytes FROM images GROUP BY state)",
                self._reader,
            )
        return Totals(received, found.waiting, found.sending, found.set_aside)

    def settle(self, elsewhere: Count) -> None:
        """Recount all totals: ``received`` is the rows here and those with a receipt."""
        with self._write, sqlite.transaction(self._writer) as db:
            db.execute("UPDATE totals SET images = 0, bytes = 0")
            db.execute(
                "UPDATE totals SET images = n, bytes = b FROM (SELECT state AS s, count(*) AS n, "
                "sum(size) AS b FROM images GROUP BY state) WHERE state = s"
            )
            row = db.execute("SELECT count(*), ifnull(sum(size), 0) FROM images").fetchone()
            count_received(db, Count(*row) + elsewhere)

    def damaged(self) -> str:
        """What SQLite's own check says is wrong; empty if nothing."""
        with self._read:
            try:
                found = self._reader.execute("PRAGMA quick_check(1)").fetchone()[0]
            except sqlite3.DatabaseError as error:
                return str(error)
        return "" if found == "ok" else str(found)
