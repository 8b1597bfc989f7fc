"""Facts for monitoring in addition to the counts: devices, the last day, what needs help.

Bounded, whatever is sent: devices that are enrolled, and some others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from headgate.monitor import silence
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.device_stats import Arrivals, Unusable
from headgate.spool.catalog.traffic import Flow
from headgate.spool.site.alerts import Alert
from headgate.spool.site.site import Site

OTHERS_MAX = 1000
"""Devices that are not enrolled, those that were seen last."""
STEP_MINUTES = 10
_DAY = timedelta(hours=24)
_FORGOTTEN = timedelta(days=14)
"""How long a device that was never enrolled is missed."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is known of one device, enrolled or only seen. ``missed``: alerts report problems with
    it; not so of mere addresses, of revoked ones, and of strangers that are long gone."""

    device: str
    enrolled: bool
    last_at: datetime | None = None  # when its last image came; None if none did
    last_image: str = ""  # the id
    images: int = 0
    bytes: int = 0
    missing: int = 0  # sequence numbers of the series that runs
    clock_offset_seconds: float | None = None
    usual_seconds: float | None = None  # between two of its images, lately; None: too few
    quiet_seconds: float = 0.0  # after so long it counts as silent; 0: never, or nothing is known
    unusable: Unusable = field(default_factory=Unusable)
    warned: int = 0  # images that were taken with a remark
    last_warning: str = ""
    missed: bool = True

    def is_silent(self, now: datetime) -> bool:
        """Whether it has sent nothing for longer than it does (``headgate.monitor.silence``)."""
        if self.last_at is None or not self.quiet_seconds:
            return False
        return (now - self.last_at).total_seconds() > self.quiet_seconds


def devices(
    catalog: Catalog, site: Site, now: datetime, quiet: int | str
) -> tuple[DeviceFacts, ...]:
    """Facts of all enrolled devices, whether they sent or not, and of the others that were seen
    last; by name. ``quiet`` is alerts.device_silent."""
    ever = site.devices.all(now)
    known = {one.name: one.revoked_at is None for one in ever}
    seen = catalog.arrivals_of_all([name for name, valid in known.items() if valid], OTHERS_MAX)
    # A scheduler's token sends no images, and a gateway's those of others: no camera is missed.
    others = {one.name for one in ever if one.may_drain or one.may_forward}
    silent = others - {one.device for one in seen}
    enrolled = [name for name, valid in known.items() if valid and name not in silent]
    names = {*enrolled, *(one.device for one in seen)}
    missing = catalog.missing([one.device for one in seen])
    unusable = catalog.unusable_of(sorted(names), now)
    rhythms = silence.read(site.get(silence.RHYTHMS))
    found = {name: DeviceFacts(name, enrolled=True) for name in enrolled}
    for one in seen:
        rhythm = rhythms.get(one.device) or silence.learn(None, one, now)
        missed = is_missed(one, known, now)
        found[one.device] = DeviceFacts(
            device=one.device,
            enrolled=known.get(one.device, False),
            missed=missed,
            last_at=one.last_at,
            last_image=one.last_image,
            images=one.images,
            bytes=one.bytes,
            missing=missing.get(one.device, 0),
            clock_offset_seconds=one.clock_offset_seconds,
            warned=one.warned,
            last_warning=one.last_warning,
            usual_seconds=rhythm.usual if one.images >= silence.LEAST_IMAGES else None,
            quiet_seconds=silence.quiet_seconds(rhythm, quiet) if missed else 0.0,
        )
    for name, told in unusable.items():
        found[name] = replace(found[name], unusable=told)
    return tuple(found[name] for name in sorted(found))


def is_missed(seen: Arrivals, known: Mapping[str, bool], now: datetime) -> bool:
    """Whether alerts report problems with it. ``known``: devices that were enrolled,
    and whether they still are."""
    if seen.device.startswith("_"):  # an address, and no one's camera in particular
        return False
    return known.get(seen.device, now - seen.last_at < _FORGOTTEN)


def learn(catalog: Catalog, site: Site, now: datetime, *, receiver_up: bool) -> None:
    """Remember how each device sends, after one more look. ``receiver_up``: the receiver was
    there to be sent to."""
    known = {one.name: one.revoked_at is None for one in site.devices.all(now)}
    before = silence.read(site.get(silence.RHYTHMS))
    learnt = {
        seen.device: silence.learn(before.get(seen.device), seen, now, receiver_up)
        for seen in catalog.arrivals()
        if is_missed(seen, known, now)
    }
    if learnt != before:
        site.put(silence.RHYTHMS, silence.dump(learnt))


def last_day(catalog: Catalog, now: datetime) -> tuple[Flow, ...]:
    """What came in and went out in the last 24 hours, in steps of ten minutes."""
    since = (now - _DAY).timestamp() // (60 * STEP_MINUTES) * (60 * STEP_MINUTES)
    return tuple(catalog.flow(datetime.fromtimestamp(since, UTC), STEP_MINUTES))


def alerts(site: Site) -> tuple[Alert, ...]:
    """Active alerts of which a message was sent."""
    return tuple(one for one in site.alerts.all() if one.told and one.bad)
