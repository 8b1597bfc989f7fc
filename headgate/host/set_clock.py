"""Whether this machine's clock can be true: a machine without a clock of its own boots in the past.

An image's name, and so its key in the bucket, has the day on which it arrived. So a receiver that
starts soon after a boot waits for a clock that cannot be true, or that has not been set yet, for a
bounded time; then it goes on, because an image under the wrong day is better than none. What
arrives until the clock can be believed is marked: in its name, receipt and object's metadata.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headgate.settings.units import human_duration

RELEASED = datetime(2025, 1, 1, tzinfo=UTC)
"""No clock is earlier than the program that reads it."""
WAIT_SECONDS = 60.0
BOOTING_SECONDS = 120.0
"""So soon after a boot, who keeps the clock may not have set it yet."""
_TOLERANCE = timedelta(minutes=5)
_BEYOND = timedelta(days=366)
"""What is known from so far ahead was written by a clock that was wrong itself."""
_KEEPERS = tuple(
    Path(path) for path in ("/run/systemd/timesync", "/run/chrony", "/run/ntpd.pid", "/run/ntpsec")
)
_CLOCKS = Path("/sys/class/rtc")
_ZONES_SECONDS = 15 * 3600.0
"""A hardware clock may keep local time (rtc(4)), and no zone is further from UTC."""
_STA_UNSYNC = 0x40  # of adjtimex(2)


class _Timex(ctypes.Structure):
    """struct timex (adjtimex(2)): what is read of it, and room for the rest."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    ]


def synchronised() -> bool | None:
    """Whether a time service has set the kernel's clock; None where that is not known."""
    timex = _Timex()  # modes 0: ask, set nothing
    try:
        if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return not timex.status & _STA_UNSYNC


def behind(now: datetime, newest: datetime | None) -> str:
    """Why the clock cannot be true, as a sentence; empty if it can. ``newest`` is the latest
    instant that the spool knows of."""
    if now < RELEASED:
        return (
            f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC, before this program was made: "
            "images are kept under the wrong day."
        )
    if newest is not None and _TOLERANCE < newest - now < _BEYOND:
        return (
            f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC, and the spool knows of "
            f"{newest:%Y-%m-%d %H:%M}: it is {human_duration((newest - now).total_seconds())} "
            "behind, or was ahead before. Images are kept under the wrong day."
        )
    return ""


def unset_at_boot(uptime: float, is_synchronised: bool | None, *, kept: bool) -> str:
    """Why the clock is not to be believed yet: the machine has just booted, and who keeps its
    clock has not set it. If no time service runs, there is no wait."""
    if kept and is_synchronised is False and uptime < BOOTING_SECONDS:
        return "This machine has just booted, and its clock is not set yet."
    return ""


def doubt(now: datetime, newest: datetime | None, uptime: float | None = None) -> str:
    """Why this machine's clock is worth waiting for at this moment; empty if it is not.

    Long after a boot it is not: who sets clocks had its time, and a restart or an upgrade must not
    keep the cameras waiting. ``uptime``: seconds since the boot, of this machine by default.
    """
    if uptime is None:
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    if uptime >= BOOTING_SECONDS:
        return ""
    kept = any(path.exists() for path in _KEEPERS)
    return behind(now, newest) or unset_at_boot(uptime, synchronised(), kept=kept)


def has_own_clock(now: datetime, clocks: Path = _CLOCKS) -> bool:
    """Whether a hardware clock of this machine set the kernel's at boot, and still agrees with it:
    one without a battery begins at 1970."""
    for clock in sorted(clocks.glob("rtc*")):
        with contextlib.suppress(OSError, ValueError):
            if int((clock / "hctosys").read_text()) == 1:
                seconds = int((clock / "since_epoch").read_text())
                return abs(now.timestamp() - seconds) < _ZONES_SECONDS
    return False


def not_set(
    now: datetime,
    newest: datetime | None,
    is_synchronised: bool | None,
    *,
    kept: bool,
    own_clock: bool,
) -> str:
    """Why an image that arrives now is marked, as a sentence; empty if its time can be believed.

    However long after the boot: a clock that was never set is as wrong after a restart as before
    it.
    """
    if now >= RELEASED and is_synchronised:
        return ""
    if why := behind(now, newest):
        return why
    if kept and is_synchronised is False and not own_clock:
        return "This machine has no clock of its own, and it has not been set since the boot."
    return ""


class ArrivalClock:
    """Whether images that arrive can be named by this machine's clock; asked for each of them.

    Once it can be believed it is not asked again: who steps a clock that was right means it.
    """

    def __init__(
        self,
        newest: datetime | None,
        why: Callable[[datetime, datetime | None], str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``newest``: the latest instant that the spool knew of when the receiver started."""
        self._newest = newest
        self._why = why or _not_set_here
        self._monotonic = monotonic
        self._asked_at = -math.inf
        self._reason = "not asked yet"

    def reason(self, now: datetime) -> str:
        """Why it cannot be believed, as a sentence; empty if it can."""
        if self._reason and self._monotonic() - self._asked_at >= 1:
            self._asked_at = self._monotonic()
            self._reason = self._why(now, self._newest)
        return self._reason


def _not_set_here(now: datetime, newest: datetime | None) -> str:
    kept = any(path.exists() for path in _KEEPERS)
    return not_set(now, newest, synchronised(), kept=kept, own_clock=has_own_clock(now))


def wait(
    reason: Callable[[], str],
    stopping: Callable[[], bool],
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> str:
    """Wait until there is no ``reason`` any more to doubt the clock, for a bounded time; the reason
    that is left. ``tell`` is called once, if it waits at all."""
    until = monotonic() + WAIT_SECONDS
    told = False
    while (why := reason()) and monotonic() < until and not stopping():
        if not told:
            tell(why)
            told = True
        sleep(1.0)
    return why
