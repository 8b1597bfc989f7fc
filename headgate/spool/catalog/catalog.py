"""The catalog: the index of images that are alive, which makes questions about them cheap.

The files are the truth; where they differ, the file's place wins, and the catalog can be rebuilt
from them at any time. So it commits with ``synchronous=NORMAL``, and an unclean stop loses at most
a suffix of its rows. Nothing depends on such a row unseen: each new minute folder is entered with
a FULL commit that names it *before* a file is linked there, and stays named while an accept in it
is under way. A program that starts scans the named folders (``headgate.spool.recovery``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from headgate.host.board import Board
from headgate.spool import sqlite
from headgate.spool.catalog import device_stats, refused, traffic
from headgate.spool.catalog.backlog import Backlog
from headgate.spool.catalog.corrections import Corrections
from headgate.spool.catalog.device_stats import Arrivals, ClockReading, Gaps, Unusable
from headgate.spool.catalog.holds import Holds
from headgate.spool.catalog.open_folders import Minutes
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.catalog.schema import (
    ASIDE,
    MIGRATIONS,
    RETRY,
    SENDING,
    STATES,
    WAITING,
    arrive,
    count_received,
    insert,
    items,
    note_restored,
    read_totals,
    was_restored,
)
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count, Item, Metadata, State, Totals
from headgate.spool.image.names import Name
from headgate.spool.query import DAYS, MINUTES, Query, where

_LISTED = "(SELECT value FROM json_each(?))"  # one statement for a batch, however large


class Catalog:
    """The catalog's database: one writer connection under a lock, one reader. Open it after any
    fork."""

    def __init__(self, path: Path, board: Board | None = None) -> None:
        board = board or Board.alone()
        self._on = sqlite.Pair(path, MIGRATIONS, board.waiting)
        self.minutes = Minutes(self._on, board)
        self.backlog = Backlog(self._on)
        self.holds = Holds(self._on)
        self.corrections = Corrections(self._on)

    def close(self) -> None:
        self._on.close()

    def checkpoint(self, least: int = 1) -> bool:
        """Outside requests (the receiver's own thread, or between the batches of a run); commits
        wait meanwhile. See ``sqlite.checkpoint``."""
        with self._on.write:
            return sqlite.checkpoint(self._on.writer, least)

    # -- images

    def add(self, name: Name, meta: Metadata, clock: ClockReading | None = None) -> None:
        """The row of an image that has just arrived, with what its device's clock said then.

        It may have been there already: verify --repair can find the file before its receiver gets
        here, and a run can have sent it since. It counts once.
        """
        self.add_all([(name, meta, clock)])

    def add_all(self, arrived: Iterable[tuple[Name, Metadata, ClockReading | None]]) -> None:
        """Add the rows of several images that have just arrived in one transaction: most of what
        it costs is its pages."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            new: dict[str, tuple[datetime, Count]] = {}
            for name, meta, clock in arrived:
                if arrive(db, name, meta):
                    at, count = new.get(name.folder, (name.received_at, Count()))
                    new[name.folder] = at, count + Count(1, meta.size)
                    device_stats.note(db, name, meta, clock)
            for folder, (at, count) in new.items():  # a folder is a minute
                count_received(db, count, folder)
                traffic.received(db, at, count)

    def restore(
        self,
        name: Name,
        meta: Metadata,
        state: State,
        *,
        unknown: bool = False,
        error: str = "",
        received: bool = False,
        locked: bool = True,
    ) -> bool:
        """The row of a file that was found without one; False if there is one by now.

        ``received``: it was not counted as received either; ``locked``: then the caller holds the
        drain lock. Without that lock a repair and a run may have been faster: then it is not
        counted again.
        """
        internal = ASIDE if state is State.SET_ASIDE else WAITING
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            if not (received and locked) and was_restored(db, name):
                return False
            new = insert(db, name, meta, internal, unknown=unknown, error=error)
            if new and received:
                note_restored(db, name)
                count_received(db, Count(1, meta.size), name.folder)
            if new:
                traffic.received(db, name.received_at, Count(1, meta.size))
                device_stats.found(db, name, meta)
        return new

    def reopen(self, name: Name, meta: Metadata, state: State, error: str = "") -> None:
        """An image that had a receipt is set aside, or waits: it arrived once, and is not counted
        again."""
        internal = ASIDE if state is State.SET_ASIDE else WAITING
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            insert(db, name, meta, internal, unknown=True, error=error)

    def repeated(
        self, device: str, at: datetime, sequence: int | None, clock: ClockReading | None
    ) -> None:
        """The device sent an image again that was held already: it is alive, and this number of
        its came."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            device_stats.repeat(db, device, at, sequence, clock)

    def arrivals(self) -> list[Arrivals]:
        """What each device has sent, by name."""
        with self._on.read:
            return device_stats.read(self._on.reader)

    def arrivals_of(self, device: str) -> Arrivals | None:
        """What one device has sent; None if it has sent nothing."""
        with self._on.read:
            found = device_stats.read(self._on.reader, device)
        return found[0] if found else None

    def arrivals_of_all(self, devices: Sequence[str], others: int) -> list[Arrivals]:
        """What these devices have sent, and at most this many others: those that were seen
        last."""
        with self._on.read:
            return device_stats.of(self._on.reader, devices, others)

    def missing(self, devices: Sequence[str]) -> dict[str, int]:
        """How many sequence numbers never arrived, of the devices where there are any."""
        with self._on.read:
            return device_stats.missing(self._on.reader, devices)

    def unusable(self, device: str, at: datetime, *, enrolled: bool) -> None:
        """An image of this device came and could not be taken for what it is."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            device_stats.note_unusable(db, device, at, enrolled=enrolled)

    def unusable_of(self, devices: Sequence[str], now: datetime) -> dict[str, Unusable]:
        """Unusable images by device, for devices that ever sent one."""
        with self._on.read:
            return device_stats.read_unusable(self._on.reader, devices, now)

    def note_refused(self, counts: refused.Counts) -> None:
        """Add uploads that were refused, by minute and code."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            refused.add(db, counts)

    def refused_lately(self, now: datetime, unwritten: refused.Counts) -> tuple[RefusedLately, ...]:
        """Uploads that were refused in the last minutes, by code, the most first; with those that
        are not written down yet."""
        with self._on.read:
            known = refused.read(self._on.reader, now)
            taken = traffic.read(self._on.reader, now - refused.WINDOW, 1)
        return refused.lately(known, unwritten, sum(one.received.images for one in taken), now)

    def clocks_off(self, since: datetime, limit: int) -> list[Arrivals]:
        """Devices seen since then whose clock is off, the worst first."""
        with self._on.read:
            return device_stats.clocks_off(self._on.reader, since, limit)

    def gaps(self, device: str, limit: int) -> Gaps | None:
        """Sequence numbers that never arrived; None if it has sent none."""
        with self._on.read:
            return device_stats.gaps(self._on.reader, device, limit)

    def get(self, image_id: str) -> Item | None:
        return self._one("id = ?", (image_id,))

    def by_digest(
        self, device: str, sha256: str, sequence: int | None, by: str = "ASC"
    ) -> Item | None:
        """What this device sent with these bytes and this sequence number: the first of them, or
        the last ("DESC")."""
        digest = bytes.fromhex(sha256)
        with self._on.read:  # nearly always no one sent these bytes, and that is asked for cheaply
            any_of_them = "SELECT 1 FROM images WHERE sha256 = ? LIMIT 1"
            if not self._on.reader.execute(any_of_them, (digest,)).fetchall():
                return None
            found = items(
                self._on.reader,
                f"sha256 = ? AND device = ? AND sequence IS ? ORDER BY arrival {by} LIMIT 1",
                (digest, device, sequence),
            )
        return found[0] if found else None

    def by_sha256(self, sha256: str, device: str = "") -> Item | None:
        """The first with these bytes, from this device if one is named."""
        return self._one(
            "sha256 = ? AND ? IN ('', device) ORDER BY arrival LIMIT 1",
            (bytes.fromhex(sha256), device),
        )

    def by_key(self, device: str, key: str) -> Item | None:
        return self._one("device = ? AND idem = ? ORDER BY arrival LIMIT 1", (device, key))

    def _one(self, where: str, values: tuple[object, ...]) -> Item | None:
        found = self._many(where, values)
        return found[0] if found else None

    def _many(self, where: str, values: tuple[object, ...]) -> list[Item]:
        with self._on.read:
            return items(self._on.reader, where, values)

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

    def find(self, query: Query) -> list[Item]:
        """What a search finds among the images that are alive, in its order, and one more than a
        page holds."""
        states = [number for number, state in STATES.items() if state in query.states]
        condition, values = where(query)
        if len(states) < len(STATES):
            # A + keeps SQLite from sorting all images of a state.
            numbers = ", ".join(map(str, states))
            condition = f"+state IN ({numbers}) AND {condition}"
        return self._many(condition, tuple(values)) if states else []

    def minutes_of(self, device: str, first_id: str) -> dict[str, int]:
        """How many images of the device that are alive arrived in each minute, from an id on; a
        minute as ids begin with it."""
        with self._on.read:
            return dict(self._on.reader.execute(MINUTES, (device, first_id)).fetchall())

    def days_of(self, device: str, first_id: str) -> dict[str, Count]:
        """How many images of the device that are alive arrived on each day, from an id on, with
        their bytes."""
        with self._on.read:
            rows = self._on.reader.execute(DAYS, (device, first_id)).fetchall()
        return {day: Count(images, size) for day, images, size in rows}

    # -- changes of state; only the holder of the drain lock calls these

    def claim(self, items: Iterable[Item]) -> None:
        """Mark images as being sent: after a kill their outcome is unknown."""
        ids = json.dumps([item.id for item in items])
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute(
                f"UPDATE images SET state = {SENDING}, unknown = 1 "
                f"WHERE id IN {_LISTED} AND state IN ({WAITING}, {RETRY})",
                (ids,),
            )

    def unclaim(self, items: Iterable[Item]) -> None:
        """Return images that were picked and of which nothing was sent."""
        self._set(
            f"state = {WAITING}, unknown = ?",
            [(int(item.unknown), item.id) for item in items],
            f"state = {SENDING}",
        )

    def defer(self, item: Item, next_attempt_at: datetime, error: str, *, unknown: bool) -> None:
        """A failed attempt: try again then."""
        self._set(
            f"state = {RETRY}, attempts = attempts + 1, next_attempt_at = ?, last_error = ?, "
            "unknown = ?, refusals = 0",
            [(int(next_attempt_at.timestamp()), error, int(unknown), item.id)],
        )

    def hold(self, item: Item, now: datetime, error: str, *, unknown: bool, refusals: int) -> None:
        """S3 refused it, and may refuse every other image as well: it waits for ``release``.

        No attempt is counted and no time decides, because the cause is not yet known: others
        are tried before it.
        """
        self._set(
            f"state = {RETRY}, next_attempt_at = ?, last_error = ?, unknown = ?, refusals = ?",
            [(int(now.timestamp()), error, int(unknown), refusals, item.id)],
        )

    def held(self, limit: int, device: str = "") -> list[Item]:
        """Images on hold, the one that was refused longest ago first; only those of a device."""
        of_one = "AND device = ?" if device else ""
        return self._many(
            f"refusals > 0 AND state = {RETRY} {of_one} ORDER BY next_attempt_at, arrival LIMIT ?",
            (device, limit) if device else (limit,),
        )

    def release(self, ids: Iterable[str] | None = None) -> None:
        """Let these images, or all that are on hold, go again."""
        which = f"refusals > 0 AND state = {RETRY}"
        values: tuple[str, ...] = ()
        if ids is not None:
            which, values = f"{which} AND id IN {_LISTED}", (json.dumps([*ids]),)
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute(f"UPDATE images SET state = {WAITING} WHERE {which}", values)

    def put_aside(self, image_id: str, error: str) -> None:
        self._set(f"state = {ASIDE}, last_error = ?", [(error, image_id)])

    def put_back(self, image_id: str) -> None:
        """Put an image back from aside/, or out of its wait, to the front of what may go now."""
        self._set(
            f"state = {WAITING}, attempts = 0, next_attempt_at = 0, unknown = 1, refusals = 0",
            [(image_id,)],
        )

    def reclaim(self) -> int:
        """A run died: what it was sending waits again, its outcome unknown. How many."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute(f"UPDATE images SET state = {WAITING}, unknown = 1 WHERE state = {SENDING}")
            return sqlite.changes(db)

    def due(self, now: datetime) -> int:
        """Let retries whose time has come wait with the others. How many."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute(
                f"UPDATE images SET state = {WAITING} "
                f"WHERE state = {RETRY} AND refusals = 0 AND next_attempt_at <= ?",
                (int(now.timestamp()),),
            )
            return sqlite.changes(db)

    def next_due(self) -> datetime | None:
        """When the next retry comes due; of those that no time decides nothing is said."""
        with self._on.read:
            row = self._on.reader.execute(
                f"SELECT min(next_attempt_at) FROM images WHERE state = {RETRY} AND refusals = 0"
            ).fetchone()
        return None if row[0] is None else datetime.fromtimestamp(row[0], UTC)

    def finished(self, items: Sequence[Item], now: datetime) -> None:
        """Forget images that are in the bucket and have receipts, and count them."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            ids = json.dumps([item.id for item in items])
            db.execute(f"DELETE FROM images WHERE id IN {_LISTED}", (ids,))
            traffic.uploaded(db, now, Count(len(items), sum(item.size for item in items)))

    def note_sent(self, size: int, now: datetime) -> None:
        """Add bytes that a run sent since its last report. Also drops old minutes."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            traffic.sent(db, now, size)
            traffic.forget(db, now - traffic.KEEP)

    def flow(self, since: datetime, step_minutes: int) -> list[Flow]:
        """What came in and went out since then."""
        with self._on.read:
            return traffic.read(self._on.reader, since, step_minutes)

    def drop(self, ids: Iterable[str]) -> None:
        """Forget images that have another line: a receipt, or one among those that are gone."""
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute(f"DELETE FROM images WHERE id IN {_LISTED}", (json.dumps([*ids]),))

    def _set(self, what: str, values: list[tuple[object, ...]], where: str = "1") -> None:
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.executemany(f"UPDATE images SET {what} WHERE id = ? AND {where}", values)

    # -- totals

    def totals(self) -> Totals:
        with self._on.read:
            return read_totals("totals", self._on.reader)

    def counted(self) -> Totals:
        """The totals, counted row by row: for verify."""
        with self._on.read:
            received = read_totals("totals", self._on.reader).received
            found = read_totals(
                "(SELECT state, count(*) AS images, sum(size) AS bytes FROM images GROUP BY state)",
                self._on.reader,
            )
        return replace(found, received=received)

    def settle(self, elsewhere: Count, gone_from: Callable[[str], Mapping[str, int]]) -> None:
        """Recount all totals: ``received`` is the rows here and those counted ``elsewhere``.

        The named minute folders as well, or the next start would correct the total a second time;
        ``gone_from`` gives the ids and sizes of what arrived in a folder and has no row any more.
        """
        with self._on.write, sqlite.transaction(self._on.writer) as db:
            db.execute("UPDATE totals SET images = 0, bytes = 0")
            db.execute(
                "UPDATE totals SET images = n, bytes = b FROM (SELECT state AS s, count(*) AS n, "
                "sum(size) AS b FROM images GROUP BY state) WHERE state = s"
            )
            row = db.execute("SELECT count(*), ifnull(sum(size), 0) FROM images").fetchone()
            count_received(db, Count(*row) + elsewhere)
            self.minutes.settle(db, gone_from)

    def damaged(self) -> str:
        """What SQLite's own check says is wrong; empty if nothing."""
        with self._on.read:
            return sqlite.damage_in(self._on.reader)
