"""What will be, from what was: when waiting helps. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from spool.facts import Run

_INTERVALS = 6
"""How far back runs still say something about the next ones."""


def drained_per_second(runs: Sequence[Run], now: datetime, interval_seconds: int) -> float:
    """Bytes of images that runs carried away a second, lately; 0.0 if there is nothing to go by.

    Over the time since the first of these runs began, pauses between them included.
    """
    since = now - timedelta(seconds=_INTERVALS * interval_seconds)
    recent = [run for run in runs if run.started_at >= since]
    if not recent:
        return 0.0
    seconds = max(1.0, (now - min(run.started_at for run in recent)).total_seconds())
    return sum(run.bytes for run in recent) / seconds


def wait_for_room(
    missing_bytes: int,
    runs: Sequence[Run],
    now: datetime,
    interval_seconds: int,
    chance: float,
) -> int | None:
    """Seconds after which so many more bytes may be free; None if nothing tells.

    From 5 s to an hour, a quarter more or less by ``chance`` (0 to 1), so that all who were
    refused at once do not come back at once.
    """
    rate = drained_per_second(runs, now, interval_seconds)
    if rate <= 0:
        return None
    seconds = min(3600.0, max(5.0, missing_bytes / rate))
    return math.ceil(seconds * (0.75 + chance / 2))
