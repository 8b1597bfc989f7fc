"""What will be, from what was: when the backlog is gone, when the disk is full, when waiting helps.

Pure, and the one place for it: the page, ``headgate status``, metrics, ``make drain`` and the
receiver's Retry-After all ask here. The backlog is moved on minute by minute: by what comes in at
that hour of the day, less what may go out then.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from spool.facts import Estimate, Flow, Forecast, Run

_INTERVALS = 6
"""How far back runs still say something about the next ones."""
_BUSY_MINUTES = 3
"""So many minutes with a backlog from start to end tell what the network carries."""
_STEP = timedelta(minutes=1)
_LONG_STEP = timedelta(hours=1)
_MINUTES_BY_ONE = 240
_HORIZON = timedelta(days=14)
_DOUBT_LEAST, _DOUBT_MOST = 0.02, 0.5
_HISTORY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a forecast goes by."""

    now: datetime
    waiting_bytes: int
    room_bytes: int  # above the floor, with the copies that may be pruned
    rate_at: Callable[[datetime], int]  # bytes a second that images may use at an instant
    minutes: Sequence[Flow]  # the last intervals, minute by minute, the present one left out
    hours: Sequence[Flow]  # the last days, hour by hour, the present one left out
    uplink_down: bool = False


def forecast(outlook: Outlook) -> Forecast:
    """When the backlog is gone and when the disk is full, each with how early and how late."""
    came, doubt = _arrivals(outlook)
    carried = _carried(outlook)
    steps = [
        _Step(at, seconds, came(at), 0.0 if outlook.uplink_down else carried(at))
        for at, seconds in _ahead(outlook.now)
    ]

    def at(change: float) -> tuple[datetime | None, datetime | None]:
        return _walk(outlook, steps, 1 + change)

    empty, full = at(0.0)
    calm, _ = at(-doubt)
    late, soon = at(doubt)
    _, never = at(-doubt)
    return Forecast(
        empty=None
        if outlook.uplink_down or empty is None
        else Estimate(empty, calm or empty, late),
        full=None if full is None else Estimate(full, soon or full, never),
        received_per_second=steps[0].came,
        carried_per_second=steps[0].carried,
    )


def _arrivals(outlook: Outlook) -> tuple[Callable[[datetime], float], float]:
    """Bytes a second that will come in at an instant, and the part of it that is in doubt.

    Lately's rate; once there is a day of history, each hour of the day has its own, scaled by how
    lately compares with that hour's.
    """
    lately = [flow.received.bytes / (60 * flow.minutes) for flow in _filled(outlook)]
    if not lately:
        return (lambda _when: 0.0), _DOUBT_MOST
    mean = statistics.fmean(lately)
    spread = statistics.pstdev(lately) / math.sqrt(len(lately)) / mean if mean else _DOUBT_MOST
    doubt = min(_DOUBT_MOST, max(_DOUBT_LEAST, 2 * spread))
    by_hour: dict[int, list[float]] = {}
    for flow in outlook.hours:
        by_hour.setdefault(flow.at.hour, []).append(flow.received.bytes / (60 * flow.minutes))
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
    middle of a run: something went in the minutes before and after as well."""
    backlog = outlook.waiting_bytes
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
    """From ``at`` on for so many seconds, in bytes a second."""

    at: datetime
    seconds: float
    came: float
    carried: float


def _ahead(now: datetime) -> Iterator[tuple[datetime, float]]:
    at = now
    for number in range(10**6):
        step = _STEP if number < _MINUTES_BY_ONE else _LONG_STEP
        if at - now >= _HORIZON:
            return
        yield at, step.total_seconds()
        at += step


def _walk(
    outlook: Outlook, steps: Sequence[_Step], more: float
) -> tuple[datetime | None, datetime | None]:
    """When the backlog is gone, and when the disk is full, if ``more`` times as much comes in; each
    None if not within the horizon."""
    backlog = float(outlook.waiting_bytes)
    full_at_backlog = backlog + outlook.room_bytes
    empty_at = outlook.now if backlog <= 0 else None
    full_at = outlook.now if outlook.room_bytes <= 0 else None
    for step in steps:
        if empty_at is not None and full_at is not None:
            break
        change = (step.came * more - step.carried) * step.seconds
        after = backlog + change
        if empty_at is None and after <= 0:
            empty_at = step.at + timedelta(seconds=step.seconds * backlog / -change)
        if full_at is None and after >= full_at_backlog:
            part = (full_at_backlog - backlog) / change
            full_at = step.at + timedelta(seconds=step.seconds * part)
        backlog = max(0.0, after)
    return empty_at, full_at


def drained_per_second(runs: Sequence[Run], now: datetime, interval_seconds: int) -> float:
    """Bytes of images that runs carried away a second, lately; 0.0 if there is nothing to go by.

    Over the time since the first of these runs began, pauses between them included.
    """
    since = now - timedelta(seconds=_INTERVALS * interval_seconds)
    recent = [run for run in runs if run.started_at >= since]
    if not recent:
        return 0.0
    seconds = max(1.0, (now - min(run.started_at for run in recent)).total_seconds())
    return sum(run.bytes for run in recent) / seconds


def wait_for_room(
    missing_bytes: int,
    runs: Sequence[Run],
    now: datetime,
    interval_seconds: int,
    chance: float,
) -> int | None:
    """Seconds after which so many more bytes may be free; None if nothing tells.

    From 5 s to an hour, a quarter more or less by ``chance`` (0 to 1), so that all who were
    refused at once do not come back at once.
    """
    rate = drained_per_second(runs, now, interval_seconds)
    if rate <= 0:
        return None
    seconds = min(3600.0, max(5.0, missing_bytes / rate))
    return math.ceil(seconds * (0.75 + chance / 2))
