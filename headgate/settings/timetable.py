"""The timetable: another share of the link at certain hours of the week. Pure.

An entry is ``"Mon-Fri 08:00-18:00 10%"``: days, hours, share. Days or hours may be left out (every
day, the whole day); hours may run past midnight and then belong to the day on which they begin.
Entries are judged by what a clock on the wall shows at each moment, so a change of clocks needs no
rule of its own: an hour that is shown twice is judged twice, one that is not shown never.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from headgate.settings.units import Percent, UnitError, parse_percent

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = 24 * 60  # minutes
_WEEK = 7 * _DAY
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_EXAMPLE = '"Mon-Fri 08:00-18:00 10%"'
_LOOK_AHEAD = _WEEK + _DAY  # a week, and what a change of clocks may add


@dataclass(frozen=True, slots=True)
class TimetableEntry:
    """One line of the timetable; its minutes of the week are counted from Monday 00:00."""

    text: str  # as the owner wrote it
    days: tuple[int, ...]  # 0 is Monday
    start: int  # minutes after midnight
    end: int  # later than ``start``; above 24 hours it is the next day's
    share: Percent

    def __str__(self) -> str:
        return self.text

    def covers(self, minute: int) -> bool:
        """Whether it holds in this minute of the week."""
        return any(
            (minute - day * _DAY - self.start) % _WEEK < self.end - self.start for day in self.days
        )

    def spans(self) -> Iterator[tuple[int, int]]:
        """The minutes of the week that it covers, each [first, last + 1) within one week."""
        for day in self.days:
            start, end = day * _DAY + self.start, day * _DAY + self.end
            yield start, min(end, _WEEK)
            if end > _WEEK:
                yield 0, end - _WEEK


def parse_entry(text: str) -> TimetableEntry:
    """``"Mon-Fri 08:00-18:00 10%"``, ``"Sat,Sun 100%"``, ``"22:00-06:00 0%"``; UnitError says what
    is wrong."""
    words = re.sub(r"\s*([-,])\s*", r"\1", text.strip()).split()
    if not 2 <= len(words) <= 3 or not words[-1].endswith("%"):
        raise UnitError(f"{text!r} is not days, hours and a share; write it like {_EXAMPLE}")
    days, hours = tuple(range(7)), (0, _DAY)
    try:
        if len(words) == 3:
            days, hours = _days(words[0]), _hours(words[1])
        elif ":" in words[0]:
            hours = _hours(words[0])
        else:
            days = _days(words[0])
        return TimetableEntry(text.strip(), days, *hours, parse_percent(words[-1]))
    except UnitError as error:
        raise UnitError(f"{text!r}: {error}") from error


def _days(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        day, until = _day(first), _day(last if dash else first)
        found |= {(day + more) % 7 for more in range((until - day) % 7 + 1)}
    return tuple(sorted(found))


def _day(word: str) -> int:
    if word not in DAYS:
        raise UnitError(f"{word!r} is not a day; write {', '.join(DAYS)}")
    return DAYS.index(word)


def _hours(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not dash:
        raise UnitError(f"{text!r} has no end; write hours like 08:00-18:00")
    start, end = _minute(first), _minute(last)
    if start == end:
        raise UnitError(f"{text!r} begins where it ends; leave the hours out for the whole day")
    if start == _DAY:
        raise UnitError(f"{text!r} begins at 24:00; write 00:00 of the next day")
    return start, end if end > start else end + _DAY


def _minute(text: str) -> int:
    match = _TIME.fullmatch(text)
    minute = int(match[1]) * 60 + int(match[2]) if match else _DAY + 1
    if minute > _DAY or (match and int(match[2]) > 59):
        raise UnitError(f"{text!r} is not a time of day; write it like 08:00, up to 24:00")
    return minute


def parse(texts: Sequence[str]) -> tuple[TimetableEntry, ...]:
    """Read a whole timetable. Entries that overlap are refused: no one should have to know which
    of two lines wins."""
    entries = tuple(parse_entry(text) for text in texts)
    spans = sorted((span, entry.text) for entry in entries for span in entry.spans())
    for ((_, end), text), ((start, _), other) in pairwise(spans):
        if start < end:
            day, at = divmod(start, _DAY)
            raise UnitError(
                f"{text!r} and {other!r} overlap: which share applies on {DAYS[day]} at "
                f"{at // 60:02}:{at % 60:02}?"
            )
    return entries


def entry_at(entries: Sequence[TimetableEntry], local: datetime) -> TimetableEntry | None:
    """The entry that holds at this moment of the wall clock; None: the share of the settings."""
    minute = local.weekday() * _DAY + local.hour * 60 + local.minute
    return next((entry for entry in entries if entry.covers(minute)), None)


def share_at(entries: Sequence[TimetableEntry], local: datetime, otherwise: Percent) -> Percent:
    """The share in force; ``otherwise`` outside all entries."""
    entry = entry_at(entries, local)
    return otherwise if entry is None else entry.share


def next_change(
    entries: Sequence[TimetableEntry],
    now: datetime,
    otherwise: Percent,
    local: Callable[[datetime], datetime],
) -> datetime | None:
    """The first full minute after ``now`` (an instant) at which another share holds.

    ``local`` says what the wall clock shows at an instant. None if the share never changes.
    """
    before = share_at(entries, local(now), otherwise)
    at = now.replace(second=0, microsecond=0)
    for _ in range(_LOOK_AHEAD if entries else 0):
        at += timedelta(minutes=1)
        if share_at(entries, local(at), otherwise) != before:
            return at
    return None
