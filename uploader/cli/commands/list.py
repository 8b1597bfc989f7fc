"""``headgate list``: images, newest first."""

from __future__ import annotations

from dataclasses import asdict

import click

from headgate.settings.units import human_size
from headgate.spool.image.image import Receipt, State
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text


@click.command(
    epilog=ending(
        "headgate list --limit 5",
        "headgate list --state set_aside  # with the reason of each",
        "headgate list --state uploaded --json",
    )
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="List only images in this state.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="Maximum number of images.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, state: str | None, limit: int, as_json: bool) -> None:
    """List images, newest first.

    Shows the reason for images that are set aside, lost or discarded, and the key of uploaded ones.
    Lost and discarded images are listed only with --state.
    """
    with context.spool() as spool:
        found = spool.images(None if state is None else State(state), limit)
    if as_json:
        print_json(
            [
                asdict(receipt)
                | {"safe_to_erase": receipt.safe_to_erase, "warnings": list(receipt.warnings)}
                for receipt in found
            ]
        )
        return
    for receipt in found:
        print_text(_line(receipt))


def _line(receipt: Receipt) -> str:
    said = ("clock not set",) if receipt.warnings else ()
    where = "; ".join((*filter(None, [receipt.key or receipt.reason]), *said))
    return f"{receipt.id}  {receipt.state:<9}  {human_size(receipt.size):>8}  {where}".rstrip()
