"""How far a device's clock is from ours, by what it said with an image. Pure.

Nothing is ordered by a device's clock; it is reported when it is off, because the capture times
are then, too.
"""

from __future__ import annotations

from datetime import datetime

from headgate.settings.instants import read_http_date, read_rfc3339
from headgate.spool.catalog.device_stats import ClockReading


def reading(date: str, captured_at: str, now: datetime) -> ClockReading | None:
    """Read a device's clock from the request's ``Date`` (RFC 9110, 6.6.1: a client may send it),
    which says what the clock says now; else from the time of capture, unless that names no time
    zone, as EXIF's does not."""
    said = read_http_date(date)
    if said is not None:
        return ClockReading((said - now).total_seconds(), exact=True)
    said = read_rfc3339(captured_at)
    return None if said is None else ClockReading((said - now).total_seconds(), exact=False)
