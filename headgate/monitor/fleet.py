"""All gateways of a site as one: what each reported, what is silent, totals, and one law. Pure.

Each gateway publishes a report of itself every minute, by ``headgate watch``. The law is each
gateway's own, added up: received = waiting + sending + held + set aside + uploaded + discarded +
purged + lost, over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from headgate.monitor.rules import Level
from headgate.monitor.snapshot import Snapshot
from headgate.settings.instants import rfc3339

_KINDS = {"int": int, "str": str, "str | None": str | None, "bool": bool}
SILENT = timedelta(minutes=3)
"""A gateway whose last report is older is silent: ``headgate watch`` sends one each minute."""


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What one gateway says of itself. Images are counted; rates are bytes a second."""

    gateway: str
    version: str
    level: Level
    sentence: str  # the most serious thing that is wrong; "" if nothing is
    received: int
    waiting: int
    waiting_bytes: int
    sending: int
    held: int
    set_aside: int
    uploaded: int
    discarded: int
    purged: int
    lost: int
    oldest_seconds: int  # of what waits; 0: nothing does
    rate: int  # that it may use now
    floor: int  # of it, what is always its own
    used: int  # on the average of its last interval
    not_shared: str  # why it borrows nothing; "" if all is well
    free_bytes: int
    disk_bytes: int
    empty_at: str | None  # RFC 3339; None: not known
    full_at: str | None  # None: not within two weeks
    timetable: str = ""  # the site's: whose it is and since when; "": it knows of none
    timetable_differs: bool = False  # its own settings have another one, which is not used

    @property
    def unaccounted(self) -> int:
        """Images that were received and are in no state."""
        known = self.waiting + self.sending + self.held + self.set_aside + self.uploaded
        return self.received - (known + self.discarded + self.purged + self.lost)

    def encode(self) -> dict[str, Any]:
        """For Redis."""
        return asdict(self)

    @classmethod
    def decode(cls, found: Mapping[str, Any]) -> GatewayReport:
        """From Redis. KeyError or ValueError where a field is missing or of another kind; fields
        that a newer version adds are left out, and may be missing in an older one's."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in found and field.default is not MISSING:
                continue
            value = found[field.name]
            if field.name == "level":
                value = Level(value)
            elif not isinstance(value, _KINDS[str(field.type)]):
                raise ValueError(f"{field.name} is of another kind")
            values[field.name] = value
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Member:
    """One gateway of the site; ``report`` None: it is known, and its report has ended or cannot be
    read."""

    gateway: str
    seen_at: datetime
    silent: bool
    report: GatewayReport | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all reports, those of silent gateways as they were."""

    received: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    sending: int = 0
    held: int = 0
    set_aside: int = 0
    uploaded: int = 0
    discarded: int = 0
    purged: int = 0
    lost: int = 0
    unaccounted: int = 0
    rate: int = 0
    used: int = 0
    free_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fleet:
    """The site: its gateways by name, and the sums."""

    members: tuple[Member, ...]
    totals: Totals

    @property
    def silent(self) -> tuple[str, ...]:
        """Gateways that do not report."""
        return tuple(one.gateway for one in self.members if one.silent)

    @property
    def level(self) -> Level:
        """The most serious of all; a silent gateway is bad, and so is an image that is missing."""
        found = [one.report.level for one in self.members if one.report is not None]
        if self.silent or self.totals.unaccounted or self.totals.lost:
            found.append(Level.BAD)
        if any(one.report.timetable_differs for one in self.members if one.report is not None):
            found.append(Level.WARN)
        return max(found, key=list(Level).index, default=Level.OK)


def of_snapshot(
    facts: Snapshot, gateway: str, version: str, level: Level, sentence: str
) -> GatewayReport:
    """What a gateway reports of itself; ``level`` and ``sentence`` of the worst that it found."""
    budget, forecast, lease = facts.budget, facts.forecast, facts.budget.lease
    oldest, site = facts.oldest_waiting_at, facts.budget.timetable
    return GatewayReport(
        gateway=gateway,
        version=version,
        level=level,
        sentence=sentence,
        received=facts.received.images,
        waiting=facts.waiting.images,
        waiting_bytes=facts.waiting.bytes,
        sending=facts.sending.images,
        held=facts.held.images,
        set_aside=facts.set_aside.images,
        uploaded=facts.uploaded_local.images + facts.uploaded_pruned.images,
        discarded=facts.discarded.images,
        purged=facts.purged.images,
        lost=facts.lost.images,
        oldest_seconds=0 if oldest is None else max(0, int((facts.at - oldest).total_seconds())),
        rate=budget.rate if lease is None else lease.rate,
        floor=budget.rate if lease is None else lease.floor,
        used=budget.used // budget.interval,
        not_shared="" if lease is None else lease.trouble,
        free_bytes=facts.free_bytes,
        disk_bytes=facts.disk_bytes,
        empty_at=None if forecast.empty is None else rfc3339(forecast.empty.at),
        full_at=None if forecast.full is None else rfc3339(forecast.full.at),
        timetable=site.origin if site is not None and site.worth_saying else "",
        timetable_differs=site is not None and site.differs,
    )


def fleet(seen: Mapping[str, datetime], reports: Iterable[GatewayReport], now: datetime) -> Fleet:
    """All gateways that were seen, by Redis's clock ``now``, and what is known of each."""
    known = {report.gateway: report for report in reports}
    members = tuple(
        Member(name, at, now - at > SILENT, known.get(name)) for name, at in sorted(seen.items())
    )
    told = [one.report for one in members if one.report is not None]
    return Fleet(
        members,
        Totals(
            **{
                field.name: sum(getattr(report, field.name) for report in told)
                for field in fields(Totals)
            }
        ),
    )
