"""``headgate resume``: end a pause."""

from __future__ import annotations

import click

from headgate.actions import uplink
from headgate.settings.units import human_size
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json


@click.command(epilog=ending("headgate resume"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, as_json: bool) -> None:
    """Send images again after headgate pause, from the next run on."""
    with context.spool() as spool:
        ended = uplink.resume(spool, context.actor)
        rate = spool.uplink.cap().for_images
    if as_json:
        print_json({"paused": False, "was_paused": ended, "images": rate})
    elif ended:
        context.say(f"uploads go on with the next run, at up to {human_size(rate)}/s")
    else:
        context.say("uploads are not paused")
