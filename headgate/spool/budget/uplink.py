"""The uplink as the settings, the timetable, ``headgate limit`` and ``headgate pause`` have it, and
its two ledgers.

The rate in force is the limit's, else the timetable's, else ``uplink.share``'s, and never above the
link. It has two parts: the drain's, and a small one for everything else that leaves this machine. A
pause is a limit of 0% that stops images alone: alerts and checks keep their part. Each part is
charged to a ledger of its own, under a lock of its own, so neither waits for the other and both
together never pass the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from headgate.settings import timetable, units
from headgate.settings.settings import Settings
from headgate.settings.timetable import TimetableEntry
from headgate.shared.lending import Borrower, floor_of, rest_of
from headgate.spool.budget import ledger, site_timetable, slots
from headgate.spool.budget.daily import Daily
from headgate.spool.budget.ledger import Ledger
from headgate.spool.budget.limit import LIMIT, Limit, end_words
from headgate.spool.budget.memory import Memory
from headgate.spool.budget.site_day import DayState, SiteDay
from headgate.spool.budget.site_timetable import SiteTimetable
from headgate.spool.disk import locks
from headgate.spool.disk.locks import Lock
from headgate.spool.site.outcome import Ending, Outcome

DAY_OVER = "day_over"
"""The site's memory of a day whose allowance covers none of the images that wait."""
LEASE = "lease"
"""The site's memory of what this gateway has borrowed of a shared uplink, on which boot."""
CONTROLS = "controls"
"""The site's memory of the newest limit or pause that any of its gateways set, with its version."""
_MINUTE, _PAUSE_AHEAD = timedelta(minutes=1), timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Cap:
    """Bytes a second that may leave, and why this rate. ``rate`` is what both parts may use; in a
    pause, what is left for everything that is not an image."""

    rate: int
    full_rate: int  # without a limit
    limit: Limit | None = None  # in force
    share: str = ""  # what ``rate`` is of the link
    entry: str = ""  # of the timetable, where one holds and no limit does
    until: int | None = None  # nanoseconds of CLOCK_BOOTTIME: when a lease of this rate ends

    @property
    def is_pause(self) -> bool:
        """Whether a person paused the uploads."""
        return self.limit is not None and self.limit.is_pause

    @property
    def why(self) -> str:
        """What decides at this moment, in words."""
        if self.limit is not None:
            word = "pause" if self.limit.is_pause else "limit"
            return f"headgate {word}: {self.limit.reason}".removesuffix(": ")
        return f"timetable: {self.entry}" if self.entry else f"{self.share} of the link"

    @property
    def for_images(self) -> int:
        """The part of the rate that a drain may use."""
        return 0 if self.is_pause else slots.drain_part(self.rate)

    @property
    def for_the_rest(self) -> int:
        """The part of the rate for everything that is not an image; a pause leaves it alone."""
        return self.rate if self.is_pause else slots.other_part(self.rate)

    def part(self, part: Part) -> int:
        """The rate of one part, in bytes a second."""
        return self.for_images if part is Part.DRAIN else self.for_the_rest


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What this gateway has of an uplink that it shares, in bytes a second."""

    rate: int  # what it may use now: its floor, and what it was lent
    floor: int
    trouble: str = ""  # why it was lent nothing when it last asked; "": there is none
    since: datetime | None = None  # of the trouble

    @property
    def shared(self) -> bool:
        """Whether the gateways can lend each other what they do not need."""
        return not self.trouble


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
    paused: bool = False  # by a person
    why: str = ""
    day_used: int = 0
    day_allowance: int = 0  # 0: there is none
    day_spent: bool = False
    lease: LeaseState | None = None  # None: this gateway has the uplink to itself
    timetable: SiteTimetable | None = None  # of the site, where its gateways share the uplink
    site_day: DayState | None = None  # where they share an allowance of a day

    @property
    def limit_words(self) -> str:
        """Until when a limit or a pause holds, and why; "" if there is none."""
        if self.limit_until is None and not self.paused:
            return ""
        return end_words(self.limit_until, self.limit_reason)


class Part(StrEnum):
    """Who may use which part of the rate; the value is the name of its ledger's file."""

    DRAIN = "ledger"
    OTHER = "ledger-other"


def wall_clock(at: datetime) -> datetime:
    """What the clock on the wall of this machine (TZ, /etc/localtime) shows at an instant."""
    return at.astimezone()


