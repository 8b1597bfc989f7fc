"""What is wrong now, for people and programs: what ``headgate check`` and its older names print."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from headgate.host.exit_codes import Exit
from headgate.monitor import summary
from headgate.monitor.grouping import (
    AlertGroup,
    alert_fields,
    group_fields,
    grouped,
    since,
    worst,
)
from headgate.monitor.rules import Level
from headgate.monitor.snapshot import Snapshot
from headgate.spool.site.alerts import Alert, ChannelState, Silence
from headgate.spool.spool import Spool
from uploader.alerts import outbox
from uploader.alerts.notify import judge, let_out
from uploader.cli.main import print_text, styled
from uploader.queue import oidc_keys

_COLOURS = {Level.BAD: "red", Level.WARN: "yellow"}


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found."""

    facts: Snapshot
    alerts: tuple[Alert, ...]  # wrong now, or over and not said yet
    notes: tuple[summary.Finding, ...]
    silences: tuple[Silence, ...]
    channels: tuple[ChannelState, ...]
    sent: int
    waiting: int

    @property
    def groups(self) -> list[AlertGroup[Alert]]:
        """What is wrong now."""
        return grouped(alert for alert in self.alerts if alert.bad)

    def silence_of(self, alert: Alert) -> Silence | None:
        """The silence that covers it now."""
        at = self.facts.at
        return next(
            (one for one in self.silences if one.covers(alert.code, alert.subject, at)), None
        )


def look(spool: Spool, *, notify: bool, risk: str = "") -> Report:
    """Judge everything, record it, and send what is due if ``notify``; ``risk``: what to note of
    the disk."""
    ways = outbox.channels(spool.settings)
    facts, sent = judge(spool, ways).facts, 0
    alerts = spool.site.alerts
    if notify:
        sent = let_out(alerts, spool.uplink, "headgate check", ways)
        oidc_keys.refresh(spool)
    found = tuple(alert for alert in alerts.all() if alert.bad or alert.told)
    codes = {alert.code for alert in found if alert.bad}
    return Report(
        facts=facts,
        alerts=found,
        notes=tuple(summary.notes(facts, codes, risk)),
        silences=alerts.silences(facts.at),
        channels=tuple(alerts.channel(way.name) for way in ways),
        sent=sent,
        waiting=len(alerts.letters()),
    )


def exit_of(report: Report) -> Exit:
    """The exit code of a check."""
    codes = {alert.code for alert in report.alerts if alert.bad}
    if "uplink-down" in codes:
        return Exit.UPLINK_DOWN
    if codes - {"set-aside"}:
        return Exit.ERROR
    return Exit.SET_ASIDE if codes else Exit.OK


def fields(report: Report) -> dict[str, object]:
    """For programs: the same from every command that answers from here."""
    standing = {id(one): _alert(report, one) for one in report.alerts}
    return {
        "at": report.facts.at,
        "level": worst(report.groups),
        "groups": [group_fields(group) for group in report.groups],
        "wrong": [standing[id(one)] for one in report.alerts if one.bad],
        "alerts": list(standing.values()),
        "notes": [{"level": level, "sentence": text} for level, text in report.notes],
        "silences": [asdict(silence) for silence in report.silences],
        "channels": [asdict(state) for state in report.channels],
        "sent": report.sent,
        "waiting": report.waiting,
    }


def _alert(report: Report, alert: Alert) -> dict[str, object]:
    silence = report.silence_of(alert)
    return alert_fields(alert) | {"silenced_until": silence and silence.until}


def show(report: Report) -> None:
    """For people: what is wrong by gravity, then what is worth a look, silences and channels."""
    groups = report.groups
    for group in groups:
        _show_group(report, group)
    over = [one for one in report.alerts if not one.bad]
    for alert in over:
        print_text(f"over       {alert.code}: {alert.sentence}")
    if not groups:
        print_text("nothing is wrong")
    for level, text in report.notes:
        print_text(styled_as(f"{level.value:<10}", level), f" {text}")
    for silence in report.silences:
        why = f": {silence.reason}" if silence.reason else ""
        print_text(f"silenced   {silence.what} until {_minute(silence.until)}{why}")
    for state in report.channels:
        how = "ok" if state.failing_since is None else f"failing: {state.why}"
        print_text(f"channel    {state.name}: {how}")
    if not report.channels:
        print_text("channel    none is set: set slack_webhook, mail_to or apprise under [alerts]")
    if report.waiting:
        print_text(f"outbox     {report.waiting} waiting to be sent")


def _show_group(report: Report, group: AlertGroup[Alert]) -> None:
    print_text(styled_as(f"{group.level.value.upper():<10} {group.title}", group.level))
    for sentence in group.sentences:
        print_text(f"{'':<10} {sentence}")
    details = [f"since {_minute(since(group))}"]
    silences = [report.silence_of(alert) for alert in group.members]
    if all(silences):
        until = min(silence.until for silence in silences if silence is not None)
        details.append(f"silenced until {_minute(until)}")
    elif not any(alert.told for alert in group.members):
        details.append("not sent yet")
    print_text(f"{'':<10} {', '.join(details)}; see docs/OPERATING.md#{group.code}")
    print_text(f"{'':<10} -> {group.members[0].fix}")


def styled_as(text: str, level: Level) -> str:
    """A text in the colour of its level."""
    return styled(text, fg=_COLOURS.get(level))


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
