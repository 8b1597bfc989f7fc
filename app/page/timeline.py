"""One device's arrivals as bars over time, with its silences and gaps. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from app.page.chart import Range

WIDTH, HEIGHT = 720, 64
"""The drawing's own units; it is shown as wide as there is room."""
_LEAST = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of the drawing, in its units."""

    x: float
    width: float
    y: float = 0.0
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Silence:
    """A time without images, longer than is usual for the device. ``ended`` False: it lasts."""

    since: datetime
    until: datetime
    ended: bool
    bar: Bar

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()


@dataclass(frozen=True, slots=True)
class Timeline:
    """``most``: images in the busiest step."""

    bars: tuple[Bar, ...]
    silences: tuple[Silence, ...]
    gaps: tuple[float, ...]  # where, from left to right
    images: int
    most: int


def timeline(
    minutes: Mapping[datetime, int],
    gaps: Sequence[tuple[datetime, int]],
    now: datetime,
    range_: Range,
    quiet_seconds: float,
) -> Timeline:
    """Draw the minutes in which images arrived, oldest first, as bars. ``quiet_seconds``: after so
    long the device counts as silent; 0: that is not known, and no silence is drawn."""
    since = range_.begins(now)
    span = now - since
    step = timedelta(minutes=range_.step_minutes)
    counts: dict[int, int] = {}
    for at, images in minutes.items():
        if since <= at <= now:
            counts[(at - since) // step] = counts.get((at - since) // step, 0) + images
    most = max(counts.values(), default=0)
    width = WIDTH * (step / span)
    bars = []
    for number, images in sorted(counts.items()):
        height = max(_LEAST, (HEIGHT - 8) * images / most)
        x = WIDTH * (number * step / span)
        shown = max(0.5, min(width * 0.85, WIDTH - x))
        bars.append(Bar(round(x, 1), round(shown, 1), round(HEIGHT - height, 1), round(height, 1)))

    def across(at: datetime) -> float:
        return round(min(WIDTH, max(0.0, WIDTH * ((at - since) / span))), 1)

    silences = []
    if quiet_seconds:
        ends = [*minutes, now]
        for before, after in pairwise(ends):
            if (after - before).total_seconds() > quiet_seconds and after > since:
                start = across(before)
                bar = Bar(start, round(across(after) - start, 1))
                silences.append(Silence(before, after, after is not now, bar))
    return Timeline(
        bars=tuple(bars),
        silences=tuple(silences),
        gaps=tuple(across(at) for at, _ in gaps if since <= at <= now),
        images=sum(counts.values()),
        most=most,
    )