def create_ledgers(state: Path, interval: int) -> None:
    """Empty rings, for a fresh spool. DiskError."""
    for part in Part:
        now = ledger.boottime()
        ledger.create(state / part, interval, ledger.boot_id(), spent=False, now=now)


@dataclass(frozen=True, slots=True)
class Uplink:
    """The rate in force and the two ledgers of one spool. ``now`` is the wall clock, aware;
    ``local`` what it shows here."""

    settings: Settings
    site: Memory
    state: Path
    now: Callable[[], datetime]
    local: Callable[[datetime], datetime] = wall_clock

    def cap(self) -> Cap:
        """The rate in force now; cheap enough to ask before every grant."""
        return self._cap_at(self.now(), Limit.decode(self.site.get(LIMIT)), self.timetable())

    def rate_at(self, at: datetime) -> int:
        """The rate at a later instant, unless another limit is set until then."""
        return self._cap_at(at, Limit.decode(self.site.get(LIMIT)), self.timetable()).rate

    def rates(self) -> Callable[[datetime], int]:
        """What images may use, in bytes a second, at an instant to come, if no one sets another
        limit until then."""
        limit, entries = Limit.decode(self.site.get(LIMIT)), self.timetable()
        if limit is None and not entries:
            always = self.cap().for_images  # forecasts ask for hundreds of instants
            return lambda _at: always
        return lambda at: self._cap_at(at, limit, entries).for_images

    def site_cap(self) -> Cap:
        """The rate that all gateways of the site have together; this one's, if it is alone."""
        return self._site_cap_at(self.now(), Limit.decode(self.site.get(LIMIT)), self.timetable())

    def _cap_at(
        self, at: datetime, limit: Limit | None, entries: tuple[TimetableEntry, ...]
    ) -> Cap:
        cap, uplink = self._site_cap_at(at, limit, entries), self.settings.uplink
        if not self.settings.shares_uplink:
            return cap
        # What was borrowed counts for instants to come as well: a forecast takes today's rate.
        known = self.borrower()
        lent = known.lent_at(ledger.boottime(), rest_of(cap.rate, uplink.floor, uplink.gateways))
        rate = floor_of(cap.rate, uplink.floor, uplink.gateways) + lent
        return replace(cap, rate=min(rate, cap.rate), until=known.ends_at if lent else None)

    def borrower(self) -> Borrower:
        """What this gateway knows of the lender and was lent, by any of its processes. One that
        is of another boot is worth nothing."""
        found = self.site.get(LEASE) or {}
        if found.get("boot") != ledger.boot_id().hex():
            return Borrower()
        return Borrower.decode(found["borrower"])

    def remember(self, borrower: Borrower, trouble: str) -> None:
        """Every process of this gateway keeps to it from its next grant on."""
        before = self.site.get(LEASE) or {}
        since = before.get("since") if before.get("trouble") else self.now().isoformat()
        self.site.put(
            LEASE,
            {
                "boot": ledger.boot_id().hex(),
                "borrower": borrower.encode(),
                "trouble": trouble,
                "since": since if trouble else None,
            },
        )

    def lease(self) -> LeaseState | None:
        """What this gateway has of a shared uplink; None if it shares none."""
        if not self.settings.shares_uplink:
            return None
        uplink = self.settings.uplink
        floor = floor_of(self.site_cap().rate, uplink.floor, uplink.gateways)
        found = self.site.get(LEASE) or {}
        since = found.get("since")
        return LeaseState(
            self.cap().rate,
            floor,
            str(found.get("trouble") or ""),
            datetime.fromisoformat(since) if since else None,
        )

    def set_limit(self, limit: Limit | None) -> None:
        """Put a limit or a pause in force, or end it: here, and at all gateways of the site."""
        encoded = None if limit is None else limit.encode()
        self.site.put(LIMIT, encoded)
        if self.settings.shares_uplink:
            known = (self.site.get(CONTROLS) or {"version": 0})["version"]
            # The later one wins, also where the other was not heard of because Redis was away.
            version = max(known + 1, int(self.now().timestamp() * 1000))
            gateway = self.settings.uplink.gateway
            self.site.put(CONTROLS, {"version": version, "gateway": gateway, "limit": encoded})

    def follow(self, controls: Mapping[str, Any]) -> bool:
        """Take over what another gateway set, if that is newer; whether it was."""
        mine = self.site.get(CONTROLS) or {"version": 0, "gateway": ""}
        newer = (controls["version"], controls["gateway"]) > (mine["version"], mine["gateway"])
        if newer:
            Limit.decode(controls["limit"])  # or what another version wrote would stop every run
            self.site.put(LIMIT, controls["limit"])
            self.site.put(CONTROLS, dict(controls))
        return newer

    def timetable(self) -> tuple[TimetableEntry, ...]:
        """The timetable in force: the site's where gateways share an uplink, else the settings'."""
        shared = self.site_timetable()
        return self.settings.uplink.timetable if shared is None else shared.entries

    def site_timetable(self) -> SiteTimetable | None:
        """The timetable of all gateways; None: this one is alone, or knows of none yet."""
        return site_timetable.held(self.site) if self.settings.shares_uplink else None

    def _site_cap_at(
        self, at: datetime, limit: Limit | None, entries: tuple[TimetableEntry, ...]
    ) -> Cap:
        link = self.settings.uplink.link
        entry = timetable.entry_at(entries, self.local(at))
        share = self.settings.uplink.share if entry is None else entry.share
        full = share.of(link)
        if limit is not None and limit.holds(at):
            rate = slots.other_part(full) if limit.is_pause else limit.share.of(link)
            return Cap(rate, full, limit, str(limit.share))
        return Cap(full, full, share=str(share), entry=entry.text if entry else "")

    def next_change(self) -> datetime | None:
        """When another share holds, by a limit's end or the timetable; None if never."""
        cap = self.cap()
        if cap.limit is not None:
            return cap.limit.until
        share = self.settings.uplink.share
        return timetable.next_change(self.timetable(), self.now(), share, self.local)

    def room_before_pause(self) -> int | None:
        """Bytes of images that may leave before the timetable pauses sending; None if it does not
        in the next twelve hours. Looked at minute by minute: a timetable knows no shorter times."""
        link, entries = self.settings.uplink.link, self.timetable()
        if all(entry.share.of(link) for entry in entries):
            return None
        now, limit, room = self.now(), Limit.decode(self.site.get(LIMIT)), 0.0
        at = now
        while at < now + _PAUSE_AHEAD:
            rate = self._cap_at(at, limit, entries).for_images
            if not rate:
                return int(room)
            until = at.replace(second=0, microsecond=0) + _MINUTE
            room += rate * (until - at).total_seconds()
            at = until
        return None

    @property
    def day(self) -> SiteDay | None:
        """The allowance of a day that this gateway shares with others; None: it shares none."""
        shared = self.settings.shares_uplink and self.settings.uplink.daily
        return SiteDay(self.settings, self.site) if shared else None

    def charged_day(self) -> int:
        """The number of the day that images are charged to now; a clock set back is not it."""
        interval = self.settings.uplink.interval
        return ledger.read_use(self.state / Part.DRAIN, interval, today=self.today).number

    def allowance(self, part: Part) -> int:
        """Bytes of one local day for this part, at the most; 0: no bound. Gateways that share an
        uplink have equal parts of it for the rest, and share the images' part."""
        daily, day = self.settings.uplink.daily, self.day
        if day is not None and part is Part.DRAIN:
            return max(1, day.shares.floor + day.shares.pool)
        if day is not None:
            daily = max(1, daily // self.settings.uplink.gateways)
        return slots.drain_part(daily) if part is Part.DRAIN else slots.other_part(daily)

    def more_today(self, number: int) -> int:
        """Bytes of images that may leave on this day besides what its ledger has left: what can be
        had of the site's pool."""
        return 0 if self.day is None else self.day.free(number)

    def daily(self) -> Daily | None:
        """The images' part of the allowance of a day, and what of it is used; None: no bound. Of a
        shared one, an equal part, as a guess; but no more is left of today than can be had."""
        allowance, interval = self.allowance(Part.DRAIN), self.settings.uplink.interval
        if not allowance:
            return None
        use = ledger.read_use(self.state / Part.DRAIN, interval, today=self.today)
        used = use.day
        if self.day is not None:
            left = self._room_on(use.number) - use.day
            allowance = max(1, self.settings.uplink.daily // self.settings.uplink.gateways)
            used = max(0, allowance - max(0, left))
        if use.day_spent or self._day_over():
            used = allowance
        return Daily(allowance, used, lambda at: self.local(at).toordinal())

    def _room_on(self, number: int) -> int:
        """Bytes of images that may leave here on a day, in all."""
        if self.day is None:
            return self.allowance(Part.DRAIN)
        return self.day.allowance(number) + self.day.free(number)

    def today(self) -> int:
        """Which local day it is, as ``date.toordinal`` counts them."""
        return self.local(self.now()).toordinal()

    def budget(self) -> BudgetUse:
        """The cap in force now, and what the last interval and this day used, by both parts."""
        interval, cap = self.settings.uplink.interval, self.cap()
        uses = [ledger.read_use(self.state / part, interval, today=self.today) for part in Part]
        daily = self._room_on(uses[0].number)
        return BudgetUse(
            rate=cap.rate,
            budget=cap.rate * interval,
            interval=interval,
            used=sum(use.interval for use in uses),
            full_rate=cap.full_rate,
            limit_reason=cap.limit.reason if cap.limit else "",
            limit_until=cap.limit.until if cap.limit else None,
            paused=cap.is_pause,
            why=cap.why,
            day_used=sum(use.day for use in uses),
            day_allowance=daily + self.allowance(Part.OTHER),
            day_spent=bool(self.settings.uplink.daily)
            and (uses[0].day_spent or uses[0].day >= daily or self._day_over()),
            lease=self.lease(),
            timetable=self.site_timetable(),
            site_day=None if self.day is None else self.day.state(),
        )

    def end_day(self) -> None:
        """Note that what is left of this day's allowance covers none of the images that wait."""
        self.site.put(DAY_OVER, self._this_day())

    def _day_over(self) -> bool:
        return bool(self.site.get(DAY_OVER) == self._this_day())

    def _this_day(self) -> list[int]:
        return [self.today(), self._room_on(self.today())]  # a larger allowance is another matter

    def open_ledger(self, part: Part) -> Ledger:
        """The part's ledger, to charge; only under the part's lock. DiskError."""
        day = self.day if part is Part.DRAIN else None
        return Ledger(
            self.state / part,
            self.settings.uplink.interval,
            allowance=self.allowance(part) if day is None else day.allowance,
            today=self.today,
        )

    def hold_rest_lock(self, who: str, wait_seconds: float) -> Lock:
        """Who holds it may charge the ledger of the rest; LockHeld after ``wait_seconds``."""
        return locks.acquire(self.state, self.state / "other.lock", who, wait_seconds=wait_seconds)

    def blocked_reason(self, part: Part, book: Ledger) -> Ending | None:
        """Why nothing of a part may leave for longer than a second, and when it may again; None if
        it may."""
        if book.day_spent and not (part is Part.DRAIN and self.more_today(book.day.number)):
            return Ending(Outcome.ALLOWANCE_SPENT, self._after_midnight(book.day.number))
        cap = self.cap()
        if not cap.part(part):
            if cap.limit is not None and cap.limit.is_pause:
                return Ending(Outcome.PAUSED_BY_HAND, cap.limit.words)
            change = self.next_change()
            when = f"{self.local(change):%a %d %b at %H:%M}" if change else "another timetable"
            return Ending(Outcome.PAUSED, f"it begins again on {when} local time")
        return None

    def too_little_left(self, left: int) -> Ending:
        """Why a run ends that has ``left`` bytes of the day's allowance, and needs more for each
        image that waits."""
        return Ending(
            Outcome.ALLOWANCE_SPENT,
            f"{units.human_size(left)} are left of it, too little for the next image; "
            + self._after_midnight(self.today()),
        )

    @staticmethod
    def _after_midnight(day: int) -> str:
        return (
            f"it begins again on {date.fromordinal(day) + timedelta(days=1):%a %d %b} at 00:00 "
            "local time"
        )


class _NoLimit:
    def get(self, _name: str) -> Any:
        return None

    def put(self, _name: str, _value: Any) -> None:
        return None


def uplink_without_spool(settings: Settings, state: Path, now: Callable[[], datetime]) -> Uplink:
    """The uplink for messages while the spool's disk is missing, with ledgers in ``state``. The
    limit that a person set is on the missing disk as well. DiskError."""
    if not all((state / part).exists() for part in Part):
        create_ledgers(state, settings.uplink.interval)
    return Uplink(settings, _NoLimit(), state, now)
