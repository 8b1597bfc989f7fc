"""One gateway, second by second: its cameras, its runs, and what each second may hold. Pure.

What decides is the product's: which image goes next (``uploader.run.pick``), what a second may
hold (``headgate.spool.budget.slots``), when a run picks (``uploader.run.bounds``). An image here
stands for ``grain`` of them, so that a day takes seconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from headgate.spool.budget import slots
from headgate.spool.image.image import Item
from uploader.run.bounds import pick_seconds
from uploader.run.pick import Picker

_LOOK_SECONDS = 10
_PICK_IMAGES = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """A site and its day. Sizes and rates in bytes and seconds; ``down`` are outages, each from
    one second until another."""

    cameras: int
    images_per_minute: float
    image_bytes: int
    head_bytes: int
    rate: int
    interval: int
    seconds: int
    down: tuple[tuple[int, int], ...] = ()
    grain: int = 1
    order: str = "mixed"


@dataclass(frozen=True, slots=True)
class Sender:
    """The part of an image's name that a pick reads."""

    device: str


@dataclass(slots=True)
class Picture:
    """The part of an image that a pick reads, and when it came."""

    name: Sender
    size: int
    arrival: int
    came: int


@dataclass(slots=True)
class Cameras:
    """What waits of each camera, in order of arrival. Images leave from both ends alone."""

    waiting: dict[str, list[Picture]]
    low: dict[str, int] = field(default_factory=dict)

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        """All with an image; none is urgent here."""
        if urgent:
            return []
        return [name for name, held in self.waiting.items() if self.low.get(name, 0) < len(held)]

    def oldest_of(self, device: str, after: int, limit: int, *, urgent: bool) -> list[Item]:
        """As the catalog answers."""
        held, low = self.waiting[device], self.low.get(device, 0)
        first = max(low, bisect_right(held, after, key=lambda one: one.arrival))
        return cast(list[Item], [] if urgent else held[first : first + limit])

    def newest_of(self, device: str, before: int | None, limit: int, *, urgent: bool) -> list[Item]:
        """As the catalog answers."""
        held, low = self.waiting[device], self.low.get(device, 0)
        end = len(held)
        if before is not None:
            end = bisect_left(held, before, key=lambda one: one.arrival)
        return cast(list[Item], [] if urgent else held[max(low, end - limit) : end][::-1])

    def claim(self, picked: list[Picture]) -> None:
        """These leave."""
        for one in sorted(picked, key=lambda one: one.arrival):
            held, low = self.waiting[one.name.device], self.low.get(one.name.device, 0)
            if held[low] is one:
                self.low[one.name.device] = low + 1
        for one in sorted(picked, key=lambda one: -one.arrival):
            held, low = self.waiting[one.name.device], self.low.get(one.name.device, 0)
            if len(held) > low and held[-1] is one:
                held.pop()


@dataclass(frozen=True, slots=True)
class Second:
    """What one second held, and how things stood at its end."""

    at: int
    sent: int  # bytes on the wire
    backlog: int  # bytes of images, those being sent included
    images: int
    ages: tuple[int, ...]  # of the images that were finished in it
    newest: int | None  # the least of them


@dataclass(slots=True)
class _Run:
    picker: Picker
    began: int
    looked: int = -_LOOK_SECONDS


def day(scenario: Scenario, chance: Callable[[], float]) -> Iterator[Second]:
    """Each second of it. ``chance`` (0 to 1) makes sizes and the cameras' phases."""
    names = [f"cam-{number:04}" for number in range(scenario.cameras)]
    source = Cameras({name: [] for name in names})
    size = scenario.image_bytes * scenario.grain
    per_second = scenario.images_per_minute / scenario.grain / 60
    due, arrival, backlog, images = 0.0, 0, 0, 0
    run: _Run | None = None
    served: dict[str, int] = {}
    line: list[Picture] = []  # picked, in order; the first is being sent
    done = 0  # bytes of it that have left
    last_charged = -2
    for at in range(scenario.seconds):
        due += per_second
        while due >= 1:
            due -= 1
            arrival += 1
            name = names[int(chance() * len(names)) % len(names)]
            bytes_ = max(1, int(size * (0.5 + chance())))
            source.waiting[name].append(Picture(Sender(name), bytes_, arrival, at))
            backlog, images = backlog + bytes_, images + 1
        is_down = any(first <= at < last for first, last in scenario.down)
        if at % scenario.interval == 0 and run is None and not is_down:
            run = _Run(Picker(source, served, scenario.order), max(at, last_charged + 2))
        if run is None or is_down or at < run.began:
            if is_down and run is not None:
                run = None  # the next one sends again what was under way
                done = 0
            yield Second(at, 0, backlog, images, (), None)
            continue
        picks = at % scenario.interval < pick_seconds(scenario.interval, by_queue=False)
        rate = slots.drain_part(scenario.rate)
        charges: dict[int, int] = {}
        ages = []
        while True:
            if not line and picks:
                line = _pick(run, source, at, rate - charges.get(at, 0))
            if not line:
                break
            whole = line[0].size + scenario.head_bytes * scenario.grain
            granted = slots.grant(whole - done, charges, at, rate)
            if not granted:
                break
            charges[at] = charges.get(at, 0) + granted
            done += granted
            if done >= whole:
                sent, done = line.pop(0), 0
                backlog, images = backlog - sent.size, images - 1
                ages.append(at - sent.came)
        sent_bytes = charges.get(at, 0)
        last_charged = at if sent_bytes else last_charged
        served = run.picker.served
        if not line and (not picks or not sent_bytes):
            run = None
        yield Second(at, sent_bytes, backlog, images, tuple(ages), min(ages, default=None))


def _pick(run: _Run, source: Cameras, at: int, room: int) -> list[Picture]:
    look = at - run.looked >= _LOOK_SECONDS
    if look:
        run.looked = at
    picked: list[Any] = run.picker.pick(_PICK_IMAGES, max(1, room), look=look)
    source.claim(picked)
    return picked


def percentile(values: list[int], part: float) -> float:
    """Of sorted values; NaN of none."""
    if not values:
        return math.nan
    return float(values[min(len(values) - 1, int(part * len(values)))])
