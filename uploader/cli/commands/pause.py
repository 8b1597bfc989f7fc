"""``headgate pause``: send no images for a while; the receiver, alerts and checks go on."""

from __future__ import annotations

import click

from headgate.actions import uplink
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json


@click.command(
    epilog=ending(
        "headgate pause",
        'headgate pause --for 8h --reason "work on the line"',
    )
)
@click.option("--for", "duration", metavar="8h", help="How long; otherwise until headgate resume.")
@click.option("--reason", metavar="TEXT", default="", help="Reason, shown while the pause lasts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, duration: str | None, reason: str, as_json: bool) -> None:
    """Send no images until headgate resume, or for a while.

    The receiver takes images, cron starts runs, and alerts stay on. A run that is active stops
    within a second; what it was sending is sent again.
    """
    with context.spool() as spool:
        limit = uplink.pause(spool, context.actor, duration or "", reason)
    if as_json:
        print_json({"paused": True, "until": limit.until, "reason": limit.reason})
    else:
        context.say(f"uploads are paused {limit.words}")
