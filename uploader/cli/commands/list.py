"""``headgate list``: the older name of ``headgate find``."""

import click

from uploader.cli.commands import find
from uploader.cli.help_epilog import ending

command = click.Command(
    "list",
    callback=find.command.callback,
    params=find.command.params,
    help="List images: the older name of find.",
    epilog=ending("headgate list --limit 5", "headgate list --state set_aside"),
)
