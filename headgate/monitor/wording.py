"""Parts of the snapshot in words: when the backlog is gone, when the disk is full. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from headgate.monitor.forecast import Doubt, Estimate
from headgate.monitor.snapshot import Snapshot, TriggerFacts
from headgate.settings.units import format_duration, human_duration, human_size


def backlog(facts: Snapshot) -> str:
    """When the backlog will be gone; "" if there is nothing to say."""
    if not facts.waiting.images and not facts.sending.images:
        return "Nothing is waiting."
    if facts.budget.paused:
        return f"Uploads are paused {facts.budget.limit_words}."
    if facts.forecast.doubt:
        return f"Unknown when it will be empty: {_why(facts)}."
    if facts.forecast.empty is not None:
        return f"Empty {_when(facts.forecast.empty, facts.at)}."
    if not _known(facts):
        return ""
    came, carried = facts.forecast.received_per_second, facts.forecast.carried_per_second
    comes = f"{human_size(round(came))}/s come in"
    if not carried:
        return f"Nothing goes out now, and {comes}."
    goes = f"{human_size(round(carried))}/s go out"
    return f"At this rate it is not empty within two weeks: {comes}, {goes}."


def disk(facts: Snapshot) -> str:
    """When the disk will be full; "" if there is nothing to say."""
    full, inodes = facts.forecast.full, facts.forecast.inodes
    if inodes is not None and (full is None or inodes.at < full.at):
        return f"Out of inodes {_when(inodes, facts.at)}; each image takes one."
    if full is not None:
        return f"Full {_when(full, facts.at)}."
    return "At this rate it is not full within two weeks." if _known(facts) else ""


def trigger(one: TriggerFacts, now: datetime) -> str:
    """Which it is, how often it is to ask for a run, and when it last did."""
    parts = [one.kind]
    if one.every_seconds is not None:
        parts.append(f"every {format_duration(one.every_seconds)}")
    if one.last_at is None:
        parts.append("has never fired")
    else:
        age = max(0.0, (now - one.last_at).total_seconds())
        by = f" ({one.sender})" if one.sender else ""
        parts.append(f"last fired {human_duration(age)} ago{by}")
    if not one.configured:
        parts.append("not configured")
    return ", ".join(parts)


def _why(facts: Snapshot) -> str:
    match facts.forecast.doubt:
        case Doubt.UPLINK_DOWN:
            return "the uplink is down"
        case Doubt.NOTHING_CONFIRMED:
            since = human_duration(facts.proof.failing_seconds(facts.at))
            return f"no image was confirmed for {since}, although runs tried"
        case Doubt.RUNS_FAIL:
            return "the last run failed"
        case Doubt.NEVER_CONFIRMED:
            return "no image has been confirmed yet"
        case _:
            return "no scheduled run has started lately"


def _known(facts: Snapshot) -> bool:
    return bool(facts.forecast.received_per_second or facts.forecast.carried_per_second)


def _when(estimate: Estimate, now: datetime) -> str:
    seconds = (estimate.at - now).total_seconds()
    if seconds < 60:
        return "within a minute"
    text = f"in about {human_duration(seconds)}, at {_clock(estimate.at, now)}"
    if estimate.latest is None:
        return f"{text}; {_clock(estimate.earliest, now)} at the earliest, and perhaps never"
    first, last = _clock(estimate.earliest, now), _clock(estimate.latest, now)
    return text if first == last else f"{text}; between {first} and {last}"


def _clock(at: datetime, now: datetime) -> str:
    at = at.astimezone(UTC)
    same_day = at.date() == now.astimezone(UTC).date()
    return f"{at:%H:%M} UTC" if same_day else f"{at:%a %d %b %H:%M} UTC"
