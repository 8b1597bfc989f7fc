"""Why an image is where it is: what it waits for, how much goes before it, when it may leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from headgate.monitor import forecast, forecast_inputs
from headgate.monitor.checks import images
from headgate.monitor.forecast import Doubt
from headgate.settings.units import human_duration, human_size
from headgate.spool.image.image import Count, Item, Receipt, State
from headgate.spool.query import Query
from headgate.spool.site.holds import Hold
from headgate.spool.spool import Spool

_ALIVE = frozenset({State.WAITING, State.SENDING, State.HELD, State.SET_ASIDE})


class Wait(StrEnum):
    """What an image waits for; the value is for programs."""

    NOTHING = "nothing"  # it is uploaded, or gone
    RUN_AT_WORK = "run_at_work"
    TURN = "turn"
    NEXT_ATTEMPT = "next_attempt"
    BUCKET = "bucket"
    RESUME = "resume"
    TIMETABLE = "timetable"
    NEXT_DAY = "next_day"
    SCHEDULE = "schedule"
    PERSON = "person"
    RELEASE = "release"


SENTENCES = {
    Wait.NOTHING: "It waits for nothing.",
    Wait.RUN_AT_WORK: "A run is sending it.",
    Wait.TURN: "It waits for its turn.",
    Wait.NEXT_ATTEMPT: "Its last attempt failed; it is tried again at its time.",
    Wait.BUCKET: "The destination refused it in a way that may concern every image: others are "
    "tried first. See headgate config check.",
    Wait.RESUME: "Uploads are paused; see headgate resume.",
    Wait.TIMETABLE: "The timetable sends nothing at this hour; see uplink.timetable.",
    Wait.NEXT_DAY: "The day's allowance is used up; see uplink.daily.",
    Wait.SCHEDULE: "No run comes by itself; see headgate cron install.",
    Wait.RELEASE: "A person holds it; headgate release lets it go on.",
    Wait.PERSON: "It is set aside and waits for a person: headgate retry or headgate discard.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one image is where it is. ``ahead``: about what leaves before it. ``departs_at``: when
    it should begin to leave if no newer image goes first; None: that is unknown, or it does not
    wait."""

    receipt: Receipt
    waits_for: Wait
    attempts: int = 0
    next_attempt_at: datetime | None = None
    ahead: Count | None = None
    departs_at: datetime | None = None
    held: Hold | None = None


@dataclass(frozen=True, slots=True)
class DeviceReason:
    """How many images of one device wait, and why the oldest of them does."""

    device: str
    enrolled: bool
    last_seen_at: datetime | None
    received: Count
    waiting: Count
    oldest: Reason | None


def of_image(spool: Spool, ref: str) -> Reason | None:
    """Explain one image, by its id or SHA-256; None if there is no such image."""
    receipt = spool.receipt(ref)
    if receipt is None:
        return None
    item = spool.catalog.get(receipt.id)
    hold = spool.site.holds.of(receipt.id, receipt.device)
    if item is None or receipt.state not in _ALIVE:
        return Reason(receipt, Wait.NOTHING, held=hold)
    wait = _wait(spool, item)
    later = item.next_attempt_at if wait is Wait.NEXT_ATTEMPT else None
    if wait in (Wait.PERSON, Wait.RELEASE, Wait.RUN_AT_WORK, Wait.BUCKET):
        return Reason(receipt, wait, item.attempts, held=hold)
    ahead = spool.catalog.backlog.ahead_of(item, spool.settings.uplink.order)
    now, waiting = spool.now(), spool.catalog.totals().waiting
    outlook = forecast_inputs.outlook(spool, now, waiting)
    departs = forecast.departure(outlook, ahead.bytes)
    if departs is not None and later is not None:
        departs = max(departs, later)
    return Reason(receipt, wait, item.attempts, later, ahead, departs)


def of_device(spool: Spool, device: str) -> DeviceReason | None:
    """Explain one device; None if no device of this name ever sent anything, or is enrolled."""
    if not spool.knows_device(device):
        return None
    seen = spool.catalog.arrivals_of(device)
    query = Query(device=device, states=_ALIVE, oldest_first=True, limit=1)
    oldest = spool.find(query).receipts
    return DeviceReason(
        device,
        spool.site.devices.is_named(device),
        None if seen is None else seen.last_at,
        Count() if seen is None else Count(seen.images, seen.bytes),
        spool.catalog.backlog.waiting(device),
        of_image(spool, oldest[0].id) if oldest else None,
    )


def _wait(spool: Spool, item: Item) -> Wait:
    """The first of what keeps it, in the order in which a person would have to end it."""
    now = spool.now()
    if item.state is State.SET_ASIDE:
        return Wait.PERSON
    if item.state is State.HELD:
        return Wait.RELEASE
    if item.state is State.SENDING:
        return Wait.RUN_AT_WORK
    cap = spool.uplink.cap()
    if cap.is_pause:
        return Wait.RESUME
    if item.refusals:
        return Wait.BUCKET
    if item.next_attempt_at is not None and item.next_attempt_at > now:
        return Wait.NEXT_ATTEMPT
    daily = spool.uplink.daily()
    if daily is not None and daily.used >= daily.allowance:
        return Wait.NEXT_DAY
    if not cap.for_images:
        return Wait.TIMETABLE
    doubt = forecast_inputs.outlook(spool, now, Count()).doubt
    return Wait.SCHEDULE if doubt is Doubt.NO_RUN else Wait.TURN


def outlook(found: Reason, now: datetime) -> Iterator[tuple[str, str]]:
    """What keeps an image and when it may leave, each with a label of one or two words. Pure."""

    def until(at: datetime) -> str:
        return human_duration(max(0.0, (at - now).total_seconds()))

    if found.held is not None:
        yield "held", found.held.words
    if found.waits_for is not Wait.NOTHING:
        yield "waits for", SENTENCES[found.waits_for]
    if found.attempts:
        yield "attempts", f"{found.attempts} without success"
    if found.next_attempt_at is not None:
        yield "next", f"in {until(found.next_attempt_at)}"
    if found.ahead is not None:
        yield "before it", _before(found.ahead)
    if found.departs_at is not None:
        yield "leaves", f"in about {until(found.departs_at)}, unless newer images go first"


def _before(ahead: Count) -> str:
    """Shares of other devices may come to bytes without a whole image."""
    if ahead.images:
        return f"about {images(ahead)}"
    return f"about {human_size(ahead.bytes)} of other devices" if ahead.bytes else "nothing"
