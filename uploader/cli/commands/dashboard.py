"""``headgate dashboard``: create a dashboard and alarms in a monitoring service."""

from __future__ import annotations

import json
import re

import click

from headgate.host.exit_codes import Exit
from headgate.settings.settings import Settings
from headgate.settings.units import of_disk
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.spool import Spool
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cloudwatch.dashboard import DashboardPlan, alarms, dashboard
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_ARN = r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}"
_LOCK_SECONDS = 15.0


@click.group(epilog=ending("headgate dashboard cloudwatch"))
def command() -> None:
    """Create a dashboard and alarms for this site."""


@command.command(
    epilog=ending(
        "headgate dashboard cloudwatch  # print what would be created",
        "headgate dashboard cloudwatch --apply --sns arn:aws:sns:eu-central-1:123456789012:ops",
    )
)
@click.option("--apply", "is_meant", is_flag=True, help="Create or update them in the AWS account.")
@click.option("--dry-run", is_flag=True, help="Print them, and change nothing (the default).")
@click.option("--sns", multiple=True, metavar="ARN", help="SNS topic to notify; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def cloudwatch(
    context: Context, is_meant: bool, dry_run: bool, sns: tuple[str, ...], as_json: bool
) -> None:
    """Create one dashboard and six alarms for this site. Applying them again is safe."""
    settings = context.settings
    if is_meant and dry_run:
        fail("use --apply or --dry-run, not both", Exit.USAGE)
    if wrong := [arn for arn in sns if not re.fullmatch(_ARN, arn, re.ASCII)]:
        fail(f"{wrong[0]!r} is not an SNS topic like arn:aws:sns:eu-central-1:123456789012:ops",
             Exit.USAGE)  # fmt: skip
    with context.spool() as spool:
        plan = _plan(settings, spool, sns)
        if is_meant:
            _apply(spool, plan)
    body, made = json.loads(dashboard(plan)), alarms(plan)
    if as_json:
        print_json({"dashboard": {"name": plan.name, "body": body}, "alarms": made,
                    "applied": is_meant})  # fmt: skip
        return
    word = "applied" if is_meant else "would apply"
    say = context.say if is_meant else print_text
    say(f"{word}   dashboard {plan.name} ({len(body['widgets'])} panels)")
    for alarm in made:
        say(f"{word}   alarm {alarm['AlarmName']}: {alarm['AlarmDescription']}")
    if settings.alerts.cloudwatch != "on":
        context.say('note: no run reports numbers; set cloudwatch = "on" under [alerts]', err=True)


def _plan(settings: Settings, spool: Spool, sns: tuple[str, ...]) -> DashboardPlan:
    _, size, _ = spool.free()
    floor = of_disk(settings.spool.keep_free, size)
    return DashboardPlan(
        settings.site.name,
        _region(settings),
        settings.uplink.interval,
        100.0 * floor / max(1, size),
        sns,
    )


def _region(settings: Settings) -> str:
    import boto3  # only here, so that help does not wait for it

    session = boto3.Session(
        profile_name=settings.s3.profile or None, region_name=settings.s3.region or None
    )
    if not session.region_name:
        fail("no region is set; set s3.region", Exit.USAGE)
    return str(session.region_name)


def _apply(spool: Spool, plan: DashboardPlan) -> None:
    from uploader.cloudwatch.client import CloudWatchTrouble, client

    try:
        with other_traffic_pacer(spool.uplink, "headgate dashboard", _LOCK_SECONDS) as pacer:
            with client(spool.settings, pacer) as account:
                account.put_dashboard(DashboardName=plan.name, DashboardBody=dashboard(plan))
                for alarm in alarms(plan):
                    account.put_metric_alarm(**alarm)
    except (CloudWatchTrouble, Closed, LockHeld, DiskError) as error:
        fail(str(error))
