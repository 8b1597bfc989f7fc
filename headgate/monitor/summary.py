"""The sentence at the top of the status page: how it goes, and what to do about it. Pure.

What is wrong is what the alerts call wrong (``headgate.monitor.checks``); their messages may come
later, since most wait a little. The page adds what is worth a look and no alert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from headgate.monitor import checks
from headgate.monitor.checks import Signs, waiting
from headgate.monitor.forecast import Doubt
from headgate.monitor.grouping import grouped, named
from headgate.monitor.rules import BY_CODE, DISK_LOW, WAITS_LONG, Level
from headgate.monitor.snapshot import Snapshot
from headgate.settings.units import human_duration
from headgate.spool.disk.room import INTAKE_SPENT, SAFE_OFF, STOPPING
from headgate.spool.site.runs import Run

_WATCHED = ("backlog-old", "backlog-grows", "cap-unused")
"""These need each minute of the last hour, which ``headgate watch`` reads."""

Finding = tuple[Level, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The most serious finding; the others as remarks, most serious first."""

    level: Level
    sentence: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What the receiver knows in addition to the facts of the spool."""

    open_to_all: bool = False  # receiver.auth is open and receiver.allow keeps no one out
    risk: str = ""  # why a power cut may lose images


def verdict(facts: Snapshot, place: Place) -> Verdict:
    """What to say of these facts at ``facts.at``."""
    found = _wrong(facts, place)
    found.sort(key=lambda finding: -list(Level).index(finding[0]))  # stable: order of the rules
    remarks = tuple(text for _, text in found)
    hint = _hint(facts)
    if found and found[0][0] is not Level.NOTE:
        return Verdict(found[0][0], remarks[0], (*remarks[1:], *hint))
    if hint:
        return Verdict(Level.NOTE, hint[0], remarks)
    return Verdict(Level.OK, f"All is well: {_flow(facts)}.", remarks)


def _hint(facts: Snapshot) -> tuple[str, ...]:
    """What is still to do on a site that has just begun, or whose runs a person starts."""
    if not facts.received.images:
        return ("Nothing has been received yet. The command below posts a first photograph.",)
    if facts.forecast.doubt is Doubt.NO_RUN:
        sentence = f"No scheduled run has started lately: {_flow(facts)}."
        return (_advised(sentence, BY_CODE["no-run"].fix),)
    return ()


def notes(facts: Snapshot, codes: Collection[str], risk: str) -> Iterator[Finding]:
    """What is worth a look and raises no alert, where the alerts with these codes are there."""
    if facts.admission.code in (STOPPING, INTAKE_SPENT, SAFE_OFF):
        yield Level.WARN, facts.admission.sentence
    if facts.held.images:
        verb = "is" if facts.held.images == 1 else "are"
        held = f"{checks.images(facts.held)} {verb} held by a person, and not sent."
        yield Level.NOTE, _advised(held, "headgate hold")
    if "disk-full" not in codes and (sentence := checks.nearly_full(facts)):
        yield DISK_LOW.level, _advised(sentence, DISK_LOW.fix)
    if not {"uplink-down", "runs-fail", "nothing-confirmed", "no-run"} & set(codes):
        yield from _runs(facts)
    if risk:
        yield Level.WARN, _advised(f"{risk}.", "headgate doctor")


def _wrong(facts: Snapshot, place: Place) -> list[Finding]:
    before = {(alert.code, alert.subject) for alert in facts.alerts}
    running = bool(facts.runs) and facts.runs[0].ended_at is None
    signs = Signs(facts, at_work=running, open_to_all=place.open_to_all)
    wrong = checks.find(signs, before, leave_out=_WATCHED)
    # A refusal for want of room is the full disk's, which is said already.
    wrong = [one for one in wrong if one.subject != facts.admission.code or not one.subject]
    codes = {one.code for one in wrong}
    found = []
    for group in grouped(wrong):
        rest = f" The same applies to {named(group.subjects[1:])}." if group.subjects[1:] else ""
        sentence = f"{group.members[0].sentence}{rest}"
        found.append((group.level, _advised(sentence, group.rule.fix)))
    for alert in facts.alerts:
        if alert.code not in codes:
            level = BY_CODE[alert.code].level if alert.code in BY_CODE else Level.WARN
            found.append((level, _advised(alert.sentence, alert.fix)))
    return [*found, *notes(facts, codes, place.risk)]


def _advised(sentence: str, fix: str) -> str:
    return f"{sentence} To check or fix: {fix}" if fix else sentence


def _runs(facts: Snapshot) -> Iterator[Finding]:
    """What may become an alert: runs that fail in part, a backlog that they work on."""
    rule = BY_CODE["nothing-confirmed"]
    tried = next((run for run in facts.runs if run.attempts), None)
    oldest = facts.oldest_waiting_at
    age = 0.0 if oldest is None else (facts.at - oldest).total_seconds()
    if facts.proof.fruitless_runs and facts.waiting.images:
        sentence = rule.sentence.format(**checks.unconfirmed(facts))
        yield Level.WARN, _advised(sentence, rule.fix)
    elif tried is not None and tried.mostly_failed:
        yield (
            Level.WARN,
            f"Most attempts of the last run that had something to send failed: {tried.message}",
        )
    elif facts.waiting.images and age > WAITS_LONG.seconds(facts.budget.interval):
        left = ""
        if facts.budget.rate:
            needs = human_duration(max(60, facts.waiting.bytes / facts.budget.rate))
            left = f"; at the cap this takes about {needs}"
        yield (
            Level.NOTE,
            f"There is a backlog: {waiting(facts.waiting)}, the oldest for "
            f"{human_duration(age)}{left}.",
        )


def _flow(facts: Snapshot) -> str:
    waits = waiting(facts.waiting)
    if facts.runs and facts.runs[0].ended_at is None:
        return f"{waits}, and a run is sending now"
    if not facts.runs:
        return f"{waits}; no run has started yet"
    run = facts.runs[0]
    if run.images:
        return f"{waits}; the last run, {_ago(facts, run)}, uploaded {run.images}"
    had = "found none of them due" if facts.waiting.images else "had nothing to send"
    return f"{waits}; the last run, {_ago(facts, run)}, {had}"


def _ago(facts: Snapshot, run: Run) -> str:
    seconds = (facts.at - (run.ended_at or run.started_at)).total_seconds()
    return f"{human_duration(max(0.0, seconds))} ago"
