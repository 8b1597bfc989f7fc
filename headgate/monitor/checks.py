"""What is called wrong, by what is seen and what was wrong before. Pure.

Each has two thresholds: what it takes to call something wrong, and the easier one that keeps it so
(hysteresis). Each gives a subject (a device, a channel, or nothing) and a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headgate.monitor.devices import DeviceFacts
from headgate.monitor.snapshot import Snapshot
from headgate.settings.units import human_duration, human_size
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run

_MINUTE = 60
_HOUR = 3600
_FORECAST_HOURS = (12, 24)  # wrong from, and until
_INODES = (1_000, 2_000)
_CLOCK_SECONDS = (60, 30)
_S3_CLOCK_SECONDS = (120, 60)  # S3 refuses everything from 15 minutes on
_UNUSABLE = ((5, 0.2), (1, 0.1))  # images of the last hour, and their share
_UNUSED = (0.5, 0.7)  # of the cap


@dataclass(frozen=True, slots=True)
class Signs:
    """Everything that the rules look at."""

    facts: Snapshot
    minutes: Sequence[Flow] = ()  # of the last hour and a quarter
    receiver: str = ""  # why it seems silent
    disk_trouble: str = ""  # why it takes nothing
    at_work: bool = False  # a run holds the drain lock
    open_to_all: bool = False
    s3_clock_offset_seconds: float | None = None
    channels: Mapping[str, str] = field(default_factory=dict)  # those that fail, and why

    @property
    def now(self) -> datetime:
        return self.facts.at

    @property
    def interval(self) -> int:
        return self.facts.budget.interval

    def age(self, since: datetime | None) -> float:
        """Seconds since then; 0 if it never was."""
        return 0.0 if since is None else (self.now - since).total_seconds()


def _images(count: Count) -> str:
    word = "image" if count.images == 1 else "images"
    return f"{count.images} {word} ({human_size(count.bytes)})"


def one(sentence: str) -> Iterator[tuple[str, str]]:
    if sentence:
        yield "", sentence


def _ended(signs: Signs) -> Run | None:
    """The last run that tells whether images can be sent: it failed, or came to an image. One that
    had nothing to do, or was paused by the timetable, does not."""
    return next(
        (
            run
            for run in signs.facts.runs
            if run.ended_at and (run.exit_code or run.attempts or run.images or run.set_aside)
        ),
        None,
    )


def uplink_down(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    run = _ended(signs)
    down = run is not None and run.outcome is Outcome.UPLINK_DOWN
    waiting = signs.facts.waiting
    if down and run is not None:
        yield (
            "",
            f"{run.message or 'Nothing was reached.'} What waits is safe: {_images(waiting)}.",
        )


def runs_fail(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    run = _ended(signs)
    if run is not None and run.exit_code == 1:
        yield "", f"The last run failed: {run.message or run.outcome}"


def nothing_confirmed(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Whole runs tried in vain, for two intervals. A pause does not begin the trouble, and does not
    end it either."""
    facts = signs.facts
    waiting, paused = facts.waiting + facts.sending, not facts.budget.rate
    if not waiting.images or not facts.proof.is_stuck(signs.now, signs.interval):
        return
    if paused and not before:
        return
    since = human_duration(facts.proof.failing_seconds(signs.now))
    why = f" The last run: {facts.proof.why}" if facts.proof.why else ""
    yield (
        "",
        f"Nothing has been confirmed in the bucket for {since}, though it was tried. "
        f"{_images(waiting)} wait, safe on disk.{why}",
    )


