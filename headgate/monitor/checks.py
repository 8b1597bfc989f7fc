"""What is wrong now: the table of ``headgate.monitor.rules``, applied to what is seen. Pure.

The alerts and the status page ask ``find``, so they agree. A check yields the
subject (a device, a channel, a refusal's code, or nothing) and the words that fill in its rule's
sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from headgate.host.exit_codes import Exit
from headgate.monitor import rules
from headgate.monitor.devices import DeviceFacts
from headgate.monitor.rules import BY_CODE, RULES, AlertCondition
from headgate.monitor.snapshot import Snapshot
from headgate.settings.units import counted, human_duration, human_size
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.catalog.traffic import Flow
from headgate.spool.disk.room import DISK_TROUBLE
from headgate.spool.image.image import Count
from headgate.spool.image.names import device_shown
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run

_MINUTE = 60
_FAILED = (Outcome.FAILED, Outcome.UPLINK_DOWN)
Found = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Signs:
    """Everything that the checks use."""

    facts: Snapshot
    minutes: Sequence[Flow] = ()  # of the last hour and a quarter
    receiver: str = ""  # why it seems silent
    at_work: bool = False  # a run holds the drain lock
    open_to_all: bool = False
    s3_clock_offset_seconds: float | None = None
    channels: Mapping[str, str] = field(default_factory=dict)  # those that fail, and why
    silent_gateways: Mapping[str, datetime] = field(default_factory=dict)  # and the last report

    @property
    def now(self) -> datetime:
        return self.facts.at

    @property
    def interval(self) -> int:
        return self.facts.budget.interval

    def age(self, since: datetime | None) -> float:
        """Seconds since then; 0 if it never was."""
        return 0.0 if since is None else (self.now - since).total_seconds()


def find(
    signs: Signs, before: Collection[tuple[str, str]], leave_out: Collection[str] = ()
) -> list[AlertCondition]:
    """All that is wrong now, most serious first; ``before``: (code, subject) of what was wrong at
    the last check. ``leave_out``: codes to skip."""
    return [
        AlertCondition(rule.code, rule.sentence.format(**words), subject)
        for rule in RULES
        if rule.code not in leave_out
        for subject, words in _CHECKS[rule.code](
            signs, frozenset(subject for code, subject in before if code == rule.code)
        )
    ]


def images(count: Count) -> str:
    """A number of images and their size, in words."""
    return f"{images_word(count.images)} ({human_size(count.bytes)})"


def images_word(number: int) -> str:
    """The number of images in words."""
    return counted(number, "image")


def waiting(count: Count) -> str:
    """How many are waiting, in words."""
    if not count.images:
        return "no image is waiting"
    return f"{images(count)} {'is' if count.images == 1 else 'are'} waiting"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _why(text: str, before: str, otherwise: str = "") -> str:
    return f"{before}{text}" if text else otherwise


def _ended(signs: Signs) -> Run | None:
    """The last run that tells whether images can be sent: it failed, or came to an image. One that
    had nothing to do, or was paused by the timetable, does not."""
    return next(
        (
            run
            for run in signs.facts.runs
            if run.ended_at
            and (
                run.outcome in _FAILED
                or run.exit_code
                or run.attempts
                or run.images
                or run.set_aside
            )
        ),
        None,
    )


def _receiver(signs: Signs, _before: AbstractSet[str]) -> Found:
    if signs.receiver:
        yield "", {"why": signs.receiver}


def _disk_refuses(signs: Signs, _before: AbstractSet[str]) -> Found:
    if signs.facts.admission.code == DISK_TROUBLE:
        yield "", {"why": signs.facts.admission.sentence}


def _disk_full(signs: Signs, before: AbstractSet[str]) -> Found:
    """As soon as the receiver refuses, and until there is room to spare."""
    seen = signs.facts.admission
    if seen.is_full:
        yield "", {"why": seen.sentence}
    elif before and _room_is_below(signs.facts, rules.FULL.still):
        yield "", {"why": nearly_full(signs.facts)}


def _room_is_below(facts: Snapshot, share: float) -> bool:
    seen = facts.admission
    return seen.free_bytes < seen.needed_bytes + share * seen.keep_free_bytes


def nearly_full(facts: Snapshot) -> str:
    """The sentence, if the disk's room is little more than what is kept free; else empty."""
    if not _room_is_below(facts, rules.NEARLY_FULL.wrong):
        return ""
    seen = facts.admission
    return rules.DISK_LOW.sentence.format(
        free=human_size(seen.free_bytes), needed=human_size(seen.needed_bytes)
    )


