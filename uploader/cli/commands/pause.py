"""``headgate pause``: send no images for a while; the receiver, alerts and checks go on."""

from __future__ import annotations

import logging
from datetime import timedelta

import click

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.settings.units import Percent, UnitError, parse_duration
from headgate.spool.budget.uplink import LIMIT, Limit
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail


@click.command(
    epilog=ending(
        "headgate pause",
        'headgate pause --for 8h --reason "work on the line"',
    )
)
@click.option("--for", "duration", metavar="8h", help="How long; otherwise until headgate resume.")
@click.option("--reason", metavar="TEXT", default="", help="Reason, shown while the pause lasts.")
@click.pass_obj
def command(context: Context, duration: str | None, reason: str) -> None:
    """Send no images until headgate resume, or for a while.

    The receiver takes images, cron starts runs, and alerts stay on. A run that is active stops
    within a second; what it was sending is sent again.
    """
    logs.configure(level=context.level(logging.WARNING))
    try:
        seconds = None if duration is None else parse_duration(duration)
    except UnitError as error:
        fail(str(error), Exit.USAGE)
    if seconds == 0:
        fail("--for is at least 1s; headgate resume ends a pause", Exit.USAGE)
    with context.spool() as spool:
        until = None if seconds is None else spool.now() + timedelta(seconds=seconds)
        limit = Limit(Percent(0), until, reason)
        spool.site.put(LIMIT, limit.encode())
        logs.get().info("uploads.paused", until=until and until.isoformat(), reason=reason)
    context.say(f"uploads are paused {limit.words}")
