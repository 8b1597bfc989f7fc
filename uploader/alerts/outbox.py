"""Sends waiting messages: in order, at most one a second through a channel, with retries.

Messages are queued through the outage that they report. A channel that fails is left alone for a
while that doubles, from half a minute up to two; one whose server said that it is no use, for a
quarter of an hour, and one that named a time, until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from headgate.host import logs
from headgate.settings.settings import Settings
from headgate.spool.site.alerts import Alerts, ChannelState
from uploader.alerts.channel import Channel, DeliveryError
from uploader.wire.meter import Meter

MOST_AT_ONCE = 20
"""Letters of one channel in one go: the way out is also others'."""
APART = timedelta(seconds=1)
FAILING_AFTER = timedelta(minutes=15)
"""Then, or at once if it is dead, a channel counts as failing, and the others say so."""
_WAITS = (30.0, 60.0, 120.0)
_DEAD_WAIT = 900.0


def channels(settings: Settings) -> list[Channel]:
    """The channels that the settings name; there may be none."""
    found: list[Channel] = []
    if settings.alerts.slack_webhook:
        from uploader.alerts.slack import Slack  # a run without channels does not pay for them

        found.append(Slack(settings.alerts.slack_webhook))
    if settings.alerts.mail_to:
        from uploader.alerts.mail import Mail

        found.append(
            Mail(
                settings.alerts.smtp_url,
                settings.alerts.mail_to,
                settings.alerts.mail_from,
                settings.site.name,
            )
        )
    if settings.alerts.apprise:
        from uploader.alerts.apprise import Other

        found += [Other(url) for url in dict.fromkeys(settings.alerts.apprise)]
    return found


def due(alerts: Alerts, ways: Sequence[Channel], now: datetime) -> bool:
    """Whether there is anything to send now; so that no connection is made for nothing."""
    for way in ways:
        state = alerts.channel(way.name)
        if alerts.letters(way.name, 1) and not _rests(state, now):
            return True
    return False


def _rests(state: ChannelState, now: datetime) -> bool:
    """Whether it is left alone for now; a time far ahead was another clock's."""
    return state.next_at is not None and now < state.next_at <= now + timedelta(hours=1)


def send(
    alerts: Alerts,
    ways: Sequence[Channel],
    pacer: Meter,
    now: Callable[[], datetime],
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Let out what may go; how many letters were taken. What the pacer raises ends it."""
    log, taken = logs.get(), 0
    alerts.forget([way.name for way in ways], now())
    for way in ways:
        state = alerts.channel(way.name)
        if _rests(state, now()):
            continue
        for letter in alerts.letters(way.name, MOST_AT_ONCE):
            if state.last_at is not None and now() - state.last_at < APART:
                sleep(min(APART, APART - (now() - state.last_at)).total_seconds())
            try:
                way.send(letter.message, pacer)
            except DeliveryError as trouble:
                log.warning("alert.undelivered", channel=way.name, why=str(trouble))
                if trouble.unfit:
                    alerts.drop(letter)
                    continue
                alerts.save_channel(after_failure(state, trouble, now()))
                break
            state = ChannelState(way.name, last_at=now())
            alerts.save_channel(state)
            alerts.drop(letter)
            taken += 1
            log.info("alert.sent", channel=way.name, title=letter.message.title)
    return taken


def after_failure(state: ChannelState, trouble: DeliveryError, now: datetime) -> ChannelState:
    """A channel's state after one more failure."""
    wait = _WAITS[min(state.attempts, len(_WAITS) - 1)]
    if trouble.dead:
        wait = _DEAD_WAIT
    wait = trouble.wait_seconds or wait
    return replace(
        state,
        failing_since=state.failing_since or now,
        why=str(trouble),
        dead=trouble.dead,
        attempts=state.attempts + 1,
        next_at=now + timedelta(seconds=wait),
        last_at=now,
    )


def failing(alerts: Alerts, ways: Sequence[Channel], now: datetime) -> dict[str, str]:
    """The channels that are dead or have failed for long, and why."""
    states = [alerts.channel(way.name) for way in ways]
    return {
        state.name: state.why
        for state in states
        if state.failing_since and (state.dead or now - state.failing_since >= FAILING_AFTER)
    }
