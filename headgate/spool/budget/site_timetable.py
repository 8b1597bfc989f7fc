"""The timetable of a site whose gateways share one uplink.

The timetable that was changed last, in the settings of any gateway, is the site's. Each gateway
keeps it on its disk, with a version, and compares its own settings with what they said before: only
a change counts, so a gateway that joins, or that was left out of a change, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from headgate.settings import timetable
from headgate.settings.timetable import TimetableEntry
from headgate.spool.budget.memory import Memory

TIMETABLE = "timetable"
"""The memory of the site's timetable: its version, whose change it was, since when, its entries."""
_SETTINGS = "timetable_of_settings"
"""The memory of what this gateway's own settings said when a command last read them."""


@dataclass(frozen=True, slots=True)
class SiteTimetable:
    """The timetable in force at all gateways, and whose change it was."""

    entries: tuple[TimetableEntry, ...]
    gateway: str
    since: datetime
    differs: bool  # this gateway's own settings have another one, which is not used

    @property
    def origin(self) -> str:
        """Whose it is and since when, for people."""
        return f"from {self.gateway}, since {self.since:%a %d %b %H:%M} UTC"

    @property
    def words(self) -> str:
        """The same, and a warning where this gateway's settings say something else."""
        differs = "; uplink.timetable here differs and is not used" if self.differs else ""
        return self.origin + differs

    @property
    def worth_saying(self) -> bool:
        """False where there are no entries, and the settings here have none either."""
        return bool(self.entries) or self.differs


@lru_cache(maxsize=8)
def _parsed(texts: tuple[str, ...]) -> tuple[TimetableEntry, ...]:
    return timetable.parse(texts)


def held(memory: Memory) -> SiteTimetable | None:
    """The site's timetable as this gateway knows it; None: it knows of none yet."""
    found = memory.get(TIMETABLE)
    if not found:
        return None
    texts = found["entries"]
    own = memory.get(_SETTINGS)
    return SiteTimetable(
        _parsed(tuple(texts)),
        str(found["gateway"]),
        datetime.fromisoformat(found["since"]),
        own is not None and not _same(own, texts),
    )


def notice(memory: Memory, entries: Sequence[TimetableEntry], gateway: str, now: datetime) -> bool:
    """Make a change of this gateway's settings the site's timetable; whether there was one. Only
    for a command that has just read its settings: a program that runs for long has old ones."""
    own = [entry.text for entry in entries]
    before, known = memory.get(_SETTINGS), memory.get(TIMETABLE)
    changed = before is not None and not _same(before, own)
    if changed and not (known and _same(known["entries"], own)):
        version = max((known or {"version": 0})["version"] + 1, int(now.timestamp() * 1000))
        _put(memory, own, gateway, now, version)
    if before != own:
        memory.put(_SETTINGS, own)
    return changed


def begin(memory: Memory, entries: Sequence[TimetableEntry], gateway: str, now: datetime) -> None:
    """The other gateways know of no timetable, and neither does this one: its own is the first.
    Its version is lower than that of any change."""
    if memory.get(TIMETABLE) is None:
        _put(memory, [entry.text for entry in entries], gateway, now, 1)


def follow(memory: Memory, theirs: Mapping[str, Any]) -> bool:
    """Take over the site's timetable if it is newer than the one here; whether it was. KeyError,
    TypeError or ValueError for what cannot be read."""
    mine = memory.get(TIMETABLE) or {"version": 0, "gateway": ""}
    newer = (theirs["version"], theirs["gateway"]) > (mine["version"], mine["gateway"])
    if newer:
        _parsed(tuple(theirs["entries"]))  # or what another version wrote would stop every run
        datetime.fromisoformat(theirs["since"])
        memory.put(TIMETABLE, dict(theirs))
    return newer


def _put(memory: Memory, texts: list[str], gateway: str, now: datetime, version: int) -> None:
    memory.put(
        TIMETABLE,
        {"version": version, "gateway": gateway, "since": now.isoformat(), "entries": texts},
    )


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two timetables say the same, however they are written."""
    if list(one) == list(other):
        return True

    def meaning(texts: Sequence[str]) -> list[tuple[Any, ...]]:
        return sorted((e.days, e.start, e.end, e.share.hundredths) for e in _parsed(tuple(texts)))

    return meaning(one) == meaning(other)