def _refusals(signs: Signs, before: AbstractSet[str]) -> Found:
    for one in signs.facts.refused:
        was = one.code in before
        if one.requests >= rules.REFUSED.at(was) and one.share >= rules.REFUSED_SHARE.at(was):
            yield one.code, _refused_words(one)


def refused(one: RefusedLately) -> str:
    """The sentence on uploads that one refusal met."""
    return BY_CODE["uploads-refused"].sentence.format(**_refused_words(one))


def _refused_words(one: RefusedLately) -> dict[str, Any]:
    return {
        "requests": one.requests, "minutes": one.minutes, "share": one.share, "code": one.code,
    }  # fmt: skip


def _unaccounted(signs: Signs, _before: AbstractSet[str]) -> Found:
    """Totals are read one after the other while images move, so a message waits a little."""
    if lost := signs.facts.lost.images:
        are = "is lost: it was" if lost == 1 else "are lost: they were"
        yield "", {"what": f"{images_word(lost)} {are} received, and no file is left."}
    elif count := signs.facts.unaccounted:
        many = images_word(abs(count))
        is_so = "received but in no known state" if count > 0 else "known but never received"
        yield "", {"what": f"{many} cannot be accounted for: {is_so}."}


def _uplink_down(signs: Signs, _before: AbstractSet[str]) -> Found:
    run = _ended(signs)
    if run is not None and run.outcome is Outcome.UPLINK_DOWN:
        waits = _sentence(waiting(signs.facts.waiting))
        yield "", {"why": _why(run.message.rstrip("."), ": "), "waiting": waits}


def _runs_fail(signs: Signs, _before: AbstractSet[str]) -> Found:
    run = _ended(signs)
    if run is not None and (run.outcome is Outcome.FAILED or run.exit_code == Exit.ERROR):
        ago = human_duration(max(0.0, signs.age(run.ended_at)))
        yield "", {"ago": ago, "why": _why(run.message, ": ", ".")}


def _nothing_confirmed(signs: Signs, before: AbstractSet[str]) -> Found:
    """Whole runs tried without success. A pause does not start this state, nor end it."""
    facts = signs.facts
    if not (facts.waiting + facts.sending).images or (not facts.budget.rate and not before):
        return
    if facts.proof.is_stuck(signs.now, rules.UNCONFIRMED.seconds(signs.interval)):
        yield "", unconfirmed(facts)


def unconfirmed(facts: Snapshot) -> dict[str, str]:
    """What fills in the sentence on runs that confirm nothing."""
    return {
        "since": human_duration(facts.proof.failing_seconds(facts.at)),
        "waiting": _sentence(waiting(facts.waiting + facts.sending)),
        "why": _why(facts.proof.why, " The last run: "),
    }


def _no_run(signs: Signs, _before: AbstractSet[str]) -> Found:
    """No run has started for too long. Where a queue starts the runs, cron's fallback interval
    counts here; ``queue-silent`` comes sooner."""
    facts = signs.facts
    every = next((one.every_seconds for one in facts.triggers if one.kind == "cron"), None)
    every = every or signs.interval
    seen = [at for run in facts.runs for at in (run.started_at, run.ended_at) if at is not None]
    since = max(seen, default=facts.oldest_waiting_at)
    quiet = signs.age(since)
    if not signs.at_work and quiet > rules.RUN_LATE.seconds(every):
        yield "", {"quiet": human_duration(quiet), "every": human_duration(every)}


def _paused(signs: Signs, _before: AbstractSet[str]) -> Found:
    budget = signs.facts.budget
    if budget.paused:
        waits = _sentence(waiting(signs.facts.waiting))
        yield "", {"words": budget.limit_words, "waiting": waits}


def _not_shared(signs: Signs, _before: AbstractSet[str]) -> Found:
    lease = signs.facts.budget.lease
    if lease is not None and lease.trouble:
        yield "", {"why": lease.trouble, "rate": human_size(lease.floor)}


def _gateway_silent(signs: Signs, _before: AbstractSet[str]) -> Found:
    for name, at in sorted(signs.silent_gateways.items()):
        yield name, {"name": name, "quiet": human_duration(max(0.0, signs.age(at)))}


