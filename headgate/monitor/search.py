"""What a person asks for in a search, by a command or on the page, read once for both.

The fields have the names of the command's flags. Times and numbers are written as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from headgate.settings.instants import read_instant
from headgate.settings.units import UnitError
from headgate.spool.image.image import GONE, State
from headgate.spool.image.names import device_name
from headgate.spool.query import After, By, Query
from headgate.spool.spool import Spool

SHOWN = frozenset(State) - GONE
"""Which states are meant where none is named."""


class Misread(Exception):
    """A field that says nothing that can be searched for: its name, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field, self.why = field, why


@dataclass(frozen=True, slots=True)
class Wanted:
    """The fields as they were written; an empty one does not matter."""

    device: str = ""
    since: str = ""
    until: str = ""
    by: By = By.ARRIVAL
    states: frozenset[State] = SHOWN
    sequence: str = ""
    tags: tuple[str, ...] = ()
    cursor: str = ""
    limit: int = 20


def query(spool: Spool, wanted: Wanted) -> Query:
    """What is asked of the spool; Misread if a field says nothing of its kind."""
    now = spool.now()

    def instant(field: str, text: str, *, end: bool = False) -> datetime | None:
        try:
            return read_instant(text, now, end=end) if text.strip() else None
        except UnitError as error:
            raise Misread(field, str(error)) from error

    return Query(
        device=device_name(wanted.device) if wanted.device else "",
        since=instant("since", wanted.since),
        until=instant("until", wanted.until, end=True),
        by=wanted.by,
        states=wanted.states,
        sequences=numbers(wanted.sequence),
        tags=tuple(_tag(text) for text in wanted.tags if text.strip()),
        after=_after(spool, wanted.cursor, wanted.by),
        limit=wanted.limit,
    )


def numbers(text: str, field: str = "sequence") -> tuple[int, int] | None:
    """The first and the last of ``17`` or ``17-40``, None of an empty text; Misread otherwise."""
    if not (text := text.strip()):
        return None
    first, dash, last = text.partition("-")
    if not _is_number(first) or (dash and not _is_number(last)):
        raise Misread(field, "write one number or two, like 17 or 17-40")
    low, high = int(first), int(last or first)
    if high < low or high >= 2**63:
        raise Misread(field, "the first number comes first, and both are below 2**63")
    return low, high


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def states(words: Iterable[str]) -> frozenset[State]:
    """These states; those that are shown if no state is named. Misread for another word."""
    try:
        return frozenset(map(State, words)) or SHOWN
    except ValueError as error:
        raise Misread("state", f"choose one of {', '.join(State)}") from error


def _tag(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name.strip(), value.strip() if equals else None


def _after(spool: Spool, cursor: str, by: By) -> After | None:
    if not cursor:
        return None
    if by is By.ARRIVAL:
        return After(cursor)
    receipt = spool.receipt(cursor)
    if receipt is None or receipt.captured_at is None:
        why = f"{cursor} is no image with a time of capture; begin at the first page"
        raise Misread("cursor", why)
    return After(cursor, receipt.captured_at)
