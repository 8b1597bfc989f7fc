"""``headgate safe-on``: put a gateway back into service."""

from __future__ import annotations

import click

from headgate.actions import intake
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json


@click.command(epilog=ending("headgate safe-on"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, as_json: bool) -> None:
    """Accept images again after headgate safe-off."""
    with context.spool() as spool:
        opened = intake.safe_on(spool, context.actor)
    if as_json:
        print_json({"opened": opened})
    else:
        context.say("images are accepted again" if opened else "images are accepted already")
