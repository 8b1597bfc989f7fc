"""Receipts of finished images: one SQLite file a day of arrival, dropped whole when it is old.

At the owner's rate 2.88 million images finish a day; the catalog holds only what is alive, so that
the cost of accepting, picking and scraping stays flat. Commits are FULL, once a batch, and come
before the catalog's row goes. Only the holder of the drain lock writes.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from headgate.spool import sqlite
from headgate.spool.image import names
from headgate.spool.image.image import Count, Item, PruneRule, Receipt, Sent, State
from headgate.spool.image.names import Name
from headgate.spool.query import DAYS, MINUTES, By, Query, id_from, where
from headgate.spool.receipts.quiet import Mark, NotQuiet, read_quiet
from headgate.spool.receipts.schema import (
    INSERT,
    MIGRATIONS,
    SEARCH_INDEXES,
    SELECT,
    Places,
    digest,
    receipt,
    row_of,
)

_OPEN_FILES = 4
_T = TypeVar("_T")


class Receipts:
    """The day files below ``state/receipts``. Open it after any fork."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder)
        self._lock = threading.Lock()
        self._open: dict[str, tuple[sqlite.Connection, int]] = {}  # and the file's inode
        self._known: dict[str, tuple[Mark, tuple[Count, Count]]] = {}  # totals of quiet days

    def close(self) -> None:
        with self._lock:
            for connection, _ in self._open.values():
                connection.close()
            self._open.clear()

    def days(self) -> list[str]:
        """The days that have a file, oldest first."""
        try:
            files = [name.partition(".") for name in os.listdir(self._folder)]
        except FileNotFoundError:
            return []
        return sorted(day for day, _, rest in files if rest == "sqlite3" and _is_day(day))

    def days_with_copies(self) -> list[str]:
        """The days of which some image still has a copy in done/, oldest first."""
        return [day for day in self.days() if self._totals_of(day)[0].images]

    def path(self, day: str) -> Path:
        return self._folder / f"{day}.sqlite3"

    def _file(self, day: str) -> str:
        return f"{self._real}/{day}.sqlite3"  # a Path is slow to make

    def _connection(self, day: str, *, create: bool) -> sqlite.Connection | None:
        """Opened for writing even to read: a day file left by a kill needs its WAL recovered."""
        known = self._open.pop(day, None)
        if known is not None and known[1] != self._inode(day):
            known[0].close()  # another program dropped the day, and may have made it again
            known = None
        if known is None:
            if not create and not self._inode(day):
                return None
            fresh = create and not self._inode(day)
            connection = sqlite.connect(self.path(day), MIGRATIONS, full=True)
            if fresh:
                connection.execute(SEARCH_INDEXES).fetchall()
            known = connection, self._inode(day)
        self._open[day] = known  # the last one used goes to the end
        while len(self._open) > _OPEN_FILES:
            self._open.pop(next(iter(self._open)))[0].close()
        return known[0]

    def _inode(self, day: str) -> int:
        """The inode of a day's file; 0 if there is none."""
        try:
            return os.stat(self._file(day)).st_ino
        except FileNotFoundError:
            return 0

    def _look(self, day: str, read: Callable[[sqlite.Connection], _T]) -> _T | None:
        """As ``_read``, for one question to many days: it does not keep the file open."""
        with self._lock:
            is_open = day in self._open
        if not is_open:
            with contextlib.suppress(NotQuiet):
                return read_quiet(self._file(day), read)
        return self._read(day, read)

    def _read(self, day: str, read: Callable[[sqlite.Connection], _T]) -> _T | None:
        with self._lock:
            connection = self._connection(day, create=False)
            return None if connection is None else read(connection)

    def _first(
        self, day: str, where: str, values: tuple[object, ...], *, of_many: bool = False
    ) -> Receipt | None:
        ask = self._look if of_many else self._read
        row = ask(day, lambda db: db.execute(SELECT + where, values).fetchone())
        return None if row is None else receipt(row)

    # -- reading

    def get(self, image_id: str) -> Receipt | None:
        day = names.day_of_id(image_id)
        return None if day is None else self._first(day, "WHERE id = ?", (image_id,))

    def by_sha256(self, sha256: str, days: Iterable[str], device: str = "") -> Receipt | None:
        """The newest with these bytes, from this device if one is named."""
        return self._any(
            days,
            "WHERE digest = ? AND sha256 = ? AND ? IN ('', device) ORDER BY number DESC LIMIT 1",
            (digest(sha256), bytes.fromhex(sha256), device),
        )

    def by_digest(
        self, device: str, sha256: str, sequence: int | None, days: Iterable[str], by: str = "ASC"
    ) -> Receipt | None:
        return self._any(
            days,
            "WHERE digest = ? AND sha256 = ? AND device = ? AND sequence IS ? "
            f"ORDER BY number {by} LIMIT 1",
            (digest(sha256), bytes.fromhex(sha256), device, sequence),
        )

    def by_key(self, device: str, key: str, days: Iterable[str]) -> Receipt | None:
        return self._any(
            days, "WHERE device = ? AND idem = ? ORDER BY number LIMIT 1", (device, key)
        )

    def _any(self, days: Iterable[str], where: str, values: tuple[object, ...]) -> Receipt | None:
        days = list(days)
        for day in days:
            found = self._first(day, where, values, of_many=len(days) > _OPEN_FILES)
            if found is not None:
                return found
        return None

    def written_lately(self) -> list[str]:
        """The days whose files some program may have written within the last moments."""
        return [day for day in self.days() if not Mark.of(self._file(day)).is_quiet()]

    def find(self, query: Query) -> list[Receipt]:
        """What a search finds among the uploaded, in its order, and one more than a page holds.

        By arrival, a day after the other until there are enough; by capture every day is asked,
        because a device may send what it took long before.
        """
        if State.UPLOADED not in query.states:
            return []
        by_capture = query.by is By.CAPTURE
        days = self.days()
        if not by_capture:
            days = [day for day in days if _may_hold(day, query)]
        condition, values = where(query)
        statement = f"{SELECT} WHERE {condition}"
        found: list[Receipt] = []
        for day in days if query.oldest_first else reversed(days):
            rows = self._look(day, lambda db: db.execute(statement, values).fetchall())
            found += [receipt(row) for row in rows or ()]
            if len(found) > query.limit:
                found = query.merge(found)[: query.limit + 1]
                if not by_capture:
                    break
        return query.merge(found)

    def minutes_of(self, day: str, device: str, first_id: str) -> dict[str, int]:
        """How many images of the device arrived in each minute of a day, from an id on; a minute as
        ids begin with it."""
        values = (device, first_id)
        return dict(self._look(day, lambda db: db.execute(MINUTES, values).fetchall()) or ())

    def of_device(self, day: str, device: str) -> Count:
        """The receipts of one device that arrived on one day."""
        rows = self._look(day, lambda db: db.execute(DAYS, (device, "")).fetchall()) or ()
        return sum((Count(images, size) for _, images, size in rows), Count())

    def local(self, day: str) -> Iterator[Receipt]:
        """Receipts of a day whose file is still in done/, in order of arrival, a page at a
        time."""
        last = ""
        query = SELECT + "WHERE local = 1 AND id > ? ORDER BY id LIMIT 1000"
        while True:
            rows = self._read(day, lambda db, after=last: db.execute(query, (after,)).fetchall())  # type: ignore[misc]
            if not rows:
                return
            for row in rows:
                yield receipt(row)
            last = rows[-1][0]

    def oldest_local(
        self,
        day: str,
        limit: int,
        before: datetime | None = None,
        *,
        but: tuple[str, str] = ("[]", "[]"),
    ) -> list[Receipt]:
        """The first uploaded of those whose file is still in done/; none after ``before``, and
        none of these images and devices, two JSON lists."""
        until = 2**62 if before is None else int(before.timestamp())
        where = (
            "WHERE local = 1 AND uploaded_at <= ?"
            " AND id NOT IN (SELECT value FROM json_each(?))"
            " AND device NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY uploaded_at, number LIMIT ?"
        )
        values = (until, *but, limit)
        rows = self._read(day, lambda db: db.execute(SELECT + where, values).fetchall())
        return [receipt(row) for row in rows or ()]

    def some_pruned(self, count: int, chance: Callable[[], float]) -> list[Receipt]:
        """A random sample of the receipts whose copy here was dropped; ``chance`` gives numbers
        from 0 to below 1."""
        ends, end = [], 0
        for day in self.days():
            end += self._totals_of(day)[1].images
            ends.append((end, day))
        found: dict[str, Receipt] = {}
        for _ in range(count if end else 0):
            at = bisect.bisect_right(ends, (int(chance() * end), "~"))
            one = self._pruned_of(ends[min(at, len(ends) - 1)][1], chance())
            if one is not None:
                found[one.id] = one
        return list(found.values())

    def _pruned_of(self, day: str, chance: float) -> Receipt | None:
        """The first of a day after a part of its rows, or else its first."""

        def read(db: sqlite.Connection) -> tuple[object, ...] | None:
            (last,) = db.execute("SELECT ifnull(max(number), 0) FROM images").fetchone()
            where = "WHERE local = 0 AND number >= ? ORDER BY number LIMIT 1"
            starts = (int(chance * last) + 1, 0)
            rows = (db.execute(SELECT + where, (start,)).fetchone() for start in starts)
            return next((row for row in rows if row is not None), None)

        row = self._read(day, read)
        return None if row is None else receipt(row)

    def totals(self) -> tuple[Count, Count]:
        """(local, pruned) over all days, from each day's maintained totals.

        Days whose file did not change since they were read last are not opened: there are more
        days than files are kept open.
        """
        local, pruned = Count(), Count()
        days = self.days()
        for day in days:
            found = self._totals_of(day)
            local, pruned = local + found[0], pruned + found[1]
        for day in set(self._known).difference(days):
            self._known.pop(day, None)
        return local, pruned

    def _totals_of(self, day: str) -> tuple[Count, Count]:
        mark = Mark.of(self._file(day))
        known = self._known.get(day)
        if known is not None and known[0] == mark:
            return known[1]
        quiet = mark.is_quiet()  # asked now: reading may take long
        found = self._look(day, self._day_totals(day)) or (Count(), Count())
        if quiet:
            self._known[day] = mark, found
        return found

    def day_totals(self, day: str) -> Count:
        """Images and bytes of all receipts of one day."""
        found = self._read(day, self._day_totals(day))
        return Count() if found is None else found[0] + found[1]

    def _day_totals(self, day: str) -> Callable[[sqlite.Connection], tuple[Count, Count]]:
        def read(db: sqlite.Connection) -> tuple[Count, Count]:
            rows = db.execute("SELECT local, images, bytes FROM totals").fetchall()
            counts = {local: Count(images, size) for local, images, size in rows}
            return counts[1], counts[0]

        return read

    def generation(self, day: str) -> str:
        """Which file of the day this is: the id of its first image, or the day of an empty one.

        A day that was dropped gets another file when one of its images is finished late.
        """
        row = self._read(
            day, lambda db: db.execute("SELECT id FROM images ORDER BY number LIMIT 1").fetchone()
        )
        return day if row is None else str(row[0])

    def stands(self, generation: str) -> bool:
        """Whether that file of a day is still there."""
        day = names.day_of_id(generation) or generation
        return self.path(day).exists() and self.generation(day) == generation

    def counted(self, day: str) -> tuple[Count, Count]:
        """(local, pruned) of a day, counted row by row: for verify."""
        rows = self._read(
            day,
            lambda db: db.execute(
                "SELECT local, count(*), sum(size) FROM images GROUP BY local"
            ).fetchall(),
        )
        counts = {local: Count(images, size) for local, images, size in rows or ()}
        return counts.get(1, Count()), counts.get(0, Count())

    def in_folder(self, folder: str) -> dict[str, int]:
        """Ids and sizes of the images with a receipt that arrived in one minute folder."""
        day, _, minute = folder.partition("/")
        low = f"{day.replace('-', '')}T{minute}"
        rows = self._read(
            day,
            lambda db: db.execute(
                "SELECT id, size FROM images WHERE id >= ? AND id < ?", (low, low + "~")
            ).fetchall(),
        )
        return dict(rows or ())

    def damaged(self, day: str) -> str:
        """What SQLite's own check says is wrong with a day; empty if nothing."""
        try:
            return self._read(day, sqlite.damage_in) or ""
        except sqlite.Damaged as error:
            return str(error)

    # -- writing

    def add_search_indexes(self, day: str) -> None:
        """Add the search indexes to a day of an older version; nothing where it has them."""
        self._read(day, lambda db: db.execute(SEARCH_INDEXES).fetchall())

    def add(self, finished: Iterable[tuple[Name, Item | Receipt, Sent, datetime]]) -> None:
        """Write the receipts of a batch, durable when it returns; one that is there stays."""
        by_day: dict[str, list[tuple[Name, Item | Receipt, Sent, datetime]]] = {}
        for entry in finished:
            by_day.setdefault(entry[0].day, []).append(entry)
        for day, entries in sorted(by_day.items()):
            with self._lock:
                connection = self._connection(day, create=True)
                assert connection is not None
                with sqlite.transaction(connection) as db:
                    places = Places(db)
                    db.executemany(INSERT, [row_of(places, *entry) for entry in entries])
                sqlite.checkpoint(connection)

    def mark_pruned(
        self,
        day: str,
        ids: Iterable[str],
        at: datetime | None = None,
        rule: PruneRule | None = None,
    ) -> None:
        """Mark receipts whose local copies are about to go; durable when it returns."""
        with self._lock:
            connection = self._connection(day, create=False)
            if connection is None:
                return
            with sqlite.transaction(connection) as db:
                db.executemany(
                    "UPDATE images SET local = 0, pruned_at = ?, pruned_by = ? WHERE id = ?",
                    [(at and sqlite.stamp(at), rule or "", ident) for ident in ids],
                )
            sqlite.checkpoint(connection)

    def mark_local(self, day: str, ids: Iterable[str]) -> None:
        """Mark receipts whose files turned out to be in done/ after all (verify --repair)."""
        with self._lock:
            connection = self._connection(day, create=False)
            if connection is not None:
                with sqlite.transaction(connection) as db:
                    db.executemany(
                        "UPDATE images SET local = 1 WHERE id = ?", [(ident,) for ident in ids]
                    )

    def withdraw(self, day: str, ids: Iterable[str]) -> None:
        """Withdraw receipts of images that the bucket holds no more and whose files have another
        place; durable when it returns."""
        with self._lock:
            connection = self._connection(day, create=False)
            if connection is None:
                return
            with sqlite.transaction(connection) as db:
                db.executemany("DELETE FROM images WHERE id = ?", [(ident,) for ident in ids])
            sqlite.checkpoint(connection)

    def settle(self, day: str) -> None:
        """Recount the totals of a day, if they are not what its rows say."""
        local, pruned = self.counted(day)
        with self._lock:
            connection = self._connection(day, create=False)
            if connection is None or self._day_totals(day)(connection) == (local, pruned):
                return
            with sqlite.transaction(connection) as db:
                for is_local, count in ((1, local), (0, pruned)):
                    db.execute(
                        "UPDATE totals SET images = ?, bytes = ? WHERE local = ?",
                        (count.images, count.bytes, is_local),
                    )

    def forget(self, day: str) -> None:
        """Close a day file, so that it can be dropped whole."""
        with self._lock:
            known = self._open.pop(day, None)
            if known is not None:
                known[0].close()


def _may_hold(day: str, query: Query) -> bool:
    """Whether an image of that day of arrival may be among those that a search by arrival wants."""
    begins = day.replace("-", "")
    first, last = f"{begins}T000000.000000Z", f"{begins}~"
    low, high = "", "~"
    if query.since is not None:
        low = id_from(query.since)
    if query.until is not None:
        high = id_from(query.until)
    if query.after is not None and query.oldest_first:
        low = max(low, query.after.id)
    elif query.after is not None:
        high = min(high, query.after.id)
    return low < last and first < high


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
