"""The clock: who keeps it, how far it is off, and the zone that the timetable goes by. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headgate.monitor.rules import CLOCK_OFF, S3_CLOCK_OFF
from headgate.settings.units import human_duration
from uploader.cli.doctor.findings import Finding, ok, warning


@dataclass(frozen=True, slots=True)
class Clock:
    """What the kernel, the programs that keep it, and S3 say of this machine's clock."""

    synchronised: bool | None  # the kernel's word (adjtimex(2)); None where it gives none
    keeper: str  # "chronyd", "systemd-timesyncd", ...; "" if none is seen
    s3_offset_seconds: float | None  # S3's clock minus ours, when a run last saw it
    zone: str  # "Europe/Berlin", "UTC", ...
    has_timetable: bool


def judge(clock: Clock) -> Iterator[Finding]:
    """A wrong clock loses nothing: requests are signed with S3's time."""
    off = clock.s3_offset_seconds
    mend = "timedatectl set-ntp true" if clock.keeper else "apt-get install systemd-timesyncd"
    if off is not None and abs(off) >= CLOCK_OFF.wrong:
        yield warning("clock", S3_CLOCK_OFF.format(off=human_duration(abs(off))), mend)
    if clock.synchronised is False:
        who = f"{clock.keeper} runs, but has not set it" if clock.keeper else "no time service runs"
        yield warning("clock", f"it is not synchronised: {who}", mend)
    elif clock.synchronised:
        yield ok("clock", f"it is synchronised{f', by {clock.keeper}' if clock.keeper else ''}")
    if clock.has_timetable and clock.zone in ("UTC", "Etc/UTC", ""):
        yield warning(
            "timetable",
            "uplink.timetable uses local time, and this machine's time zone is UTC",
            "timedatectl set-timezone Europe/Berlin (or the site's zone)",
        )
    elif clock.has_timetable:
        yield ok("timetable", f"uplink.timetable uses {clock.zone}")
