"""``headgate release``: end a hold."""

from __future__ import annotations

import click

from headgate.actions import holds
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json


@click.command(epilog=ending("headgate release cam-07"))
@click.argument("what", metavar="IMAGE|DEVICE", shell_complete=completions.held)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, what: str, as_json: bool) -> None:
    """Release a held image or device, in its order.

    An image whose device is held stays held with it.
    """
    with context.spool() as spool:
        subject = holds.release(spool, context.actor, what)
    if as_json:
        print_json({"kind": subject.kind, "name": subject.name})
    else:
        context.say(f"released: {subject.name}")
