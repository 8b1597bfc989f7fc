"""When a message of an alert is sent: on a change, after its wait, then occasional reminders. Pure.

Of one alert at most three messages leave in any hour, however often it comes and goes: that it
cleared is only said where one more alert would still fit, so a new alert never waits for that, and
what was said last is never "good" while it is bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from headgate.monitor.rules import BY_CODE, AlertCondition, AlertRule
from headgate.spool.site.alerts import Alert, Silence

MOST_AN_HOUR = 3
REMINDERS = (timedelta(hours=4), timedelta(hours=8), timedelta(hours=16), timedelta(days=1))
"""After the last message; the last one goes on."""
_HOUR = timedelta(hours=1)


class MessageKind(StrEnum):
    """What a message says of an alert."""

    ALERT = "alert"
    REMINDER = "reminder"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Event:
    """A message that is due now."""

    kind: MessageKind
    alert: Alert


@dataclass(frozen=True, slots=True)
class Counts:
    """Images received and set aside so far, for what happened while something was wrong."""

    received: int = 0
    set_aside: int = 0


def step(
    before: Iterable[Alert],
    findings: Iterable[AlertCondition],
    now: datetime,
    silences: Sequence[Silence] = (),
    counts: Counts = Counts(),
    rules: Mapping[str, AlertRule] = BY_CODE,
) -> tuple[list[Alert], list[Event]]:
    """What is remembered after this look, and what to say of it; in the order of the rules."""
    found = {(finding.code, finding.subject): finding for finding in findings}
    known = {(alert.code, alert.subject): _by_this_clock(alert, now) for alert in before}
    order = {code: place for place, code in enumerate(rules)}
    seen = [
        _seen(known.get(key), found.get(key), rules[key[0]], now, counts)
        for key in sorted(known.keys() | found.keys(), key=lambda key: (order.get(key[0], -1), key))
        if key[0] in rules
    ]
    after, events = [], []
    for alert in seen:
        rule = rules[alert.code]
        silent = any(silence.covers(alert.code, alert.subject, now) for silence in silences)
        told, kind = (alert, None) if silent else _say(alert, rule, seen, now)
        if kind is not None:
            events.append(Event(kind, told))
        if _matters(told, rule, now):
            after.append(told)
    return after, events


def _matters(alert: Alert, rule: AlertRule, now: datetime) -> bool:
    """Whether anything may still follow from it; its last messages count for an hour."""
    lately = bool(alert.told_at) and now - alert.told_at[-1] < _HOUR
    calm = alert.good_since is not None and now - alert.good_since >= _calm(rule)
    return alert.told or lately or not calm or alert.bad


def _calm(rule: AlertRule) -> timedelta:
    return timedelta(seconds=rule.calm_seconds)


def _seen(
    alert: Alert | None,
    finding: AlertCondition | None,
    rule: AlertRule,
    now: datetime,
    counts: Counts,
) -> Alert:
    """The alert after this look, before anything is said."""
    if finding is None:
        assert alert is not None
        return alert if alert.good_since is not None else replace(alert, good_since=now)
    if alert is None:
        alert = Alert(finding.code, finding.subject, "", began_at=now, good_since=now)
        alert = replace(alert, received=counts.received, set_aside=counts.set_aside)
    elif alert.good_since is not None and now - alert.good_since >= _calm(rule) and not alert.told:
        # It was good for long enough to be over: this is another time.
        alert = replace(alert, began_at=now, received=counts.received, set_aside=counts.set_aside)
    return replace(alert, sentence=finding.sentence, good_since=None, fix=rule.fix)


def _say(
    alert: Alert, rule: AlertRule, seen: Sequence[Alert], now: datetime
) -> tuple[Alert, MessageKind | None]:
    lately = [at for at in alert.told_at if now - at < _HOUR]
    if alert.bad and not alert.told:
        since = alert.began_at
        for cause in seen:
            if cause.code in rule.causes:
                if cause.good_since is None:
                    return alert, None
                since = max(since, cause.good_since)  # it gets the time it needs to be good again
        patience = timedelta(seconds=rule.wait_seconds)
        if now - since < patience or len(lately) >= MOST_AN_HOUR:
            return alert, None
        thread = f"{alert.code}.{int(now.timestamp() * 1_000_000)}"
        told = replace(alert, told=True, told_at=(*lately, now), reminders=0, thread=thread)
        return told, MessageKind.ALERT
    if alert.good_since is not None and alert.told:
        calm = now - alert.good_since >= _calm(rule)
        if not calm or len(lately) >= MOST_AN_HOUR - 1:
            return alert, None
        return replace(alert, told=False, told_at=(*lately, now)), MessageKind.RECOVERY
    if alert.bad and alert.told and not _caused(rule, seen):
        gap = REMINDERS[min(alert.reminders, len(REMINDERS) - 1)]
        if now - alert.told_at[-1] >= gap:
            told = replace(alert, told_at=(*lately, now), reminders=alert.reminders + 1)
            return told, MessageKind.REMINDER
    return alert, None


def _caused(rule: AlertRule, seen: Sequence[Alert]) -> bool:
    return any(alert.bad for alert in seen if alert.code in rule.causes)


def _by_this_clock(alert: Alert, now: datetime) -> Alert:
    """A clock that was set back makes nothing wait for the time it had before."""
    return replace(
        alert,
        began_at=min(alert.began_at, now),
        good_since=None if alert.good_since is None else min(alert.good_since, now),
        told_at=tuple(min(at, now) for at in alert.told_at),
    )