def no_run(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Two intervals of cron's, and a minute for cron and the run's own start. Where a queue starts
    the runs those are the floor's; that the queue is silent is told by itself, and sooner."""
    triggers = signs.facts.triggers
    every = next((one.every_seconds for one in triggers if one.kind == "cron"), None)
    every = every or signs.interval
    allowed = 2 * every + _MINUTE
    began = max((run.started_at for run in signs.facts.runs), default=None)
    ended = max((run.ended_at for run in signs.facts.runs if run.ended_at), default=began)
    last = max((at for at in (began, ended) if at is not None), default=None)
    if signs.at_work:
        return
    if last is None:
        oldest = signs.facts.oldest_waiting_at
        if oldest is not None and (signs.now - oldest).total_seconds() > allowed:
            yield "", "No run has ever started, so nothing is sent."
    elif (quiet := (signs.now - last).total_seconds()) > allowed:
        yield (
            "",
            f"No run for {human_duration(quiet)}, and one is due every "
            f"{human_duration(every)}: nothing is sent.",
        )


def queue_silent(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Two intervals and a minute without a message, and without anybody who asks by HTTP instead:
    that may be the way of the trigger that the owner set up."""
    by_kind = {one.kind: one for one in signs.facts.triggers}
    queue, http = by_kind.get("queue"), by_kind.get("http")
    if queue is None or queue.every_seconds is None:
        return
    quiet = queue.quiet_seconds(signs.now)
    if quiet is not None and http is not None and http.last_at is not None:
        quiet = min(quiet, (signs.now - http.last_at).total_seconds())
    if quiet is not None and quiet > 2 * queue.every_seconds + _MINUTE:
        floor = by_kind["cron"].every_seconds if "cron" in by_kind else None
        goes_on = f" cron's own run goes on every {human_duration(floor)}." if floor else ""
        yield (
            "",
            f"No message came through the queue for {human_duration(quiet)}, and one is due every "
            f"{human_duration(queue.every_seconds)}: the worker, the broker or who sends them is "
            f"at rest.{goes_on}",
        )


def backlog_old(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Older than three intervals, and the backlog does not shrink either. Or the oldest came long
    ago and was tried in vain: each attempt sets back since when it could have gone."""
    facts = signs.facts
    if not facts.budget.rate:
        return
    ease = 2 / 3 if before else 1
    came, went = _moved(signs, 2 * signs.interval // _MINUTE)
    age, limit = signs.age(facts.oldest_due_at), max(3 * signs.interval, 15 * _MINUTE) * ease
    waits, longest = signs.age(facts.oldest_waiting_at), max(12 * signs.interval, _HOUR) * ease
    if age > limit and went <= came:
        yield (
            "",
            f"The oldest image could have gone {human_duration(age)} ago, and the backlog of "
            f"{_images(facts.waiting)} does not shrink.",
        )
    elif facts.oldest_attempts and waits > longest:
        tried = "once" if facts.oldest_attempts == 1 else f"{facts.oldest_attempts} times"
        yield (
            "",
            f"The oldest image came {human_duration(waits)} ago and was tried {tried} in vain; "
            f"{_images(facts.waiting)} wait.",
        )


def backlog_grows(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """In each quarter of the last hour more came than went; it ends with half an hour that
    shrinks."""
    if signs.facts.waiting.bytes <= signs.facts.budget.budget:
        return
    quarters = [_moved(signs, 15, back=back) for back in (0, 15, 30, 45)]
    grew = [came > went for came, went in quarters]
    if all(grew) or (before and any(grew[:2])):
        more = sum(came - went for came, went in quarters)
        yield (
            "",
            f"For an hour more has come in than went out: {human_size(max(0, more))} more wait "
            f"than an hour ago, {human_size(signs.facts.waiting.bytes)} in all.",
        )


def cap_unused(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """With more than a run's budget waiting, the last three intervals used less than half."""
    budget = signs.facts.budget
    minutes = min(60, 3 * signs.interval // _MINUTE)
    if signs.facts.waiting.bytes <= budget.budget or not budget.rate or budget.day_spent:
        return
    since = signs.now - timedelta(minutes=minutes)
    sent = sum(flow.sent_bytes for flow in signs.minutes if flow.at >= since)
    used = sent / (budget.rate * minutes * 60)
    if used < _UNUSED[1 if before else 0]:
        yield (
            "",
            f"{human_size(signs.facts.waiting.bytes)} wait, but only {used:.0%} of the cap of "
            f"{human_size(budget.rate)}/s was used in the last {minutes} min: the network carries "
            "no more, or something slows the runs.",
        )


def _moved(signs: Signs, minutes: int, back: int = 0) -> tuple[int, int]:
    """Bytes of images that came in and went out in so many minutes, so many minutes ago."""
    until = signs.now - timedelta(minutes=back)
    since = until - timedelta(minutes=minutes)
    found = [flow for flow in signs.minutes if since <= flow.at < until]
    return (
        sum(flow.received.bytes for flow in found),
        sum(flow.uploaded.bytes for flow in found),
    )


def disk_full(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Wrong as soon as the receiver refuses; good again with a tenth of the floor to spare."""
    seen = signs.facts.admission
    if seen.is_full:
        yield "", seen.sentence
    elif before and seen.free_bytes < seen.needed_bytes + seen.keep_free_bytes // 10:
        yield (
            "",
            f"The disk is nearly full: {human_size(seen.free_bytes)} are free, and below "
            f"{human_size(seen.needed_bytes)} uploads are refused.",
        )


def refusals(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Of each kind that many uploads met lately."""
    for one in signs.facts.refused:
        if one.is_many(one.code in before):
            yield one.code, one.sentence


def disk_soon(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    full = signs.facts.forecast.full
    hours = _FORECAST_HOURS[1 if before else 0]
    if full is not None and full.at - signs.now < timedelta(hours=hours):
        left = human_duration(max(0.0, (full.at - signs.now).total_seconds()))
        yield "", f"At this pace the disk is full in {left}, and then uploads are refused."


def inodes(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    free, soon = signs.facts.free_inodes, signs.facts.forecast.inodes
    hours = _FORECAST_HOURS[1 if before else 0]
    if soon is not None and soon.at - signs.now < timedelta(hours=hours):
        left = human_duration(max(0.0, (soon.at - signs.now).total_seconds()))
        pace = f"and at this pace the last is gone in {left}"
    elif free < _INODES[1 if before else 0]:
        pace = "and each image takes one"
    else:
        return
    yield "", f"The disk has {free} inodes left, {pace}; without one uploads are refused."


def disk_refuses(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    if signs.disk_trouble:
        yield (
            "",
            f"{signs.disk_trouble} Nothing is accepted until test writes pass; what was "
            "acknowledged is safe.",
        )


def set_aside(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    count = signs.facts.set_aside
    if count.images:
        yield "", f"Set aside, and not sent until a person looks: {_images(count)}."


def unaccounted(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """Totals are read one after the other while images move, so only what lasts is told."""
    if lost := signs.facts.lost.images:
        yield "", f"{lost} images are lost: they were received, and their files are nowhere."
    elif count := signs.facts.unaccounted:
        if count > 0:
            yield "", f"{count} images were received and are in no known state."
        else:
            yield "", f"{-count} more images are known than were counted as received."


def _devices(signs: Signs) -> Iterator[DeviceFacts]:
    return (one for one in signs.facts.devices if one.missed)


def silent(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    for one in _devices(signs):
        if one.last_at is not None and one.is_silent(signs.now):
            quiet = human_duration((signs.now - one.last_at).total_seconds())
            yield one.device, f"{one.device} has sent nothing for {quiet}."


def gaps(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    for one in _devices(signs):
        if one.missing:
            were = "image never came" if one.missing == 1 else "images never came"
            yield (
                one.device,
                f"{one.missing} {were} from {one.device}, by its sequence numbers.",
            )


def unusable(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    for one in _devices(signs):
        told = one.unusable
        least, share = _UNUSABLE[1 if one.device in before else 0]
        if told.lately >= least and told.share >= share:
            yield (
                one.device,
                f"{told.lately} of the last {told.lately + told.good} images of {one.device} could "
                "not be taken: cut off, changed on the way, or no images. Nothing of them is "
                "stored.",
            )


def clocks(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    for one in _devices(signs):
        off = one.clock_offset_seconds
        limit = _CLOCK_SECONDS[1 if one.device in before else 0]
        fresh = one.last_at is not None and signs.now - one.last_at < timedelta(days=1)
        if fresh and off is not None and abs(off) >= limit:
            way = "ahead" if off > 0 else "behind"
            yield one.device, f"The clock of {one.device} is {human_duration(abs(off))} {way}."


def s3_clock(signs: Signs, before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    off = signs.s3_clock_offset_seconds
    if signs.facts.clock_behind:  # told without an uplink, too
        yield "", signs.facts.clock_behind
    elif off is not None and abs(off) >= _S3_CLOCK_SECONDS[1 if before else 0]:
        yield (
            "",
            f"This machine's clock and S3's differ by {human_duration(abs(off))}; from 15 min on "
            "S3 refuses everything.",
        )


def open(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    if signs.open_to_all:
        yield "", "Whoever reaches this machine may send images: no token is asked for."


def channels(signs: Signs, _before: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    for name, why in signs.channels.items():
        yield name, f"Alerts do not get out by {name}: {why}"
