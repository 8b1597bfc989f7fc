"""Exit codes: what cron, systemd and scripts read. Pure."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Every exit code of every command."""

    OK = 0  # done, nothing to do, or the budget or time is spent with images still waiting
    ERROR = 1
    USAGE = 2
    SET_ASIDE = 3  # some images were set aside
    UPLINK_DOWN = 5
    STILL_WAITING = 8  # --strict: the time is spent with images still waiting
    BUDGET_SPENT = 10  # --strict: the budget is spent with images still waiting
    LOCKED = 75  # another run holds the lock (EX_TEMPFAIL of sysexits.h)
