"""What a search for images asks, and how each of the databases is asked.

All of them order images alike: by their ids, which begin with the time of arrival, or by time of
capture and then id. A page goes on behind the last image of the page before, so its cost does not
grow with how many came before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from headgate.spool.image.image import Receipt, State, encode_tags
from headgate.spool.sqlite import stamp

MINUTES = """
    SELECT substr(id, 1, 13), count(*) FROM images WHERE device = ? AND id >= ? GROUP BY 1
    """
DAYS = """
    SELECT substr(id, 1, 8), count(*), sum(size) FROM images WHERE device = ? AND id >= ? GROUP BY 1
    """
"""Arrivals of a device by minute and by day; an index on (device, id) answers them."""


class By(StrEnum):
    """Which time counts, for the bounds and for the order."""

    ARRIVAL = "arrival"
    CAPTURE = "capture"


@dataclass(frozen=True, slots=True)
class After:
    """The image behind which a page goes on."""

    id: str
    captured: datetime | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Which images; what is left at its default does not matter. ``until`` is the first instant
    that is too late, and ``sequences`` are the first and the last number."""

    device: str = ""
    since: datetime | None = None
    until: datetime | None = None
    by: By = By.ARRIVAL
    states: frozenset[State] = frozenset(State)
    sequences: tuple[int, int] | None = None
    tags: tuple[tuple[str, str | None], ...] = ()  # None: any value
    after: After | None = None
    oldest_first: bool = False
    limit: int = 20

    def order(self, receipt: Receipt) -> tuple[float, str]:
        """The sort key of a receipt, across several databases."""
        captured = receipt.captured_at if self.by is By.CAPTURE else None
        return (captured.timestamp() if captured else 0.0, receipt.id)

    def merge(self, found: Sequence[Receipt]) -> list[Receipt]:
        """Merge what several databases found, in order, each image once: of two with one id the
        later one of the list counts, and so does an image that moved on between two looks."""
        once = {receipt.id: receipt for receipt in found}
        return sorted(once.values(), key=self.order, reverse=not self.oldest_first)


@dataclass(frozen=True, slots=True)
class Page:
    """The receipts of a search, in order; ``more``: there are others behind the last one."""

    receipts: tuple[Receipt, ...]
    more: bool

    @property
    def cursor(self) -> str:
        """The id behind which the next page begins; empty where there is none."""
        return self.receipts[-1].id if self.more else ""


def every(find: Callable[[Query], Page], query: Query) -> Iterator[Receipt]:
    """Walk through all that a search by arrival finds, page by page; images that go meanwhile are
    passed over."""
    while True:
        page = find(query)
        yield from page.receipts
        if not page.more:
            return
        query = replace(query, after=After(page.cursor))


def id_from(at: datetime) -> str:
    """No image that arrived at this time or later has a smaller id, and each earlier one has."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def _as_written(name: str, value: str | None) -> str:
    """The text that the tags of an image contain if this one is among them."""
    if value is None:
        return f"{json.dumps(name, ensure_ascii=False)}:"
    return encode_tags({name: value})[1:-1]


def where(query: Query, *, searchable: bool = True) -> tuple[str, list[object]]:
    """A condition and an order for SQL, with their values and one more row than a page holds.

    ``searchable``: the table has the columns ``captured`` and ``tags``. A ``+`` keeps SQLite from
    an index: which one is best follows from what is asked, and it has no statistics to know that.
    """
    parts: list[str] = []
    values: list[object] = []

    def must(condition: str, *more: object) -> None:
        parts.append(condition)
        values.extend(more)

    by_capture = query.by is By.CAPTURE
    by_sequence = query.sequences is not None and bool(query.device)
    ident = "+id" if by_capture or by_sequence else "id"
    bound: Callable[[datetime], object] = stamp if by_capture else id_from
    time = "captured" if by_capture else ident
    if not searchable and (by_capture or query.tags):
        return "0", []
    if query.device:
        must(f"{'+' if by_capture and not by_sequence else ''}device = ?", query.device)
    if query.sequences is not None:
        must("sequence BETWEEN ? AND ?", *query.sequences)
    if by_capture:
        must(f"{'+' if by_sequence else ''}captured IS NOT NULL")
    if query.since is not None:
        must(f"{time} >= ?", bound(query.since))
    if query.until is not None:
        must(f"{time} < ?", bound(query.until))
    if query.tags and not (query.device or by_capture or by_sequence):
        must("tags <> ''")  # so that an index of the rows with tags will do
    for name, value in query.tags:
        same = "" if value is None else " AND value = ?"
        tags = "json_each(iif(tags = '', '{}', tags))"
        # Most rows have no such text, and finding that out takes a tenth of reading their JSON.
        must("instr(tags, ?)", _as_written(name, value))
        must(
            f"EXISTS (SELECT 1 FROM {tags} WHERE key = ?{same})",
            name,
            *([] if value is None else [value]),
        )
    sign, way = (">", "ASC") if query.oldest_first else ("<", "DESC")
    if query.after is not None and by_capture:
        at = stamp(query.after.captured) if query.after.captured else 0
        must(f"captured {sign}= ?", at)
        must(f"(captured, id) {sign} (?, ?)", at, query.after.id)
    elif query.after is not None:
        must(f"{ident} {sign} ?", query.after.id)
    order = f"captured {way}, id {way}" if by_capture else f"{ident} {way}"
    condition = " AND ".join(parts) or "1"
    return f"{condition} ORDER BY {order} LIMIT ?", [*values, query.limit + 1]
