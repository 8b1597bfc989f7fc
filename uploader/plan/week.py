"""A usual week of a site, minute by minute: what may leave, and how a backlog fares. Pure.

Nothing is computed in a second way here: the timetable, the parts of the rate, the day's allowance
and the walk of a backlog are those that the product itself works by. Instants are those of the
clock on the wall, in a week without a change of clocks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from headgate.monitor.forecast import HORIZON, Outlook, course
from headgate.settings import timetable
from headgate.settings.timetable import TimetableEntry
from headgate.settings.units import Percent
from headgate.spool.budget import slots
from headgate.spool.budget.daily import Daily
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import NONE, Count
from uploader.plan.terms import Arrivals, Terms
from uploader.run.bounds import pick_seconds

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
"""Where the week of a plan begins, by the clock on the wall."""
DAY_SECONDS = 86_400
_DAY, _WEEK, _MINUTE = timedelta(days=1), timedelta(days=7), timedelta(minutes=1)
_HOURS_A_WEEK, _MINUTES_A_DAY, _MINUTES_A_WEEK = 7 * 24, 24 * 60, 7 * 24 * 60


class Week:
    """What may leave in each minute of a week, and how a backlog fares in it. ``mean`` and
    ``carried`` are bytes of images a second; ``between_runs`` arrive from one run to the next."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        uplink, arrivals = terms.uplink, terms.arrivals
        self.carried = _carried(terms)
        daily = slots.drain_part(uplink.daily) * arrivals.content_part if uplink.daily else None
        self._daily = None if daily is None else Daily(daily, 0.0, datetime.toordinal)
        by_day = (
            60 * sum(self.carried[first : first + _MINUTES_A_DAY])
            for first in range(0, _MINUTES_A_WEEK, _MINUTES_A_DAY)
        )
        per_week = sum(day if daily is None else min(day, daily) for day in by_day)
        self.mean = per_week / _WEEK.total_seconds()
        self.between_runs = max(arrivals.by_hour) * uplink.interval
        self._by_the_hour = all(
            len(set(self.carried[first : first + 60])) == 1
            for first in range(0, _MINUTES_A_WEEK, 60)
        )
        self._flat = (
            len(set(self.carried)) == 1 and daily is None and len(set(arrivals.by_hour)) == 1
        )

    def usual(self) -> list[float]:
        """The backlog at the beginning of each hour of the second week of a site that began with
        none; what waits for its run is not in it."""
        if self._flat:
            return [0.0] * _HOURS_A_WEEK
        found = [0.0] * _HOURS_A_WEEK
        by_minute = timedelta(0) if self._by_the_hour else HORIZON
        for point in course(self._outlook(MONDAY, 0.0, MONDAY), by_minute=by_minute, until=HORIZON):
            if point.at > MONDAY + _WEEK:
                hour = _hour_of_week(point.at)
                found[hour] = max(found[hour], point.backlog)
        return found

    def worst_outage(self, usual: Sequence[float]) -> tuple[float, float | None]:
        """The highest backlog, and the longest time to recover, whenever the outage begins."""
        found = {hour: self._outage(usual, hour, timedelta(0)) for hour in self._starts()}
        times = {hour: recover for hour, (_, recover) in found.items() if recover is not None}
        longest = max(times.values()) if len(times) == len(found) else None
        if longest is not None:  # to a minute: these were steps of an hour
            span = timedelta(seconds=self._terms.outage_seconds + longest + 3600)
            near = [hour for hour, seconds in times.items() if seconds >= longest - 3600]
            again = (self._outage(usual, hour, span)[1] for hour in near)
            longest = max(seconds for seconds in again if seconds is not None)
        return max(peak for peak, _ in found.values()), longest

    def recovers(self) -> bool:
        """Whether more may leave than arrives, and an outage's backlog is gone in two weeks."""
        if self.mean <= self._terms.arrivals.bytes_per_second:
            return False
        usual = self.usual()
        return all(
            self._outage(usual, hour, timedelta(0))[1] is not None for hour in self._starts()
        )

    def _starts(self) -> range:
        """The hours of the week at which an outage may begin, but for those that are like others.
        All are tried: whether a pause comes just before the backlog is gone makes leaps."""
        if self._flat:
            return range(1)
        day = self.carried[:_MINUTES_A_DAY]
        return range(24 if self.carried == day * 7 else _HOURS_A_WEEK)

    def _outage(
        self, usual: Sequence[float], hour: int, by_minute: timedelta
    ) -> tuple[float, float | None]:
        """Of one that begins at this hour. Nothing leaves until the first run after its end."""
        outage = timedelta(seconds=self._terms.outage_seconds)
        start = MONDAY + timedelta(hours=hour)
        ends = start + outage
        again = ends + timedelta(seconds=self._terms.uplink.interval)
        first = again - start + _MINUTE
        peak, recover = 0.0, None
        outlook = self._outlook(start, usual[hour], again)
        for point in course(outlook, by_minute=max(first, by_minute), until=first + HORIZON):
            peak = max(peak, point.backlog)
            if point.at > again and not point.backlog:  # then it is as if there had been none
                recover = (point.at - ends).total_seconds()
                break
        return peak, recover

    def _outlook(self, now: datetime, backlog: float, silent_until: datetime) -> Outlook:
        arrivals = self._terms.arrivals
        hours = [
            Flow(now + timedelta(hours=number) - _DAY, 60, _count(arrivals, at * 3600), NONE, 0)
            for number in range(24)
            for at in [arrivals.at(now.hour + number)]
        ]
        lately = _count(arrivals, arrivals.at(now.hour) * DAY_SECONDS)
        return Outlook(
            now=now,
            waiting=Count(round(backlog / arrivals.image_bytes), round(backlog)),
            room=NONE,
            rate_at=lambda at: 0 if at < silent_until else int(self.carried[_minute_of_week(at)]),
            minutes=[Flow(now - _MINUTE, _MINUTES_A_DAY, lately, NONE, 0)],
            hours=hours,
            daily=self._daily,
        )


def _carried(terms: Terms) -> list[float]:
    """Bytes of images a second that leave in each minute of the week, while any wait."""
    uplink, arrivals = terms.uplink, terms.arrivals
    picks = pick_seconds(uplink.interval, by_queue=uplink.trigger == "queue") / uplink.interval
    batch = min(
        uplink.batch_bytes or math.inf, (uplink.batch_images or math.inf) * arrivals.image_bytes
    )
    most = batch * terms.gateways / uplink.interval

    def of(share: Percent) -> float:
        return min(slots.drain_part(share.of(uplink.link)) * arrivals.content_part * picks, most)

    if not uplink.timetable:
        return [of(uplink.share)] * _MINUTES_A_WEEK
    entries = _entries(uplink.timetable)
    rates = {entry: of(uplink.share if entry is None else entry.share) for entry in set(entries)}
    return [rates[entry] for entry in entries]


@functools.lru_cache(maxsize=4)
def _entries(entries: tuple[TimetableEntry, ...]) -> list[TimetableEntry | None]:
    """Which one holds in each minute of the week; a search for a share asks many times."""
    minutes = (MONDAY + number * _MINUTE for number in range(_MINUTES_A_WEEK))
    return [timetable.entry_at(entries, at) for at in minutes]


def _count(arrivals: Arrivals, size: float) -> Count:
    return Count(round(size / arrivals.image_bytes), round(size))


def _minute_of_week(at: datetime) -> int:
    return int((at - MONDAY) / _MINUTE) % _MINUTES_A_WEEK


def _hour_of_week(at: datetime) -> int:
    return _minute_of_week(at) // 60
