"""How many processor cores this process may use: of the machine's, those that its affinity and its
control groups give it."""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def available(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """At least one. sched_setaffinity(2) and the quota of each control group above this process
    (cgroups(7), cpu.max) count; part of a core counts as one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> list[float]:
    """The cores that each group on the way up allows, where one is bounded (cgroup v2)."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    name = next((line[3:] for line in lines if line.startswith("0::")), None)
    if name is None:
        return []
    found = []
    place = Path(name.lstrip("/"))
    for group in (place, *place.parents):
        try:
            quota, period = (groups / group / "cpu.max").read_text().split()
            if quota != "max":
                found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # the root has none, and one's own may not be visible
    return found
