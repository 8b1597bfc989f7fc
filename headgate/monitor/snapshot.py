"""What the spool tells: of an upload, a device, a run, the budget, of everything at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from headgate.spool.budget.slots import drain_part, other_part
from headgate.spool.disk.room import UNASKED, Admission
from headgate.spool.image.image import Count, Receipt
from headgate.spool.site.outcome import Outcome

NONE = Count()
CLOCK_OFF_SECONDS = 60
"""From here on a device's clock is remarked upon."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the uploader. ``bytes`` are the images', ``wire_bytes`` all that left.

    ``attempts`` counts what was tried at the bucket and came to an end, confirmed or not; a file
    that could not be read never got there.
    """

    id: str
    started_at: datetime
    ended_at: datetime | None = None
    trigger: str = "hand"  # one of spool.triggers.KINDS
    outcome: Outcome = Outcome.UNDER_WAY
    exit_code: int | None = None
    images: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    set_aside: int = 0
    deferred: int = 0
    message: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)  # attempts that failed, by kind
    attempts: int = 0
    waiting: int = 0  # images that still wait at its end, also for their next attempt
    confirmed_at: datetime | None = None  # when it last confirmed an image
    failing_since: datetime | None = None  # the first attempt that failed after that
    settled: bool = False  # at its end no image waited, and none was set aside
    success: bool = False  # the site's word when the run has ended: see ``Proof``

    @property
    def failed_attempts(self) -> int:
        """Those that did not confirm their image."""
        return max(0, self.attempts - self.images)

    @property
    def mostly_failed(self) -> bool:
        """It confirmed something, and failed more often than that."""
        return 0 < self.images < self.failed_attempts


@dataclass(frozen=True, slots=True)
class Proof:
    """What the attempts of all runs have proved lately.

    While attempts fail and none in between confirms its image, no run is a success, also one that
    finds nothing due: until an image is confirmed, or none waits any more.
    """

    confirmed_at: datetime | None = None  # when an image was last confirmed; None: never
    failing_since: datetime | None = None  # the first attempt that failed after that
    fruitless_runs: int = 0  # that tried since, and confirmed nothing
    why: str = ""  # what the last of them said

    def failing_seconds(self, now: datetime) -> float:
        """How long attempts have failed without one that confirmed; 0 if they do not."""
        if self.failing_since is None:
            return 0.0
        return max(0.0, (now - self.failing_since).total_seconds())

    def is_stuck(self, now: datetime, interval_seconds: float) -> bool:
        """Whether that is no mere hiccup: whole runs confirmed nothing, for two intervals."""
        return self.fruitless_runs > 0 and self.failing_seconds(now) >= 2 * interval_seconds


FAILURES = ("transient", "permanent", "fatal", "uplink_down")
"""The kinds of a failed attempt: what a run does about it."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What all runs together did; never less than before."""

    images: int = 0  # confirmed
    bytes: int = 0  # of the confirmed images
    wire_bytes: int = 0  # all that left, failed attempts and headers too
    set_aside: int = 0
    deferred: int = 0
    seconds: float = 0.0  # of runs that ended
    skipped: int = 0  # runs that found another one at work
    failures: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The image is ours, durably; ``duplicate`` if it already was."""

    receipt: Receipt
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """What came in and went out in some minutes from ``at`` on. ``sent_bytes`` are the wire's."""

    at: datetime
    minutes: int
    received: Count
    uploaded: Count
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """An instant that is expected, the earliest that is likely, and the latest: None, if never."""

    at: datetime
    earliest: datetime
    latest: datetime | None


class Doubt(StrEnum):
    """Why nobody can say when the backlog is gone."""

    NONE = ""
    NO_RUN = "no run"  # none came by itself, or the next one is overdue
    NEVER_CONFIRMED = "never confirmed"
    NOTHING_CONFIRMED = "nothing confirmed"  # what was tried lately
    UPLINK_DOWN = "uplink down"
    RUNS_FAIL = "runs fail"


@dataclass(frozen=True, slots=True)
class Forecast:
    """When no image waits any more, and when the disk's bytes and its inodes run out; None: not
    within two weeks, or nobody can say (``doubt``). Rates are bytes of images a second."""

    empty: Estimate | None = None
    full: Estimate | None = None
    inodes: Estimate | None = None
    received_per_second: float = 0.0
    carried_per_second: float = 0.0
    doubt: Doubt = Doubt.NONE  # of ``empty``


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that was told and is not good again: what, of whom, and since when."""

    code: str
    subject: str  # a device, a channel; empty where there is but one
    sentence: str
    since: datetime
    mend: str = ""  # what to type


@dataclass(frozen=True, slots=True)
class Unusable:
    """Images of one device that could not be taken for what they are. ``lately``: of the hour that
    the first of them began, beside as many ``good`` ones."""

    images: int = 0
    last_at: datetime | None = None
    lately: int = 0
    good: int = 0

    @property
    def share(self) -> float:
        """Of all that came lately, from 0 to 1."""
        return self.lately / (self.lately + self.good) if self.lately else 0.0


@dataclass(frozen=True, slots=True)
class RefusedLately:
    """Uploads that one kind of refusal met in the last minutes, and their share of all uploads."""

    code: str
    requests: int
    minutes: int
    share: float  # from 0 to 1

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.requests} uploads were refused in the last {self.minutes} min, "
            f"{self.share:.0%} of all, as {self.code}: GET /problems/{self.code} says what that "
            "means, and the receiver's log who sent them."
        )

    def is_many(self, before: bool = False) -> bool:
        """Whether somebody should look; ``before``: they were already many at the last look."""
        least, share = _MANY_REFUSED[1 if before else 0]
        return self.requests >= least and self.share >= share


_MANY_REFUSED = ((10, 0.1), (3, 0.05))


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """What starts runs: "cron", "queue", "http", "schedule" or "hand"
    (``headgate.spool.site.triggers``)."""

    kind: str
    configured: bool  # by the settings as they are now
    every_seconds: int | None = None  # how often it is to fire; None: when somebody likes
    last_at: datetime | None = None  # when it last fired; None: never
    sender: str = ""  # who it was then: "beat", "scheduler", the name of a token
    expected_since: datetime | None = None  # it has been watched for silence since then

    def quiet_seconds(self, now: datetime) -> float | None:
        """Since it last fired, or since it is expected to; None if nobody expects it to."""
        known = [at for at in (self.last_at, self.expected_since) if at is not None]
        if self.every_seconds is None or not known:
            return None
        return (now - max(known)).total_seconds()


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device, enrolled or only seen. ``missed``: people are told if something is amiss with it;
    not so of mere addresses, of revoked ones, and of strangers that are long gone."""

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
    unusable: Unusable = Unusable()
    missed: bool = True

    def is_silent(self, now: datetime) -> bool:
        """Whether it has sent nothing for longer than it does (``headgate.monitor.silence``)."""
        if self.last_at is None or not self.quiet_seconds:
            return False
        return (now - self.last_at).total_seconds() > self.quiet_seconds


