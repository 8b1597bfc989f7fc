"""What the spool tells: of an upload, of a run, of the budget, of everything at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spool.item import Count, Receipt


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the uploader. ``bytes`` are the images', ``wire_bytes`` all that left."""

    id: str
    started_at: datetime
    ended_at: datetime | None = None
    trigger: str = "hand"  # "cron", "schedule" or "hand"
    outcome: str = ""  # empty while it runs
    exit_code: int | None = None
    images: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    set_aside: int = 0
    deferred: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The image is ours, durably; ``duplicate`` if it already was."""

    receipt: Receipt
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Cap:
    """Bytes a second that may leave; with a ``headgate limit`` in force, why and until when."""

    rate: int
    full_rate: int  # without a limit
    reason: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The cap, and what the last interval used of it, in bytes and seconds."""

    rate: int
    budget: int
    interval: int
    used: int
    full_rate: int  # without a limit in force
    limit_reason: str = ""
    limit_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at everything. ``unaccounted`` is 0, or something is wrong: run verify."""

    at: datetime
    received: Count
    waiting: Count
    sending: Count
    set_aside: Count
    uploaded_local: Count
    uploaded_pruned: Count
    unaccounted: int
    oldest_waiting_at: datetime | None
    latest: tuple[Receipt, ...]
    runs: tuple[Run, ...]
    budget: BudgetUse
    free_bytes: int
    disk_bytes: int
    free_inodes: int
