"""Forecasts: when the backlog is gone, when the disk is full, when waiting helps. Pure.

The one place for them: the page, ``headgate status``, metrics, ``make drain`` and the
receiver's Retry-After all ask here. The backlog is moved on minute by minute: by what comes in at
that hour of the day, less what may go out then. Images are moved like bytes: each takes an inode.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.spool.budget.daily import Daily
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count

_BUSY_MINUTES = 3
"""The number of minutes with a backlog from start to end that show what the network carries."""
_STEP = timedelta(minutes=1)
_LONG_STEP = timedelta(hours=1)
_BY_MINUTE = timedelta(hours=4)
HORIZON = timedelta(days=14)
"""How far ahead is looked."""
_DOUBT_LEAST, _DOUBT_MOST = 0.02, 0.5
_HISTORY = timedelta(hours=24)
_WAIT_LEAST, _WAIT_MOST = 5.0, 3600.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """An expected instant, the earliest that is likely, and the latest: None, if never."""

    at: datetime
    earliest: datetime
    latest: datetime | None


@dataclass(frozen=True, slots=True)
class Point:
    """The backlog in bytes at an instant."""

    at: datetime
    backlog: float


class Doubt(StrEnum):
    """Why it is unknown when the backlog will be gone."""

    NONE = ""
    NO_RUN = "no run"  # none came by itself, or the next one is overdue
    NEVER_CONFIRMED = "never confirmed"
    NOTHING_CONFIRMED = "nothing confirmed"  # what was tried lately
    UPLINK_DOWN = "uplink down"
    RUNS_FAIL = "runs fail"


@dataclass(frozen=True, slots=True)
class Forecast:
    """When no image waits any more, and when the disk's bytes and its inodes run out; None: not
    within two weeks, or unknown (``doubt``). Rates are bytes of images a second."""

    empty: Estimate | None = None
    full: Estimate | None = None
    inodes: Estimate | None = None
    received_per_second: float = 0.0
    carried_per_second: float = 0.0
    doubt: Doubt = Doubt.NONE  # of ``empty``


@dataclass(frozen=True, slots=True)
class Outlook:
    """The input of a forecast."""

    now: datetime
    waiting: Count
    room: Count  # above the floor, with the copies that may be pruned; images: inodes
    rate_at: Callable[[datetime], int]  # bytes a second that images may use at an instant
    minutes: Sequence[Flow]  # the last intervals, minute by minute, the present one left out
    hours: Sequence[Flow]  # the last days, hour by hour, the present one left out
    doubt: Doubt = Doubt.NONE  # then nothing is expected to go out
    measured: float | None = None  # bytes a second that a run sees confirmed now
    daily: Daily | None = None


def forecast(outlook: Outlook) -> Forecast:
    """When the backlog is gone and when bytes or inodes run out, each with how early and how
    late."""
    backlog, room = outlook.waiting, outlook.room
    span = list(_instants(outlook))  # for two walks
    ahead, doubt = _steps(outlook, span, lambda count: count.bytes, 1.0)
    steps = list(ahead)
    empty, full = _walks(
        _Scene(outlook.now, backlog.bytes, room.bytes, outlook.daily), steps, doubt
    )
    each = _mean_size(outlook)
    daily = None if outlook.daily is None else outlook.daily / each
    ahead, doubt = _steps(outlook, span, lambda count: count.images, each)
    scene = _Scene(outlook.now, backlog.images, room.images, daily)
    _, inodes = _walks(scene, list(ahead), doubt)
    return Forecast(
        empty=None if outlook.doubt else empty,
        full=full,
        inodes=inodes,
        received_per_second=steps[0].came,
        carried_per_second=0.0 if _spent(outlook.daily) else steps[0].carried,
        doubt=outlook.doubt,
    )


def wait_for_room(outlook: Outlook, missing_bytes: int, chance: float) -> int | None:
    """Seconds after which this many more bytes will have gone out; None if nothing goes out now.

    From 5 s to an hour, with 25 % jitter from ``chance`` (0 to 1), so that all clients that were
    refused at once do not come back at once.
    """
    if _spent(outlook.daily):
        return None
    carried, left, seconds = _carried(outlook), float(missing_bytes), 0.0
    for at, step in _ahead(outlook.now):
        gone = carried(at) * step
        if seconds == 0 and not gone:
            return None
        if gone >= left or seconds >= _WAIT_MOST:
            seconds += step * min(1.0, left / gone) if gone else step
            break
        left -= gone
        seconds += step
    return math.ceil(min(_WAIT_MOST, max(_WAIT_LEAST, seconds)) * (0.75 + chance / 2))


def departure(outlook: Outlook, ahead_bytes: int) -> datetime | None:
    """When these bytes have left and the next image begins, if nothing new goes before them; None:
    not within two weeks, or unknown (``outlook.doubt``)."""
    steps = [_Step(at, sec, 0.0, goes, day) for at, sec, goes, day in _instants(outlook)]
    scene = _Scene(outlook.now, float(ahead_bytes + 1), math.inf, outlook.daily)
    return _walk(scene, steps, 1.0)[0]


def course(outlook: Outlook, *, by_minute: timedelta, until: timedelta) -> Iterator[Point]:
    """The backlog that ``forecast`` expects, step by step: minutes at first, then hours."""
    steps, _ = _steps(outlook, _instants(outlook, by_minute, until), lambda count: count.bytes, 1.0)
    scene = _Scene(outlook.now, outlook.waiting.bytes, math.inf, outlook.daily)
    for move in _moves(scene, steps, 1.0):
        yield Point(move.step.at + timedelta(seconds=move.step.seconds), max(0.0, move.after))


def _spent(daily: Daily | None) -> bool:
    return daily is not None and daily.used >= daily.allowance


def _mean_size(outlook: Outlook) -> float:
    """The mean size of images that wait, or else of those that came lately; 1 B where there are
    none."""
    came = sum((flow.received for flow in outlook.minutes), Count())
    known = outlook.waiting if outlook.waiting.images else came
    return max(1.0, known.bytes / known.images) if known.images else 1.0


def _arrivals(
    outlook: Outlook, measure: Callable[[Count], int]
) -> tuple[Callable[[datetime], float], float]:
    """What will come in a second at an instant, and the part of it that is in doubt.

    Lately's rate; once there is a day of history, each hour of the day has its own, scaled by how
    lately compares with that hour's.
    """
    lately = [measure(flow.received) / (60 * flow.minutes) for flow in _filled(outlook)]
    if not lately:
        return (lambda _when: 0.0), _DOUBT_MOST
    mean = statistics.fmean(lately)
    spread = statistics.pstdev(lately) / math.sqrt(len(lately)) / mean if mean else _DOUBT_MOST
    doubt = min(_DOUBT_MOST, max(_DOUBT_LEAST, 2 * spread))
    by_hour: dict[int, list[float]] = {}
    for flow in outlook.hours:
        by_hour.setdefault(flow.at.hour, []).append(measure(flow.received) / (60 * flow.minutes))
    if not outlook.hours or outlook.now - outlook.hours[0].at < _HISTORY or len(by_hour) < 24:
        return (lambda _when: mean), doubt
    usual = {hour: statistics.fmean(found) for hour, found in by_hour.items()}
    here = usual[outlook.now.hour]
    return (lambda when: mean if not here else usual[when.hour] * mean / here), doubt


def _filled(outlook: Outlook) -> list[Flow]:
    """The last minutes, those in which nothing happened included."""
    if not outlook.minutes:
        return []
    by_minute = {flow.at: flow for flow in outlook.minutes}
    empty = outlook.minutes[0]
    found, at = [], empty.at
    last = outlook.now.replace(second=0, microsecond=0)
    while at < last:
        quiet = Flow(at, 1, empty.received - empty.received, empty.uploaded - empty.uploaded, 0)
        found.append(by_minute.get(at, quiet))
        at += _STEP
    return found


def _carried(outlook: Outlook) -> Callable[[datetime], float]:
    """Bytes of images a second that go out at an instant while there are any: what the cap allows,
    or what the network was seen to carry in minutes that began and ended with a backlog, in the
    middle of a run: something went in the minutes before and after as well. What a run measures
    now counts instead."""
    if outlook.doubt:
        return lambda _when: 0.0
    if outlook.measured is not None and (allowed := outlook.rate_at(outlook.now)):
        part = min(1.0, outlook.measured / allowed)
        return lambda when: outlook.rate_at(when) * part
    backlog = outlook.waiting.bytes
    seen: list[float] = []
    minutes = _filled(outlook)
    for number in range(len(minutes) - 1, 0, -1):
        flow = minutes[number]
        before = backlog + flow.uploaded.bytes - flow.received.bytes
        allowed = outlook.rate_at(flow.at) * 60
        running = all(one.uploaded.images for one in minutes[number - 1 : number + 2])
        if running and allowed and min(before, backlog) > allowed / 10:
            seen.append(flow.uploaded.bytes / allowed)
        backlog = before
    used = statistics.fmean(seen) if len(seen) >= _BUSY_MINUTES else 1.0
    return lambda when: outlook.rate_at(when) * min(1.0, used)


@dataclass(frozen=True, slots=True)
class _Step:
    """What comes and goes from ``at`` on for this many seconds, in bytes or images a second."""

    at: datetime
    seconds: float
    came: float
    carried: float
    day: int


@dataclass(frozen=True, slots=True)
class _Scene:
    """The state from which a forecast starts, in bytes or images."""

    now: datetime
    backlog: float
    room: float
    daily: Daily | None


def _ahead(
    now: datetime, by_minute: timedelta = _BY_MINUTE, until: timedelta = HORIZON
) -> Iterator[tuple[datetime, float]]:
    """Instants and the seconds to the next: minutes, then whole hours, when days and timetables
    change."""
    at = now
    while at - now < min(by_minute, until):
        yield at, _STEP.total_seconds()
        at += _STEP
    step = _LONG_STEP - (at - at.replace(minute=0, second=0, microsecond=0))
    while at - now < until:
        yield at, step.total_seconds()
        at, step = at + step, _LONG_STEP


def _instants(
    outlook: Outlook, by_minute: timedelta = _BY_MINUTE, until: timedelta = HORIZON
) -> Iterator[tuple[datetime, float, float, int]]:
    """The steps ahead: of each its seconds, the bytes a second that go out, and its day."""
    carried = _carried(outlook)
    day = (lambda _at: 0) if outlook.daily is None else outlook.daily.day
    for at, seconds in _ahead(outlook.now, by_minute, until):
        yield at, seconds, carried(at), day(at)


def _steps(
    outlook: Outlook,
    span: Iterable[tuple[datetime, float, float, int]],
    measure: Callable[[Count], int],
    each: float,
) -> tuple[Iterator[_Step], float]:
    """What comes and goes, in units of ``each`` bytes, and the part of it that is in doubt."""
    came, doubt = _arrivals(outlook, measure)
    return (_Step(at, sec, came(at), goes / each, day) for at, sec, goes, day in span), doubt


def _walks(
    scene: _Scene, steps: Sequence[_Step], doubt: float
) -> tuple[Estimate | None, Estimate | None]:
    """When the backlog is gone, and when there is no room any more."""
    empty, full = _walk(scene, steps, 1.0)
    calm, never = _walk(scene, steps, 1 - doubt)
    late, soon = _walk(scene, steps, 1 + doubt)
    return (
        None if empty is None else Estimate(empty, calm or empty, late),
        None if full is None else Estimate(full, soon or full, never),
    )


@dataclass(frozen=True, slots=True)
class _Move:
    """What one step does to the backlog; ``after`` is below zero where more could have gone."""

    step: _Step
    before: float
    came: float
    goes: float
    after: float


def _moves(scene: _Scene, steps: Iterable[_Step], more: float) -> Iterator[_Move]:
    """The backlog's way if ``more`` times as much comes in."""
    backlog, daily = scene.backlog, scene.daily
    left: dict[int, float] = {}
    for step in steps:
        came, goes = step.came * more * step.seconds, step.carried * step.seconds
        if daily is not None:
            today = daily.allowance - (0.0 if left else daily.used)
            goes = max(0.0, min(goes, left.setdefault(step.day, today)))
            left[step.day] -= min(goes, backlog + came)
        after = backlog + came - goes
        yield _Move(step, backlog, came, goes, after)
        backlog = max(0.0, after)


def _walk(
    scene: _Scene, steps: Sequence[_Step], more: float
) -> tuple[datetime | None, datetime | None]:
    """When the backlog is gone and when there is no room, if ``more`` times as much comes in; each
    None if not within the horizon."""
    full_at_backlog = scene.backlog + scene.room
    empty_at = scene.now if scene.backlog <= 0 else None
    full_at = scene.now if scene.room <= 0 else None
    for move in _moves(scene, steps, more):
        if empty_at is not None and full_at is not None:
            break
        step = move.step
        if empty_at is None and move.after <= 0:
            # At its own rate, which a day's allowance does not slow before it is spent.
            pace = step.carried - step.came * more
            empty_at = step.at + timedelta(seconds=min(step.seconds, move.before / pace))
        if full_at is None and move.after >= full_at_backlog:
            part = (full_at_backlog - move.before) / (move.came - move.goes)
            full_at = step.at + timedelta(seconds=step.seconds * part)
    return empty_at, full_at
