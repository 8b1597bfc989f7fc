"""Everything that is known of the site at one instant, for the page, metrics, alerts. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from headgate.monitor.devices import DeviceFacts
from headgate.monitor.forecast import Forecast
from headgate.monitor.grouping import alert_fields
from headgate.spool.budget.uplink import BudgetUse
from headgate.spool.catalog.device_stats import Arrivals
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.catalog.traffic import Flow
from headgate.spool.disk.room import UNASKED, Admission
from headgate.spool.image.image import Receipt
from headgate.spool.site.alerts import Alert
from headgate.spool.site.confirmation import Confirmation
from headgate.spool.site.runs import Proof, Run, RunTotals
from headgate.spool.spool import Inventory


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """One way in which runs start (``kind`` is one of ``site.triggers.KINDS``), as it is set up and
    as it was seen."""

    kind: str
    configured: bool  # by the settings as they are now
    every_seconds: int | None = None  # how often it is to fire; None: when someone likes
    last_at: datetime | None = None  # when it last fired; None: never
    sender: str = ""  # who it was then: "beat", "scheduler", the name of a token
    expected_since: datetime | None = None  # it has been watched for silence since then

    def quiet_seconds(self, now: datetime) -> float | None:
        """Seconds since it last fired, or since it is expected to; None if it is not expected
        to."""
        known = [at for at in (self.last_at, self.expected_since) if at is not None]
        if self.every_seconds is None or not known:
            return None
        return (now - max(known)).total_seconds()


@dataclass(frozen=True, slots=True)
class Snapshot(Inventory):
    """A snapshot of the site: its images, and everything else."""

    at: datetime
    oldest_waiting_at: datetime | None
    latest: tuple[Receipt, ...]
    runs: tuple[Run, ...]
    budget: BudgetUse
    free_bytes: int
    disk_bytes: int
    free_inodes: int
    clocks_off: tuple[Arrivals, ...] = ()  # of devices that were seen today, the worst first
    forecast: Forecast = field(default_factory=Forecast)
    oldest_due_at: datetime | None = None  # since when an image could have gone, and did not
    oldest_attempts: int = 0  # of the oldest image that waits: how many have failed
    last_success_at: datetime | None = None  # the end of the last run that was one: ``Proof``
    proof: Proof = field(default_factory=Proof)
    run_totals: RunTotals = field(default_factory=RunTotals)
    devices: tuple[DeviceFacts, ...] = ()  # enrolled, and others that were seen; by name
    aside: tuple[Receipt, ...] = ()  # those set aside, the newest
    asked: tuple[str, ...] = ()  # of which someone asked for another try
    flow: tuple[Flow, ...] = ()  # of the last day
    alerts: tuple[Alert, ...] = ()
    triggers: tuple[TriggerFacts, ...] = ()
    admission: Admission = UNASKED  # whether an image of the largest size would be taken
    refused: tuple[RefusedLately, ...] = ()  # the most first
    confirmation: Confirmation | None = None  # what proves an upload; None: not seen yet
    clock_behind: str = ""  # why this machine's clock cannot be true

    def fields(self) -> dict[str, Any]:
        """The snapshot for programs, as ``headgate status --json`` and ``/status.json`` give
        it."""
        return asdict(self) | {
            "unaccounted": self.unaccounted,
            "alerts": [alert_fields(alert) for alert in self.alerts],
        }
