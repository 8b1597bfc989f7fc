"""Builds the messages of alerts; the channels send them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headgate.monitor.grouping import AlertGroup, named
from headgate.monitor.rules import BY_CODE, AlertRule
from headgate.settings.units import counted, human_duration
from headgate.spool.image.names import device_shown
from headgate.spool.site.alerts import Alert, Message
from uploader.alerts.lifecycle import Counts, Event, MessageKind


@dataclass(frozen=True, slots=True)
class Scene:
    """The site and the time that messages speak of; ``unaccounted`` and ``counts`` are as they are
    now."""

    site: str
    now: datetime
    counts: Counts = field(default_factory=Counts)
    unaccounted: int = 0


def messages(
    events: Sequence[Event], scene: Scene, rules: Mapping[str, AlertRule] = BY_CODE
) -> list[Message]:
    """Compose one message for all events of one kind in one thread: forty silent cameras are
    one."""
    groups: dict[tuple[MessageKind, str], list[Alert]] = {}
    for event in events:
        groups.setdefault((event.kind, event.alert.thread), []).append(event.alert)
    return [
        _message(kind, thread, alerts, rules[alerts[0].code], scene)
        for (kind, thread), alerts in groups.items()
    ]


def test_message(site: str, now: datetime) -> Message:
    """What ``headgate alert test`` says."""
    return Message(
        kind="test",
        thread=f"test.{int(now.timestamp() * 1_000_000)}",
        title=f"{site}: this is a test",
        text="Alerts of Headgate arrive here. Nothing is wrong.",
        made_at=now,
    )


def _message(
    kind: MessageKind, thread: str, alerts: Sequence[Alert], rule: AlertRule, scene: Scene
) -> Message:
    group = AlertGroup(rule, tuple(alerts))
    what = group.title
    began = min(alert.began_at for alert in alerts)
    if kind is MessageKind.RECOVERY:
        title = f"{scene.site}: resolved: {what}"
        text = _meanwhile(alerts, scene)
    else:
        title = f"{scene.site}: {'still: ' if kind is MessageKind.REMINDER else ''}{what}"
        lines = [*group.sentences]
        lines.append(f"Since {began:%Y-%m-%d %H:%M} UTC. To check or fix: {rule.fix}")
        text = "\n".join(lines)
    return Message(kind.value, thread, title, text, scene.now, rule.code)


def _meanwhile(alerts: Sequence[Alert], scene: Scene) -> str:
    """How long it lasted and what was lost, as far as the counts tell."""
    first = min(alerts, key=lambda alert: alert.began_at)
    ended = max((alert.good_since or scene.now) for alert in alerts)
    lasted = human_duration(max(0.0, (ended - first.began_at).total_seconds()))
    came = max(0, scene.counts.received - first.received)
    aside = max(0, scene.counts.set_aside - first.set_aside)
    lines = []
    if subjects := [device_shown(alert.subject) for alert in alerts if alert.subject]:
        lines.append(f"{named(subjects)}.")
    lost = "no acknowledged image was lost"
    if scene.unaccounted:
        astray = counted(abs(scene.unaccounted), "image", ("is", "are"))
        lost = f"{astray} unaccounted for: headgate verify"
    lines.append(
        f"It lasted {lasted}. Meanwhile {counted(came, 'image')} came in and "
        f"{counted(aside, 'image', ('was', 'were'))} set aside; {lost}."
    )
    return "\n".join(lines)


def slack_text(message: Message) -> str:
    """Title and text for Slack, which wants exactly these three characters escaped."""
    text = f"*{message.title}*\n{message.text}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
