"""``headgate watch``: check for alerts without a run, and send waiting messages."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.spool.site.alerts import Alert
from uploader.alerts import outbox
from uploader.alerts.notify import judge, tell
from uploader.cli.commands.drain import log_to
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text, styled
from uploader.queue import oidc_keys


@click.command(
    epilog=ending(
        "headgate watch",
        "headgate watch --dry-run  # check, and send nothing",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.SET_ASIDE, Exit.UPLINK_DOWN),
        meaning={
            Exit.OK: "nothing is wrong; with --cron: the check worked",
            Exit.ERROR: "something is wrong, or another error",
            Exit.SET_ASIDE: "images are set aside, and nothing else is wrong",
        },
    )
)
@click.option("--cron", is_flag=True, help="Print nothing: alerts go to the channels.")
@click.option("--dry-run", is_flag=True, help="Check and record alerts, but send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, cron: bool, dry_run: bool, as_json: bool) -> None:
    """Check for alerts without a run, and send them.

    Detects a silent receiver, missing runs and silent cameras, and sends waiting messages. With
    --cron it also starts requested drains (POST /jobs/drain) that no worker has taken. Exit code 5
    if the uplink is down, 1 if something else is wrong, 3 if the only alert is that images were set
    aside; with --cron 0 if the check worked.
    """
    context.become_owner()
    log_file = Path(context.settings.log.file) if cron and context.settings.log.file else None
    with context.spool(tells=not dry_run) as spool:
        with log_to(log_file) as stream:
            usual = logging.INFO if cron else logging.ERROR
            level = usual if log_file else context.level(usual)
            logs.configure(stream, level=level, late=True)
            if dry_run:
                judge(spool, outbox.channels(context.settings))
                sent = 0
            else:
                sent = tell(spool, "headgate watch")
                oidc_keys.refresh(spool)
        wrong = [alert for alert in spool.site.alerts.all() if alert.bad]
        waiting = len(spool.site.alerts.letters())
        if cron and not dry_run and spool.site.jobs.queued():
            from uploader.queue import pending_jobs as jobs  # a look does not pay for a run

            with log_to(log_file) as stream:
                logs.configure(stream, level=logging.INFO)
                jobs.carry_out(spool)
    if as_json:
        print_json({"wrong": [alert.fields() for alert in wrong], "sent": sent, "waiting": waiting})
    elif not cron:
        for alert in wrong:
            print_text(styled(line(alert), fg="red"))
        if not wrong:
            context.say("nothing is wrong")
    if not cron:
        raise SystemExit(_exit(wrong))


def _exit(wrong: list[Alert]) -> Exit:
    codes = {alert.code for alert in wrong}
    if "uplink-down" in codes:
        return Exit.UPLINK_DOWN
    if codes - {"set-aside"}:
        return Exit.ERROR
    return Exit.SET_ASIDE if codes else Exit.OK


def line(alert: Alert) -> str:
    """One alert for people: since when, what, and what to type."""
    told = "" if alert.told else " (not sent yet)"
    return (
        f"{alert.began_at:%Y-%m-%d %H:%M} UTC  {alert.code}{told}: {alert.sentence} [{alert.fix}]"
    )