def _queue_silent(signs: Signs, _before: AbstractSet[str]) -> Found:
    """No message of the queue has come for too long, and no request by HTTP instead, which may be
    how the owner starts runs."""
    by_kind = {one.kind: one for one in signs.facts.triggers}
    queue, http = by_kind.get("queue"), by_kind.get("http")
    if queue is None or queue.every_seconds is None:
        return
    quiet = queue.quiet_seconds(signs.now)
    if quiet is not None and http is not None and http.last_at is not None:
        quiet = min(quiet, signs.age(http.last_at))
    if quiet is not None and quiet > rules.RUN_LATE.seconds(queue.every_seconds):
        floor = by_kind["cron"].every_seconds if "cron" in by_kind else None
        yield (
            "",
            {
                "quiet": human_duration(quiet),
                "every": human_duration(queue.every_seconds),
                "floor": f" Cron starts a fallback run every {human_duration(floor)}."
                if floor
                else "",
            },
        )


def _set_aside(signs: Signs, _before: AbstractSet[str]) -> Found:
    if signs.facts.set_aside.images:
        yield "", {"images": images(signs.facts.set_aside)}


def _disk_soon(signs: Signs, before: AbstractSet[str]) -> Found:
    full = signs.facts.forecast.full
    if full is not None and -signs.age(full.at) < rules.FULL_SECONDS.at(bool(before)):
        yield "", {"left": human_duration(max(0.0, -signs.age(full.at)))}


def _inodes(signs: Signs, before: AbstractSet[str]) -> Found:
    free, soon = signs.facts.free_inodes, signs.facts.forecast.inodes
    if soon is not None and -signs.age(soon.at) < rules.FULL_SECONDS.at(bool(before)):
        left = human_duration(max(0.0, -signs.age(soon.at)))
        yield "", {"inodes": free, "pace": f"and at this rate the last is gone in {left}"}
    elif free < rules.FREE_INODES.at(bool(before)):
        yield "", {"inodes": free, "pace": "and each image takes one"}


