"""``headgate discard``: give up images that are set aside or lost; their records stay."""

from __future__ import annotations

import click

from headgate.actions.images import discard
from headgate.host.exit_codes import Exit
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text


@click.command(
    epilog=ending(
        'headgate discard 20261123T160405.123456Z_cam-07_0123456789abcdef --reason "a test"',
        meaning={Exit.ERROR: "a named image could not be discarded"},
    )
)
@click.argument("images", nargs=-1, required=True, metavar="ID...",
                shell_complete=completions.images_aside)  # fmt: skip
@click.option("--reason", required=True, help="Reason, recorded with the user and the time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, images: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Give up images that are set aside or lost.

    Their files are deleted and their records stay: headgate list --state discarded shows who did
    it, when and why. Images that wait to be sent cannot be discarded. If a run is active, it does
    the work.
    """
    with context.spool() as spool:
        found = discard(spool, context.actor, images, reason)
    if as_json:
        print_json({image: became.sentence for image, became in found.items()})
    else:
        for image, became in found.items():
            if became.done:
                context.say(f"{image}: {became.sentence}")
            else:
                print_text(f"{image}: {became.sentence}")
    if not all(became.done for became in found.values()):
        raise SystemExit(Exit.ERROR)
