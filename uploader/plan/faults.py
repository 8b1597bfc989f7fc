"""The numbers of a plan that cannot hold, each with what to change it to. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from headgate.settings.table import UplinkSettings
from headgate.settings.units import (
    Percent,
    counted,
    format_duration,
    format_rate,
    human_duration,
    human_size,
)
from headgate.spool.budget import slots
from uploader.plan.terms import Terms
from uploader.plan.week import DAY_SECONDS, Week

_WHOLE = 10_000  # hundredths of a percent
_SPARE_PERCENT = (2, 5, 10, 25, 50)


class Limit(StrEnum):
    """What cannot hold."""

    CAP = "cap"
    DAILY = "daily"
    BATCH_IMAGES = "batch_images"
    BATCH_BYTES = "batch_bytes"
    FLOORS = "floors"
    RECOVERY = "recovery"
    DISK = "disk"
    INODES = "inodes"


@dataclass(frozen=True, slots=True)
class Fault:
    """A number that cannot hold: the setting or flag to change, and the value that would do."""

    limit: Limit
    change: str
    to: str
    sentence: str


def faults_of(
    terms: Terms, week: Week, peak: float, recover_seconds: float | None
) -> Iterator[Fault]:
    """All of them. A disk is judged only where the backlog has a highest point."""
    rates = [*_faults_of_rates(terms, week)]
    if not rates and recover_seconds is None:
        rates.append(_slow_recovery(terms))
    yield from rates
    if terms.floor * terms.gateways > terms.uplink.share.of(terms.uplink.link):
        yield _floors(terms)
    if not rates:
        yield from _faults_of_disk(terms, week, peak)


def _least(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The least number that holds, where every larger one does; None if none up to ``high``."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _faults_of_rates(terms: Terms, week: Week) -> Iterator[Fault]:
    """Where more arrives than can ever leave."""
    uplink, arrivals = terms.uplink, terms.arrivals
    wanted = arrivals.bytes_per_second
    said = f"{_per_minute(wanted)} of images arrive"
    per_run = wanted * uplink.interval / terms.gateways
    images = math.ceil(per_run / arrivals.image_bytes)
    if uplink.batch_images and uplink.batch_images < images:
        yield Fault(
            Limit.BATCH_IMAGES,
            "uplink.batch_images",
            str(images),
            f"{counted(images, 'image', ('arrives', 'arrive'))} in "
            f"{format_duration(uplink.interval)}, and a run sends "
            f"{uplink.batch_images:,}: set uplink.batch_images to more than {images:,}, or 0",
        )
    if uplink.batch_bytes and uplink.batch_bytes < per_run:
        yield Fault(
            Limit.BATCH_BYTES,
            "uplink.batch_bytes",
            f"{math.ceil(per_run)}B",
            f"{human_size(per_run)} arrive in {format_duration(uplink.interval)}, and a run sends "
            f"{human_size(uplink.batch_bytes)}: set uplink.batch_bytes to more, or leave it empty",
        )
    free = replace(uplink, daily=0, batch_images=0, batch_bytes=0)
    carried = Week(replace(terms, uplink=free)).mean
    if carried <= wanted:
        yield _larger(terms, free, Limit.CAP, f"{said}, and {_per_minute(carried)} can leave")
    elif uplink.daily and min(carried, _of_daily(terms, uplink.daily)) <= wanted:
        to = _rounded_up(_enough_for_a_day(terms))
        yield Fault(
            Limit.DAILY,
            "uplink.daily",
            to,
            f"{human_size(wanted * DAY_SECONDS)} of images arrive in a day, and uplink.daily is "
            f"{human_size(uplink.daily)}: set it to {to}",
        )


def _enough_for_a_day(terms: Terms) -> int:
    """An allowance that the backlog of an outage leaves something of as well."""
    least = _least(
        terms.uplink.daily,
        2**62,
        lambda size: _of_daily(terms, size) > terms.arrivals.bytes_per_second,
    )
    assert least is not None
    sizes = [least * (100 + more) // 100 for more in _SPARE_PERCENT]
    enough = (one for one in sizes if _recovers(terms, replace(terms.uplink, daily=one)))
    return next(enough, sizes[-1])


def _of_daily(terms: Terms, daily: int) -> float:
    return slots.drain_part(daily) * terms.arrivals.content_part / DAY_SECONDS


def _recovers(terms: Terms, uplink: UplinkSettings) -> bool:
    return Week(replace(terms, uplink=uplink)).recovers()


def _slow_recovery(terms: Terms) -> Fault:
    outage = format_duration(terms.outage_seconds)

    said = f"after an outage of {outage} the backlog is not gone in two weeks"
    free = replace(terms.uplink, daily=0)
    if terms.uplink.daily and _recovers(terms, free):
        return Fault(
            Limit.RECOVERY, "uplink.daily", "", f"{said}: uplink.daily is too little for that"
        )
    whole = replace(terms.uplink, batch_images=0, batch_bytes=0)
    if whole != terms.uplink and _recovers(terms, whole):
        key = "batch_images" if terms.uplink.batch_images else "batch_bytes"
        return Fault(
            Limit.RECOVERY,
            f"uplink.{key}",
            "",
            f"{said}: let a run send more than what arrives, by uplink.{key}",
        )
    return _larger(terms, terms.uplink, Limit.RECOVERY, said)


def _larger(terms: Terms, uplink: UplinkSettings, limit: Limit, said: str) -> Fault:
    """What would let more leave: a larger share, another timetable, or another link."""

    def holds(uplink: UplinkSettings) -> bool:
        return _recovers(terms, uplink)

    def with_share(hundredths: int) -> UplinkSettings:
        return replace(uplink, share=Percent(hundredths))

    share = _least(uplink.share.hundredths, _WHOLE, lambda one: holds(with_share(one)))
    if share is not None:
        to = str(Percent(share))
        return Fault(limit, "uplink.share", to, f"{said}: set uplink.share to {to}")
    if holds(replace(with_share(_WHOLE), timetable=())):
        return Fault(
            limit,
            "uplink.timetable",
            "",
            f"{said}, whatever uplink.share is: raise the shares of uplink.timetable",
        )
    mb = _least(uplink.link // 10**6, 10**9, lambda mb: holds(replace(uplink, link=mb * 10**6)))
    to = format_rate((mb or 0) * 10**6)
    return Fault(
        limit,
        "uplink.link",
        to,
        f"{said}, even with all of the link: at this share it needs an uplink.link of {to}",
    )


def _floors(terms: Terms) -> Fault:
    rate = terms.uplink.share.of(terms.uplink.link)
    to = format_rate(rate // terms.gateways)
    return Fault(
        Limit.FLOORS,
        "uplink.floor",
        to,
        f"{terms.gateways} gateways with a floor of {format_rate(terms.floor)} each are above the "
        f"cap of {format_rate(rate)}: set uplink.floor to {to} or less",
    )


def _faults_of_disk(terms: Terms, week: Week, peak: float) -> Iterator[Fault]:
    disk, arrivals = terms.disk, terms.arrivals
    if disk is None:
        return
    each = peak / terms.gateways
    change = "--disk" if disk.given else "spool.path"
    outage = format_duration(terms.outage_seconds)
    if each > disk.room():
        to = _rounded_up(disk.size_for(each))
        held = (disk.room() * terms.gateways - week.between_runs) / arrivals.bytes_per_second
        held = max(0.0, held - terms.uplink.interval)
        yield Fault(
            Limit.DISK,
            change,
            to,
            f"an outage of {outage} fills {human_size(each)} of each gateway's disk, which has "
            f"{human_size(disk.room())} for it, enough for {human_duration(held // 60 * 60)}: it "
            f"needs a disk of {to}",
        )
    files = math.ceil(each / arrivals.image_bytes)
    if disk.inodes and files > disk.inodes:
        yield Fault(
            Limit.INODES,
            change,
            str(files),
            f"an outage of {outage} needs {files:,} inodes, and the disk has {disk.inodes:,} free: "
            "make its file system with more",
        )


def _rounded_up(size: float) -> str:
    """A size for people that is no less, in three digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(1.0, size))) - 2)
    return f"{human_size(math.ceil(size / unit) * unit)}".replace(" ", "")


def _per_minute(rate: float) -> str:
    return f"{human_size(rate * 60)} a minute"
