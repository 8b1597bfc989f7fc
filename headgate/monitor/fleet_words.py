"""What people read of the gateways of a site: the same words for ``headgate fleet status`` and the
page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from headgate.monitor.checks import images_word
from headgate.monitor.fleet import Fleet, GatewayReport, Member, Totals
from headgate.monitor.rules import Level
from headgate.settings.instants import read_rfc3339
from headgate.settings.units import counted, human_duration, human_size

_NONE = "-"
_DIFFERS = "its uplink.timetable differs from the site's, and is not used"
_STATES = {Level.BAD: "serious", Level.WARN: "warning", Level.NOTE: "ok", Level.OK: "ok"}


@dataclass(frozen=True, slots=True)
class Line:
    """One gateway, in words; ``remark``: what is wrong there, or what to do."""

    gateway: str
    seen_at: datetime
    level: Level
    state: str
    remark: str = ""
    waiting: str = _NONE
    bytes: str = _NONE
    oldest: str = _NONE
    rate: str = _NONE
    floor: str = ""
    used: str = _NONE
    empty: str = _NONE  # when no image waits any more
    full: str = _NONE
    free: str = _NONE
    version: str = _NONE


def lines(found: Fleet, now: datetime) -> list[Line]:
    """Each gateway; those first that need a look."""
    every = [_line(one, now) for one in found.members]
    return sorted(every, key=lambda line: -list(Level).index(line.level))  # stable: by name


def _line(one: Member, now: datetime) -> Line:
    level, state, remark = Level.BAD, "silent", "see whether it runs, and reaches Redis"
    report = one.report
    if not one.silent:
        if report is None:
            remark = "its report cannot be read: is it of another version?"
            return Line(one.gateway, one.seen_at, Level.WARN, "no report", remark)
        level, state, remark = report.level, _STATES[report.level], report.sentence
        if report.unaccounted:
            level, state, remark = Level.BAD, _STATES[Level.BAD], _missing(report.unaccounted)
        if report.timetable_differs and level not in (Level.BAD, Level.WARN):
            level, state, remark = Level.WARN, _STATES[Level.WARN], _DIFFERS
    if report is None:
        return Line(one.gateway, one.seen_at, level, state, remark)
    return Line(
        one.gateway,
        one.seen_at,
        level,
        state,
        remark,
        waiting=f"{report.waiting:,}",
        bytes=human_size(report.waiting_bytes),
        oldest=human_duration(report.oldest_seconds) if report.waiting else _NONE,
        rate=f"{human_size(report.rate)}/s",
        floor=_floor(report),
        used=f"{human_size(report.used)}/s",
        empty=_left(report.empty_at, now) if report.waiting else _NONE,
        full=_left(report.full_at, now),
        free=human_size(report.free_bytes),
        version=report.version,
    )


def _floor(report: GatewayReport) -> str:
    """How much of its rate is its own, where that is not all."""
    if report.not_shared:
        return "its floor: it borrows nothing"
    return "" if report.floor == report.rate else f"{human_size(report.floor)}/s its own"


def _left(at: str | None, now: datetime) -> str:
    instant = read_rfc3339(at)
    return _NONE if instant is None else human_duration(max(0.0, (instant - now).total_seconds()))


def _missing(images: int) -> str:
    if images < 0:
        return f"{images_word(-images)} known but never received: headgate verify there"
    return f"{images_word(images)} received and in no known state: headgate verify there"


def law(sums: Totals) -> str:
    """The conservation law over all gateways, with the numbers as they are."""
    parts = (
        (sums.waiting, "waiting"), (sums.sending, "sending"), (sums.held, "held"),
        (sums.set_aside, "set aside"), (sums.uploaded, "uploaded"),
        (sums.discarded, "discarded"), (sums.purged, "purged"), (sums.lost, "lost"),
    )  # fmt: skip
    known = " + ".join(f"{number:,} {word}" for number, word in parts)
    rest = f", and {sums.unaccounted:,} unaccounted for" if sums.unaccounted else ""
    return f"{sums.received:,} received = {known}{rest}"


def timetable(found: Fleet) -> str:
    """Whose timetable the gateways follow, and since when; "" where there is none."""
    followed: dict[str, list[str]] = {}
    for one in found.members:
        if one.report is not None and one.report.timetable and not one.silent:
            followed.setdefault(one.report.timetable, []).append(one.gateway)
    if len(followed) < 2:
        return next((f"timetable {origin}" for origin in followed), "")
    each = (f"{origin}, at {', '.join(names)}" for origin, names in followed.items())
    return f"timetable not yet the same everywhere: {'; '.join(each)}"


def sentence(found: Fleet) -> str:
    """How the site does, by the most serious thing that a gateway reports."""
    return next(_wrong(found), _well(found))


def _wrong(found: Fleet) -> Iterator[str]:
    silent, count = found.silent, len(found.members)
    if silent:
        named = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if silent[3:] else "")
        are = "is" if len(silent) == 1 else "are"
        yield f"{len(silent)} of {counted(count, 'gateway')} {are} silent: {named}."
    if sums := found.totals.unaccounted:
        yield f"{images_word(abs(sums))} cannot be accounted for; headgate verify at each gateway."
    for level in (Level.BAD, Level.WARN):
        for one in found.members:
            if one.report is not None and one.report.level is level and one.report.sentence:
                yield f"{one.gateway}: {one.report.sentence}."
    for one in found.members:
        if one.report is not None and one.report.timetable_differs:
            yield f"{one.gateway}: {_DIFFERS}."


def _well(found: Fleet) -> str:
    count = len(found.members)
    if not count:
        return "No gateway has reported yet; headgate watch does so each minute."
    waits = images_word(found.totals.waiting)
    return f"{counted(count, 'gateway')} report{'s' if count == 1 else ''}; {waits} waiting."
