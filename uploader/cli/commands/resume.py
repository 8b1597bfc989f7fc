"""``headgate resume``: end a pause."""

from __future__ import annotations

import click

from headgate.actions import uplink
from headgate.settings.units import human_size
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context


@click.command(epilog=ending("headgate resume"))
@click.pass_obj
def command(context: Context) -> None:
    """Send images again after headgate pause, from the next run on."""
    with context.spool() as spool:
        if not uplink.resume(spool, context.actor):
            context.say("uploads are not paused")
            return
        rate = spool.uplink.cap().for_images
    context.say(f"uploads go on with the next run, at up to {human_size(rate)}/s")
