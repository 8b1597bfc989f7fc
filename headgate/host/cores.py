"""How many processor cores this process may use: of the machine's, those that its affinity and its
control groups give it."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def available(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """How many cores this process may use, at least one. sched_setaffinity(2) and the quota of
    each control group above this process (cgroups(7): cpu.max, or cpu.cfs_quota_us of version 1)
    count; part of a core counts as one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(groups, own)])))


def _quotas(groups: Path, own: Path) -> list[float]:
    """The cores that each group on the way up allows, where one is bounded."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":  # version 2
            root, read = groups, _quota
        elif "cpu" in controllers.split(","):  # version 1, a hierarchy of its own
            root, read = groups / controllers, _quota_v1
        else:
            continue
        place = Path(name.lstrip("/"))
        for group in (place, *place.parents):
            # The root has none, and one's own may not be visible.
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                found.append(read(root / group))
    return found


def _quota(group: Path) -> float:
    """ValueError where it is "max"."""
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)


def _quota_v1(group: Path) -> float:
    quota = int((group / "cpu.cfs_quota_us").read_text())
    return math.inf if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())