def _backlog_old(signs: Signs, before: AbstractSet[str]) -> Found:
    """The oldest could have left long ago, and the backlog does not shrink either. Or the oldest
    came long ago and every attempt failed: each attempt resets the time since when it could have
    been sent."""
    facts, was = signs.facts, bool(before)
    if not facts.budget.rate:
        return
    came, went = _moved(signs, 2 * signs.interval // _MINUTE)
    age, waits = signs.age(facts.oldest_due_at), signs.age(facts.oldest_waiting_at)
    if age > rules.WAITS_LONG.seconds(signs.interval, was) and went <= came:
        ago = human_duration(age)
        what = f"The oldest image could have been sent {ago} ago, and the backlog does not shrink: "
        yield "", {"what": f"{what}{waiting(facts.waiting)}."}
    elif facts.oldest_attempts and waits > rules.TRIED_LONG.seconds(signs.interval, was):
        tried = "once" if facts.oldest_attempts == 1 else counted(facts.oldest_attempts, "time")
        what = f"The oldest image came {human_duration(waits)} ago and failed {tried}; "
        yield "", {"what": f"{what}{waiting(facts.waiting)}."}


def _backlog_grows(signs: Signs, before: AbstractSet[str]) -> Found:
    """More came than went in each quarter of the last hour; it ends with half an hour in which the
    backlog shrinks."""
    if signs.facts.waiting.bytes <= signs.facts.budget.budget:
        return
    quarters = [_moved(signs, 15, back=back) for back in (0, 15, 30, 45)]
    grew = [came > went for came, went in quarters]
    if all(grew) or (before and any(grew[:2])):
        more = max(0, sum(came - went for came, went in quarters))
        yield "", {"more": human_size(more), "bytes": human_size(signs.facts.waiting.bytes)}


def _cap_unused(signs: Signs, before: AbstractSet[str]) -> Found:
    """More than a run's budget waits, and the last three intervals used little of the cap."""
    budget = signs.facts.budget
    minutes = min(60, 3 * signs.interval // _MINUTE)
    if signs.facts.waiting.bytes <= budget.budget or not budget.rate or budget.day_spent:
        return
    since = signs.now - timedelta(minutes=minutes)
    sent = sum(flow.sent_bytes for flow in signs.minutes if flow.at >= since)
    share = sent / (budget.rate * minutes * _MINUTE)
    if share < rules.CAP_USED.at(bool(before)):
        yield (
            "",
            {
                "bytes": human_size(signs.facts.waiting.bytes),
                "share": share,
                "rate": human_size(budget.rate),
                "minutes": minutes,
            },
        )


def _moved(signs: Signs, minutes: int, back: int = 0) -> tuple[int, int]:
    """Bytes of images that came in and went out in this many minutes, this many minutes ago."""
    until = signs.now - timedelta(minutes=back)
    since = until - timedelta(minutes=minutes)
    found = [flow for flow in signs.minutes if since <= flow.at < until]
    return (
        sum(flow.received.bytes for flow in found),
        sum(flow.uploaded.bytes for flow in found),
    )


def _devices(signs: Signs) -> Iterator[DeviceFacts]:
    return (one for one in signs.facts.devices if one.missed)


def _shown(one: DeviceFacts) -> str:
    return device_shown(one.device)


def _silent(signs: Signs, _before: AbstractSet[str]) -> Found:
    for one in _devices(signs):
        if one.is_silent(signs.now):
            quiet = human_duration(signs.age(one.last_at))
            yield one.device, {"device": _shown(one), "quiet": quiet}


def _gaps(signs: Signs, _before: AbstractSet[str]) -> Found:
    for one in _devices(signs):
        if one.missing:
            yield (
                one.device,
                {"device": _shown(one), "images": images_word(one.missing)},
            )


def _unusable(signs: Signs, before: AbstractSet[str]) -> Found:
    for one in _devices(signs):
        seen, was = one.unusable, one.device in before
        if seen.lately >= rules.UNUSABLE.at(was) and seen.share >= rules.UNUSABLE_SHARE.at(was):
            every = seen.lately + seen.good
            yield (
                one.device,
                {"device": _shown(one), "unusable": seen.lately, "all": every},
            )


def _clocks(signs: Signs, before: AbstractSet[str]) -> Found:
    for one in _devices(signs):
        off = one.clock_offset_seconds
        fresh = one.last_at is not None and signs.now - one.last_at < timedelta(days=1)
        if fresh and off is not None and abs(off) >= rules.CLOCK_OFF.at(one.device in before):
            way = "ahead" if off > 0 else "behind"
            words = {
                "device": _shown(one),
                "off": human_duration(abs(off)),
                "way": way,
            }
            yield one.device, words


def _s3_clock(signs: Signs, before: AbstractSet[str]) -> Found:
    off = signs.s3_clock_offset_seconds
    if signs.facts.clock_behind:  # known without an uplink, too
        yield "", {"what": signs.facts.clock_behind}
    elif off is not None and abs(off) >= rules.CLOCK_OFF.at(bool(before)):
        yield "", {"what": rules.S3_CLOCK_OFF.format(off=human_duration(abs(off)))}


def _open(signs: Signs, _before: AbstractSet[str]) -> Found:
    if signs.open_to_all:
        yield "", {}


def _channels(signs: Signs, _before: AbstractSet[str]) -> Found:
    for name, why in signs.channels.items():
        yield name, {"name": name, "why": why}


_CHECKS: Mapping[str, Callable[[Signs, AbstractSet[str]], Found]] = {
    "receiver-silent": _receiver,
    "disk-refuses": _disk_refuses,
    "disk-full": _disk_full,
    "uploads-refused": _refusals,
    "unaccounted": _unaccounted,
    "uplink-down": _uplink_down,
    "runs-fail": _runs_fail,
    "nothing-confirmed": _nothing_confirmed,
    "no-run": _no_run,
    "queue-silent": _queue_silent,
    "paused": _paused,
    "cap-not-shared": _not_shared,
    "gateway-silent": _gateway_silent,
    "set-aside": _set_aside,
    "disk-soon": _disk_soon,
    "inodes-soon": _inodes,
    "backlog-old": _backlog_old,
    "backlog-grows": _backlog_grows,
    "cap-unused": _cap_unused,
    "device-silent": _silent,
    "device-gaps": _gaps,
    "device-unusable": _unusable,
    "device-clock": _clocks,
    "s3-clock": _s3_clock,
    "open-network": _open,
    "channel-fails": _channels,
}
"""By the rule's code."""
