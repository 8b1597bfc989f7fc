"""The sentence at the top of the status page: how it goes, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.monitor.snapshot import Snapshot
from headgate.settings.units import human_duration, human_size
from headgate.spool.disk.room import INTAKE_SPENT, STOPPING
from headgate.spool.image.image import Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run

_SOON = timedelta(hours=24)
_NAMED = 5
LATE_INTERVALS = 3
"""Intervals without a run, or that an image has waited, before the page remarks on it."""


class Level(StrEnum):
    """From calm to red."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gravest finding first; the others as remarks, gravest first."""

    level: Level
    sentence: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What the receiver knows beside the facts of the spool."""

    open_to_all: bool = False  # receiver.auth is open and receiver.allow names no network


def verdict(facts: Snapshot, place: Place) -> Verdict:
    """What to say of these facts at ``facts.at``."""
    found = [
        *_disk(facts),
        *_refused(facts),
        *_images(facts),
        *_runs(facts),
        *_open(place),
        *_silent(facts),
        *_clocks(facts),
    ]
    if all(level is Level.NOTE for level, _ in found):  # else what alerts tell of is said already
        found += [(Level.WARN, alert.sentence) for alert in facts.alerts]
    found.sort(key=lambda finding: -list(Level).index(finding[0]))  # stable: order of the rules
    if found and found[0][0] is not Level.NOTE:
        return Verdict(found[0][0], found[0][1], tuple(text for _, text in found[1:]))
    remarks = tuple(text for _, text in found)
    if not facts.received.images:
        return Verdict(
            Level.NOTE,
            "Nothing has been received yet. The line below posts a first photograph.",
            remarks,
        )
    return Verdict(Level.OK, f"All is well: {_flow(facts)}.", remarks)


def _disk(facts: Snapshot) -> list[tuple[Level, str]]:
    admission = facts.admission
    if not admission.accepting:
        passing = admission.code in (STOPPING, INTAKE_SPENT)
        return [(Level.WARN if passing else Level.BAD, admission.sentence)]
    if facts.free_bytes < admission.needed_bytes + admission.keep_free_bytes // 2:
        return [
            (
                Level.WARN,
                f"The disk is nearly full: {human_size(facts.free_bytes)} are free, and below "
                f"{human_size(admission.needed_bytes)} uploads are refused.",
            )
        ]
    if facts.forecast.full is not None and facts.forecast.full.at - facts.at < _SOON:
        left = max(60.0, (facts.forecast.full.at - facts.at).total_seconds())
        return [
            (
                Level.WARN,
                f"At this rate the disk is full in about {human_duration(left)}: free some space, "
                "or let more out (headgate limit).",
            )
        ]
    return []


def _refused(facts: Snapshot) -> list[tuple[Level, str]]:
    """A disk without room is told of already."""
    known = "" if facts.admission.accepting else facts.admission.code
    return [
        (Level.WARN, one.sentence) for one in facts.refused if one.is_many() and one.code != known
    ]


def _images(facts: Snapshot) -> list[tuple[Level, str]]:
    found = []
    if facts.unaccounted:
        found.append(
            (
                Level.BAD,
                f"{_images_word(abs(facts.unaccounted))} cannot be accounted for: "
                "run headgate verify.",
            )
        )
    if facts.lost.images:
        verb = "is" if facts.lost.images == 1 else "are"
        found.append(
            (
                Level.BAD,
                f"{_images_word(facts.lost.images)} {verb} lost: headgate verify says which.",
            )
        )
    if facts.set_aside.images:
        verb = (
            "was set aside and needs" if facts.set_aside.images == 1 else "were set aside and need"
        )
        found.append(
            (
                Level.WARN,
                f"{_images_word(facts.set_aside.images)} {verb} a person: "
                "headgate list --state set_aside says why.",
            )
        )
    return found


def _runs(facts: Snapshot) -> list[tuple[Level, str]]:
    waiting = _waiting(facts.waiting)
    interval = facts.budget.interval
    if facts.oldest_waiting_at is None:
        oldest = 0.0
    else:
        oldest = (facts.at - facts.oldest_waiting_at).total_seconds()
    ended = next((run for run in facts.runs if run.ended_at is not None), None)
    running = bool(facts.runs) and facts.runs[0].ended_at is None
    if ended is not None and ended.outcome is Outcome.FAILED:
        why = f": {ended.message}" if ended.message else ""
        return [(Level.BAD, f"The last run, {_ago(facts.at, ended)}, failed{why}")]
    if ended is not None and ended.outcome is Outcome.UPLINK_DOWN and facts.waiting.images:
        return [
            (
                Level.WARN,
                f"The uplink is down: {waiting}, safe on disk. They are sent when it is back.",
            )
        ]
    if facts.proof.fruitless_runs and facts.waiting.images:
        return [_unproved(facts, waiting)]
    if not running and facts.waiting.images and oldest > LATE_INTERVALS * interval:
        since = facts.runs[0].started_at if facts.runs else None
        silent = oldest if since is None else (facts.at - since).total_seconds()
        if silent > LATE_INTERVALS * interval:
            return [
                (
                    Level.WARN,
                    f"No run has come for {human_duration(silent)}, and {waiting}: "
                    "headgate cron show says whether one is due; headgate drain starts one.",
                )
            ]
    tried = next((run for run in facts.runs if run.attempts), None)
    if tried is not None and tried.mostly_failed:
        return [
            (
                Level.WARN,
                f"Most attempts of the last run that had something to send fail: {tried.message}",
            )
        ]
    if facts.waiting.images and oldest > LATE_INTERVALS * interval:
        left = ""
        if facts.budget.rate:
            left = f"; at the cap they need about {_minutes(facts)}"
        return [
            (
                Level.NOTE,
                f"There is a backlog: {waiting}, the oldest for {human_duration(oldest)}{left}.",
            )
        ]
    return []


def _unproved(facts: Snapshot, waiting: str) -> tuple[Level, str]:
    """Runs try and confirm nothing: a remark at first, since the next run may."""
    proof = facts.proof
    stuck = proof.is_stuck(facts.at, facts.budget.interval)
    since = human_duration(proof.failing_seconds(facts.at))
    why = f" {proof.why}" if proof.why else ""
    return (
        Level.BAD if stuck else Level.WARN,
        f"Nothing has been confirmed in the bucket for {since}, though it was tried: {waiting}, "
        f"safe on disk. headgate config check says what is wrong.{why}",
    )


def _minutes(facts: Snapshot) -> str:
    return human_duration(max(60, facts.waiting.bytes / facts.budget.rate))


def _open(place: Place) -> list[tuple[Level, str]]:
    if not place.open_to_all:
        return []
    return [
        (
            Level.WARN,
            "Anybody who reaches this port may send images: receiver.auth is open and "
            "receiver.allow names no network.",
        )
    ]


def _silent(facts: Snapshot) -> list[tuple[Level, str]]:
    silent = [one.device for one in facts.devices if one.is_silent(facts.at)]
    if not silent:
        return []
    named = ", ".join(silent[:_NAMED]) + (
        f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
    )
    how_many = "1 device is silent" if len(silent) == 1 else f"{len(silent)} devices are silent"
    return [(Level.NOTE, f"{how_many}: {named}.")]


def _clocks(facts: Snapshot) -> list[tuple[Level, str]]:
    found = [(Level.WARN, facts.clock_behind)] if facts.clock_behind else []
    return found + _devices_clocks(facts)


def _devices_clocks(facts: Snapshot) -> list[tuple[Level, str]]:
    if not facts.clocks_off:
        return []
    worst, *others = facts.clocks_off
    offset = worst.clock_offset_seconds or 0.0
    way = "ahead" if offset > 0 else "behind"
    more = f", and others are off, too ({', '.join(one.device for one in others)})"
    return [
        (
            Level.NOTE,
            f"The clock of {worst.device} seems {human_duration(abs(offset))} {way}"
            f"{more if others else ''}: its times of capture are wrong. No order depends on them.",
        )
    ]


def _flow(facts: Snapshot) -> str:
    waiting = _waiting(facts.waiting)
    if facts.runs and facts.runs[0].ended_at is None:
        return f"{waiting}, and a run is sending now"
    if not facts.runs:
        return f"{waiting}; no run has come yet"
    run = facts.runs[0]
    if run.images:
        return f"{waiting}; the last run, {_ago(facts.at, run)}, uploaded {run.images}"
    had = "found none of them due" if facts.waiting.images else "had nothing to send"
    return f"{waiting}; the last run, {_ago(facts.at, run)}, {had}"


def _waiting(count: Count) -> str:
    if not count.images:
        return "no image waits"
    verb = "waits" if count.images == 1 else "wait"
    return f"{_images_word(count.images)} ({human_size(count.bytes)}) {verb}"


def _images_word(images: int) -> str:
    return "1 image" if images == 1 else f"{images:,} images"


def _ago(now: datetime, run: Run) -> str:
    return (
        f"{human_duration(max(0.0, (now - (run.ended_at or run.started_at)).total_seconds()))} ago"
    )
