"""How wrong a clock may be, and whether the wall clock can be trusted to judge age. Pure."""

from __future__ import annotations

from dataclasses import dataclass

CLOCK_OFF_SECONDS = 60
"""From here on a clock is called off, a device's or this machine's: more than NTP ever leaves, and
enough to confuse people who compare times."""
S3_REFUSES_SECONDS = 900
"""S3 refuses a request whose time is further off (RequestTimeTooSkewed)."""
SIGNED_ALL_THE_SAME = (
    "Requests are signed with the server's time where it refuses this one; days, the timetable and "
    "what the credentials need go by this clock."
)
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The wall clock, the seconds since boot, and which boot."""

    wall: float
    uptime: float
    boot: str


def suspicious_until(last: Seen | None, now: Seen, until: float) -> float:
    """The uptime before which nothing may be deleted for its age.

    After the clock jumped by more than a day, 24 hours of uptime; ``until`` is what this said when
    ``last`` was seen. Being switched off explains a step forward, never one backward; a wait that
    was not over goes on, in full, in the next boot.
    """
    if last is None:
        return 0.0
    same = last.boot == now.boot
    if not same:
        until = _DAY if last.uptime < until else 0.0
    passed = now.uptime - last.uptime if same else 0.0
    moved = now.wall - last.wall
    if moved < passed - _DAY or (same and moved > passed + _DAY):
        return now.uptime + _DAY
    return until
