"""What somebody who watches asks for beside the counts: devices, the last day, what needs help.

Read by ``Spool.facts``. Bounded, whatever is sent: devices that are enrolled, and some others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from spool.catalog import Catalog
from spool.facts import Alert, Arrivals, DeviceFacts, Flow
from spool.site import Site

OTHERS_MAX = 1000
"""Devices that are not enrolled, those that were seen last."""
STEP_MINUTES = 10
_DAY = timedelta(hours=24)


def devices(catalog: Catalog, site: Site, now: datetime) -> tuple[DeviceFacts, ...]:
    """All that are enrolled, sent or not, and the others that were seen last; by name."""
    enrolled = [one.name for one in site.devices.all(now) if one.revoked_at is None]
    seen = catalog.arrivals_of_all(enrolled, OTHERS_MAX)
    missing = catalog.missing([one.device for one in seen])
    return merged(enrolled, seen, missing)


def merged(
    enrolled: Iterable[str], seen: Iterable[Arrivals], missing: Mapping[str, int]
) -> tuple[DeviceFacts, ...]:
    """The same of what is known already."""
    names = set(enrolled)
    found = {name: DeviceFacts(name, enrolled=True) for name in names}
    for one in seen:
        found[one.device] = DeviceFacts(
            device=one.device,
            enrolled=one.device in names,
            last_at=one.last_at,
            last_image=one.last_image,
            images=one.images,
            bytes=one.bytes,
            missing=missing.get(one.device, 0),
            clock_offset_seconds=one.clock_offset_seconds,
            usual_seconds=one.usual_seconds,
        )
    return tuple(found[name] for name in sorted(found))


def last_day(catalog: Catalog, now: datetime) -> tuple[Flow, ...]:
    """What came in and went out in the last 24 hours, in steps of ten minutes."""
    since = (now - _DAY).timestamp() // (60 * STEP_MINUTES) * (60 * STEP_MINUTES)
    return tuple(catalog.flow(datetime.fromtimestamp(since, UTC), STEP_MINUTES))


def alerts(site: Site) -> tuple[Alert, ...]:
    """What was told and is not good again."""
    return tuple(
        Alert(one.code, one.subject, one.sentence, one.began_at)
        for one in site.alerts.all()
        if one.told and one.bad
    )
