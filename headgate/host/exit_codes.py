"""Exit codes: what cron, systemd and scripts read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """Every exit code of every command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    SET_ASIDE = 3
    UPLINK_DOWN = 5
    NOTHING_CONFIRMED = 6
    STILL_WAITING = 8
    BUDGET_SPENT = 10
    CANNOT_HOLD = 11
    LOCKED = 75  # EX_TEMPFAIL of sysexits.h


MEANING: Mapping[Exit, str] = {
    Exit.OK: "done, or nothing to do",
    Exit.ERROR: "an error; the message says what to do",
    Exit.USAGE: "wrong flags or settings",
    Exit.SET_ASIDE: "some images were set aside in this run",
    Exit.UPLINK_DOWN: "the uplink is down",
    Exit.NOTHING_CONFIRMED: "images were tried and none was confirmed",
    Exit.STILL_WAITING: "--strict: time is up and images are still waiting",
    Exit.BUDGET_SPENT: "--strict: the budget, allowance or timetable is used up",
    Exit.CANNOT_HOLD: "headgate plan: the plan cannot hold; the output says what to change",
    Exit.LOCKED: "another run holds the lock",
}
"""What each means, for help and docs."""