@dataclass(frozen=True, slots=True)
class Cap:
    """Bytes a second that may leave, and why so many; with a ``headgate limit`` in force, until
    when."""

    rate: int
    full_rate: int  # without a limit
    reason: str = ""  # of the limit
    until: datetime | None = None
    share: str = ""  # what ``rate`` is of the link
    entry: str = ""  # of the timetable, where one holds and no limit does

    @property
    def why(self) -> str:
        """What decides at this moment, in words."""
        if self.until is not None:
            return f"headgate limit: {self.reason}"
        return f"timetable: {self.entry}" if self.entry else f"{self.share} of the link"

    @property
    def for_images(self) -> int:
        """The part of the rate that a drain may use."""
        return drain_part(self.rate)

    @property
    def for_the_rest(self) -> int:
        """The part of the rate for everything that is not an image."""
        return other_part(self.rate)


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The cap, and what the last interval and this day used, in bytes and seconds."""

    rate: int
    budget: int
    interval: int
    used: int
    full_rate: int  # without a limit in force
    limit_reason: str = ""
    limit_until: datetime | None = None
    why: str = ""
    day_used: int = 0
    day_allowance: int = 0  # 0: there is none
    day_spent: bool = False


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
    lost: Count = NONE  # no file, no proof, and nobody said that this is all right
    discarded: Count = NONE  # given up by a person
    clocks_off: tuple[Arrivals, ...] = ()  # of devices that were seen today, the worst first
    forecast: Forecast = Forecast()
    oldest_due_at: datetime | None = None  # since when an image could have gone, and did not
    oldest_attempts: int = 0  # of the oldest image that waits: how many have failed
    last_success_at: datetime | None = None  # the end of the last run that was one: ``Proof``
    proof: Proof = Proof()
    run_totals: RunTotals = RunTotals()
    devices: tuple[DeviceFacts, ...] = ()  # enrolled, and others that were seen; by name
    aside: tuple[Receipt, ...] = ()  # those set aside, the newest
    asked: tuple[str, ...] = ()  # of which somebody asked for another try
    flow: tuple[Flow, ...] = ()  # of the last day
    alerts: tuple[Alert, ...] = ()
    triggers: tuple[TriggerFacts, ...] = ()
    admission: Admission = UNASKED  # whether an image of the largest size would be taken
    refused: tuple[RefusedLately, ...] = ()  # the most first
    clock_behind: str = ""  # why this machine's clock cannot be true


@dataclass(frozen=True, slots=True)
class ClockReading:
    """How far a device's clock was ahead of ours, in seconds; negative: behind.

    Exact from a request's Date; otherwise from the time of capture, which lies in the past: then
    the clock may be further ahead by as long as the image took to come.
    """

    offset_seconds: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Of one device, since the catalog was made."""

    device: str
    first_at: datetime
    last_at: datetime
    images: int
    bytes: int
    clock_offset_seconds: float | None = None
    clock_exact: bool = False
    last_image: str = ""

    @property
    def clock_is_off(self) -> bool:
        """Whether its clock is far enough from ours to say so."""
        offset = self.clock_offset_seconds
        return offset is not None and abs(offset) >= CLOCK_OFF_SECONDS


@dataclass(frozen=True, slots=True)
class Gaps:
    """The series of sequence numbers that runs, and its gaps (first and last missing), oldest
    first; ``missing`` counts all of them, also those beyond what was asked for."""

    device: str
    since: datetime
    first: int
    last: int
    missing: int
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Device:
    """One that was enrolled. ``tokens`` counts those that are valid now."""

    name: str
    urgent: bool  # it may mark images as urgent
    added_at: datetime
    revoked_at: datetime | None
    tokens: int
    may_drain: bool = False  # it may ask for drains (POST /jobs/drain)


@dataclass(frozen=True, slots=True)
class Token:
    """A token in the only moment in which anybody can read it."""

    device: str
    secret: str


@dataclass(frozen=True, slots=True)
class Credential:
    """What a valid token says of its bearer."""

    device: str
    urgent: bool
    may_drain: bool = False
