"""What came and went lately as two curves against the cap, as paths of an SVG. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headgate.spool.catalog.traffic import Flow

WIDTH, HEIGHT = 720, 160
"""The drawing's own units; it is shown as wide as there is room."""
_CAP_SHOWN = 6
"""A cap this many times above the busiest step would flatten the curves: it is text instead."""
_AIR = 1.08


class Range(enum.Enum):
    """How far back the chart goes: its name in addresses, in words, in minutes, and in how many
    minutes each step is."""

    HOUR = ("1h", "last hour", 60, 1)
    DAY = ("24h", "last 24 hours", 24 * 60, 10)
    WEEK = ("7d", "last 7 days", 7 * 24 * 60, 60)

    def __init__(self, word: str, said: str, minutes: int, step_minutes: int) -> None:
        self.word = word
        self.said = said
        self.span = timedelta(minutes=minutes)
        self.step_minutes = step_minutes

    @classmethod
    def named(cls, word: str) -> Range:
        """The day for any other word."""
        return next((one for one in cls if one.word == word), cls.DAY)

    def begins(self, now: datetime) -> datetime:
        """The beginning of the step that ``now`` less the span is in."""
        return _floor(now - self.span, self.step_minutes)

    @property
    def ticks(self) -> tuple[str, ...]:
        """Five words below the chart, from its left edge to its right."""
        return {
            Range.HOUR: ("1 h ago", "45 min", "30 min", "15 min", "now"),
            Range.DAY: ("24 h ago", "18 h", "12 h", "6 h", "now"),
            Range.WEEK: ("7 d ago", "5 d 6 h", "3 d 12 h", "1 d 18 h", "now"),
        }[self]


@dataclass(frozen=True, slots=True)
class Curves:
    """Both curves as paths of an SVG. Rates are bytes a minute."""

    came: str  # the path's "d", closed along the bottom; empty: nothing came
    went: str  # open; empty: nothing went
    cap_y: float | None  # None: far above, or there is no cap now
    top: float  # the rate at the upper edge
    came_peak: float
    went_peak: float
    came_bytes: int
    went_bytes: int


def curves(
    flow: Sequence[Flow], now: datetime, cap_per_minute: float, range_: Range = Range.DAY
) -> Curves:
    """Draw what came in and went out in the time before ``now``. What went out is what left on the
    wire, where that is known, else the bytes of the images that were confirmed."""
    since = now - range_.span
    steps = {one.at: one for one in flow if one.at > since - timedelta(minutes=one.minutes)}
    minutes = range_.step_minutes
    came: list[tuple[float, float]] = []
    went: list[tuple[float, float]] = []
    at = _floor(since, minutes)
    while at <= now:
        one = steps.get(at)
        x = max(0.0, WIDTH * ((at - since) / range_.span))
        # The step that runs is not over: a rate is of the minutes that have passed.
        passed = min(float(minutes), max(1.0, (now - at).total_seconds() / 60))
        came.append((x, 0.0 if one is None else one.received.bytes / passed))
        went.append((x, 0.0 if one is None else _left(one) / passed))
        at += timedelta(minutes=minutes)
    came_peak, went_peak = max(y for _, y in came), max(y for _, y in went)
    peak = max(came_peak, went_peak)
    shown = 0 < cap_per_minute <= _CAP_SHOWN * peak or (peak <= 0 < cap_per_minute)
    top = _AIR * max(peak, cap_per_minute if shown else 0.0, 1.0)
    return Curves(
        came=f"{_path(came, top)}V{HEIGHT}H0Z" if came_peak else "",
        went=_path(went, top) if went_peak else "",
        cap_y=round(_y(cap_per_minute, top), 1) if shown else None,
        top=top,
        came_peak=came_peak,
        went_peak=went_peak,
        came_bytes=sum(one.received.bytes for one in steps.values()),
        went_bytes=sum(_left(one) for one in steps.values()),
    )


def _left(one: Flow) -> int:
    return max(one.sent_bytes, one.uploaded.bytes)


def _floor(at: datetime, minutes: int) -> datetime:
    step = 60 * minutes
    return at - timedelta(seconds=at.timestamp() % step)


def _y(rate: float, top: float) -> float:
    return HEIGHT * (1 - rate / top)


def _path(points: Sequence[tuple[float, float]], top: float) -> str:
    """Steps: each rate holds until the next begins."""
    first_x, first = points[0]
    parts = [f"M{first_x:.1f} {_y(first, top):.1f}"]
    before = first
    for x, rate in points[1:]:
        if rate != before:
            parts.append(f"H{x:.1f}V{_y(rate, top):.1f}")
            before = rate
    parts.append(f"H{WIDTH}")
    return "".join(parts)
