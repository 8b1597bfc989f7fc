"""The wall: every camera's latest picture, those that need a person first. Pure."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from headgate.host.clock import CLOCK_OFF_SECONDS
from headgate.monitor.devices import OTHERS_MAX, DeviceFacts
from headgate.settings.units import human_duration
from headgate.spool.image.names import device_shown
from headgate.spool.site.alerts import Alert
from headgate.spool.site.labels import Label

A_PAGE = 60
"""Cameras on one page: whole rows of 2, 3, 4, 5 and 6."""
QUERY_MAX = 100
_NUMBERS = re.compile(r"([0-9]{1,18})")


class Need(enum.StrEnum):
    """How a camera does, the most urgent first."""

    SILENT = "silent"
    NEVER = "never sent"
    TROUBLED = "needs a look"
    UNKNOWN = "no rhythm known"  # so it cannot be said whether it is late
    WELL = "on time"

    @property
    def is_urgent(self) -> bool:
        """Whether a person should look at this camera."""
        return self in (Need.SILENT, Need.NEVER, Need.TROUBLED)


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera as the wall shows it. ``notes`` say what there is to know of it, the most urgent
    first."""

    facts: DeviceFacts
    shown: str  # what people call it, else the name that it gave itself
    group: str
    need: Need
    notes: tuple[str, ...]
    held: str = ""  # by whom and why its images are held; "" if they are not


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of the wall someone wants to see."""

    query: str = ""
    group: str = ""
    urgent_only: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class Wall:
    """One page of the wall. ``urgent`` counts among all cameras, ``found`` those that were asked
    for. ``others_max``: how many without a token are looked at, if others may be left out."""

    cameras: tuple[Camera, ...]
    page: int
    pages: int
    found: int
    total: int
    urgent: int
    groups: tuple[str, ...]
    others_max: int = 0


def wall(
    devices: Iterable[DeviceFacts],
    alerts: Sequence[Alert],
    labels: Mapping[str, Label],
    now: datetime,
    asked: Asked,
    held: Mapping[str, str] | None = None,
) -> Wall:
    """The page that was asked for, or the nearest that there is. ``held``: devices whose images a
    person holds, and why."""
    of_device: dict[str, list[Alert]] = {}
    for alert in alerts:
        if alert.bad and alert.subject:
            of_device.setdefault(alert.subject, []).append(alert)
    every = [
        camera(
            one,
            of_device.get(one.device, ()),
            labels.get(one.device, Label()),
            now,
            (held or {}).get(one.device, ""),
        )
        for one in devices
    ]
    every.sort(key=lambda one: (list(Need).index(one.need), *_by_number(one.shown)))
    found = [one for one in every if _is_asked(one, asked)]
    strangers = sum(not one.facts.enrolled for one in every)
    pages = max(1, math.ceil(len(found) / A_PAGE))
    page = min(max(1, asked.page), pages)
    return Wall(
        cameras=tuple(found[(page - 1) * A_PAGE : page * A_PAGE]),
        page=page,
        pages=pages,
        found=len(found),
        total=len(every),
        urgent=sum(one.need.is_urgent for one in every),
        groups=tuple(sorted({one.group for one in every} - {""}, key=str.casefold)),
        others_max=OTHERS_MAX if strangers >= OTHERS_MAX else 0,
    )


def _by_number(name: str) -> tuple[list[tuple[str, int]], str]:
    """Orders "Gate 2" before "Gate 10"."""
    parts = _NUMBERS.split(name.casefold())
    numbers = [*map(int, parts[1::2]), 0]
    return list(zip(parts[::2], numbers, strict=True)), name


def _is_asked(one: Camera, asked: Asked) -> bool:
    if asked.urgent_only and not one.need.is_urgent:
        return False
    if asked.group and one.group != asked.group:
        return False
    words = asked.query.casefold().split()
    if not words:
        return True
    own = device_shown(one.facts.device)
    text = f"{one.shown} {own} {one.facts.device} {one.group}".casefold()
    return all(word in text for word in words)


def camera(
    one: DeviceFacts, alerts: Iterable[Alert], label: Label, now: datetime, held: str = ""
) -> Camera:
    """Judge one camera by its facts; ``alerts`` are those about it."""
    silent = one.is_silent(now)
    troubles = [*_troubles(one, alerts)]
    if silent:
        need = Need.SILENT
    elif one.last_at is None:
        need = Need.NEVER
    elif troubles:
        need = Need.TROUBLED
    else:
        need = Need.WELL if one.quiet_seconds else Need.UNKNOWN
    usual = f"usually every {human_duration(one.usual_seconds)}" if one.usual_seconds else ""
    remarks = [] if one.enrolled else ["not enrolled"]
    if one.warned:
        remarks.append(f"{one.warned:,} of {one.images:,} with a warning: {one.last_warning}")
    notes = (*([usual] if silent and usual else []), *troubles, *remarks)
    return Camera(one, label.label or device_shown(one.device), label.group, need, notes, held)


def _troubles(one: DeviceFacts, alerts: Iterable[Alert]) -> Iterable[str]:
    if one.unusable.lately:
        every = one.unusable.lately + one.unusable.good
        yield f"{one.unusable.lately} of the last {every} unusable"
    if one.missing:
        yield f"{one.missing:,} never arrived"
    if one.clock_offset_seconds is not None and abs(one.clock_offset_seconds) >= CLOCK_OFF_SECONDS:
        yield f"clock {clock_words(one.clock_offset_seconds)}"
    known = ("device-silent", "device-gaps", "device-unusable", "device-clock")
    yield from (alert.sentence for alert in alerts if alert.code not in known)


def clock_words(offset: float | None) -> str:
    """How a device's clock goes, compared with this machine's."""
    if offset is None:
        return "unknown"
    if abs(offset) < CLOCK_OFF_SECONDS:
        return "correct"
    return f"{human_duration(abs(offset))} {'ahead' if offset > 0 else 'behind'}"
