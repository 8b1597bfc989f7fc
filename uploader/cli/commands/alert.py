"""``headgate alert``: list active alerts, test the channels, and silence alerts for a while."""

from __future__ import annotations

import click

from headgate.actions.silences import end_silence
from headgate.actions.silences import silence as set_silence
from headgate.host.exit_codes import Exit
from headgate.monitor import alert_help
from headgate.monitor.grouping import help_of
from headgate.monitor.rules import BY_CODE
from headgate.settings.units import human_duration, parse_duration
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.image.names import device_shown
from headgate.spool.site.alert_history import AlertEvent, EventKind
from headgate.spool.site.alerts import EVERYTHING, ChannelState
from uploader.alerts import outbox
from uploader.alerts.channel import DeliveryError
from uploader.alerts.messages import test_message
from uploader.cli import completions
from uploader.cli.commands.check import check
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, OneOf, fail, print_json, print_text
from uploader.cli.tables import instant_of
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_LOCK_SECONDS = 15.0


@click.group(epilog=ending("headgate alert list", "headgate alert test"))
def command() -> None:
    """List alerts, test the channels, silence an alert."""


@command.command("list", epilog=ending("headgate alert list", "headgate alert list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: Context, as_json: bool) -> None:
    """List active alerts, silences and channels.

    The older name of headgate check; its exit code is 0 even if something is wrong.
    """
    check(context, notify=False, as_json=as_json)


@command.command(
    epilog=ending(
        "headgate alert test",
        "headgate alert test --dry-run",
        meaning={Exit.ERROR: "a channel refused the message, or another error"},
    )
)
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def test(context: Context, dry_run: bool, as_json: bool) -> None:
    """Send a test message through each channel now. Exit code 1 if one fails."""
    ways = outbox.channels(context.settings)
    if not ways:
        fail("no channel is set; set slack_webhook, mail_to or apprise under [alerts]", Exit.USAGE)
    said: dict[str, str] = {}
    with context.spool() as spool:
        message = test_message(context.settings.site.name, spool.now())
        try:
            for way in ways:
                if dry_run:
                    said[way.name] = f"would get: {message.title}"
                    continue
                with other_traffic_pacer(
                    spool.uplink, "headgate alert test", _LOCK_SECONDS
                ) as pacer:
                    try:
                        way.send(message, pacer)
                    except DeliveryError as refused:
                        state = spool.site.alerts.channel(way.name)
                        state = outbox.after_failure(state, refused, spool.now())
                        spool.site.alerts.save_channel(state)
                        said[way.name] = str(refused)
                    else:
                        spool.site.alerts.save_channel(ChannelState(way.name, last_at=spool.now()))
                        said[way.name] = ""
        except (Closed, LockHeld, DiskError) as error:
            fail(f"nothing can be sent now: {error}")
    if as_json:
        print_json({"message": message.title, "trouble": said})
    else:
        for name, trouble in said.items():
            if trouble:
                print_text(f"{name:<10} {trouble}")
            else:
                context.say(f"{name:<10} delivered")
    if any(said.values()) and not dry_run:
        raise SystemExit(Exit.ERROR)


@command.command(
    epilog=ending(
        "headgate alert history --since 7d",
        "headgate alert history --code device-silent --until yesterday --json",
    )
)
@click.option("--since", metavar="TIME", help="From then on: 7d for a week ago, or 2026-11-23.")
@click.option("--until", metavar="TIME", help="Before then; of a day until its end.")
@click.option("--code", type=OneOf([*BY_CODE, EVERYTHING]), metavar="CODE", help="Only this alert.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="Maximum number of events.",
)
@click.option(
    "--cursor", type=click.IntRange(1), metavar="NUMBER", help="Continue behind this event."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def history(
    context: Context,
    since: str | None,
    until: str | None,
    code: str | None,
    limit: int,
    cursor: int | None,
    as_json: bool,
) -> None:
    """Show what became of alerts, newest first.

    When each was raised, reminded of, cleared or silenced, and by whom. Kept for a year.
    """
    with context.spool() as spool:
        now = spool.now()
        found = spool.site.alerts.history.entries(
            since=instant_of("--since", since, now),
            until=instant_of("--until", until, now, end=True),
            code=code or "",
            limit=limit + 1,
            cursor=cursor,
        )
    shown = found[:limit]
    more = shown[-1].number if len(found) > limit else None
    if as_json:
        print_json({"events": [event.fields() for event in shown], "cursor": more})
        return
    for event in shown:
        print_text(_line(event))
    if not shown:
        context.say("no such alert is recorded")
    if more is not None:
        context.say(f"There are more: add --cursor {more}", err=True)


def _line(event: AlertEvent) -> str:
    subject = f" {device_shown(event.subject)}" if event.subject else ""
    who = f" by {event.who}" if event.who else ""
    lasted = ""
    if event.kind == EventKind.CLEARED and event.since is not None:
        lasted = f" (since {event.since:%Y-%m-%d %H:%M} UTC)"
    said = f": {event.sentence}" if event.sentence else ""
    what = f"{event.code}{subject}{who}{lasted}{said}"
    return f"{event.at:%Y-%m-%d %H:%M:%S} UTC  {event.kind:<13}  {what}"


@command.command("help", epilog=ending("headgate alert help device-gaps"))
@click.argument("code", type=OneOf(list(BY_CODE)), metavar="CODE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def explain(context: Context, code: str, as_json: bool) -> None:
    """Say what an alert means and what to do."""
    rule, text = BY_CODE[code], alert_help.sections()[code]
    if as_json:
        print_json({"code": code, "level": rule.level, "title": rule.title, "mend": rule.fix,
                    "help": help_of(code), "text": text})  # fmt: skip
        return
    print_text(f"{rule.title} ({code})\n\n{text}")


@command.command(
    epilog=ending(
        'headgate alert silence device-silent:cam-07 --for 2h --reason "new lens"',
        'headgate alert silence all --for 1h --reason "the switch is replaced"',
        "headgate alert silence all --off",
    )
)
@click.argument("what", shell_complete=completions.alerts)
@click.option("--for", "duration", metavar="2h", help="How long to silence it.")
@click.option("--reason", metavar="TEXT", default="", help="Reason, shown while the silence lasts.")
@click.option("--off", is_flag=True, help="End the silence now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def silence(
    context: Context, what: str, duration: str | None, reason: str, off: bool, as_json: bool
) -> None:
    """Silence WHAT for a while: a code, CODE:DEVICE, or all.

    Alerts that are still active at the end are sent then.
    """
    with context.spool() as spool:
        if off:
            end_silence(spool, context.actor, what)
            until = spool.now()
        else:
            until = set_silence(spool, context.actor, what, duration or "", reason).until
    if as_json:
        print_json({"what": what, "until": until, "reason": reason})
    elif off:
        context.say(f"{what} is no longer silenced")
    else:
        lasts = human_duration(parse_duration(duration or ""))
        context.say(f"{what} is silenced until {until:%Y-%m-%d %H:%M} UTC ({lasts})")
