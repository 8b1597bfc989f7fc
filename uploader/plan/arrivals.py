"""What arrives, as a site's own records have it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import NONE
from uploader.plan.terms import HEAD_BYTES, Arrivals
from uploader.run.runway import AROUND_BYTES

_HOUR, _DAY_HOURS = timedelta(hours=1), 24


def measured(
    hours: Sequence[Flow], until: datetime, local: Callable[[datetime], datetime]
) -> Arrivals | None:
    """The mean of each hour of the day, once a day is known, else of all hours; None where nothing
    arrived. ``hours`` without traffic may be left out; ``until`` is the end of the last one."""
    came = sum((flow.received for flow in hours), NONE)
    if not came.images or not came.bytes:
        return None
    first = next(flow.at for flow in hours if flow.received.images)
    known = {flow.at: flow.received.bytes for flow in hours}
    sizes: dict[int, list[int]] = {}
    at = first
    while at < until:
        sizes.setdefault(local(at).hour, []).append(known.get(at, 0))
        at += _HOUR
    means = {hour: sum(found) / len(found) / 3600 for hour, found in sizes.items()}
    each = [size for found in sizes.values() for size in found]
    whole = (sum(each) / len(each) / 3600,)
    went = sum((flow.uploaded for flow in hours), NONE)
    beside = sum(flow.sent_bytes for flow in hours) - went.bytes
    return Arrivals(
        by_hour=tuple(means[hour] for hour in range(_DAY_HOURS))
        if len(means) == _DAY_HOURS
        else whole,
        image_bytes=came.bytes / came.images,
        head_bytes=min(max(0.0, beside / went.images), AROUND_BYTES) if went.images else HEAD_BYTES,
        measured_hours=len(each),
    )
