"""``headgate find`` and its other name ``headgate list``: images, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import click

from headgate.host.exit_codes import Exit
from headgate.monitor import search
from headgate.monitor.documents import image_fields
from headgate.monitor.search import Misread, Wanted
from headgate.settings.units import human_size
from headgate.spool.image.image import Receipt, State
from headgate.spool.query import By
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, OneOf, fail, print_json, print_text
from uploader.cli.tables import aligned, csv_text


@click.command(
    epilog=ending(
        "headgate find --device cam-07 --since yesterday",
        "headgate find --since 2026-11-23T16:00 --until 2026-11-23T17:00 --by capture --csv",
        "headgate find --device cam-07 --sequence 17-40",
        "headgate find --state set_aside  # with the reason of each",
        "headgate find --tag site=north --limit 100 --json",
    )
)
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=completions.senders,
    help="Only images of this device.",
)
@click.option(
    "--since",
    metavar="TIME",
    help="Not before this: 2026-11-23, 2026-11-23T16:04:05Z, yesterday, or 2h (ago).",
)
@click.option(
    "--until", metavar="TIME", help="Before this; of a day (2026-11-23, today) until its end."
)
@click.option(
    "--by",
    type=OneOf([by.value for by in By]),
    default=By.ARRIVAL.value,
    show_default=True,
    help="Which time is meant, and ordered by. Images without a time of capture have only the "
    "other.",
)
@click.option(
    "--state",
    "states",
    type=OneOf([state.value for state in State]),
    multiple=True,
    help="Only images in this state; may be repeated.",
)
@click.option("--sequence", metavar="17[-40]", help="Only these sequence numbers.")
@click.option(
    "--tag",
    "tags",
    metavar="NAME[=VALUE]",
    multiple=True,
    help="Only images with this tag; may be repeated, and then all must be there.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="Maximum number of images.",
)
@click.option("--cursor", metavar="ID", help="Continue behind this image, the last one shown.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with all fields.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context,
    device: str | None,
    since: str | None,
    until: str | None,
    by: str,
    states: tuple[str, ...],
    sequence: str | None,
    tags: tuple[str, ...],
    limit: int,
    cursor: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Find images by device, time, state or tag.

    The newest are first, wherever they are: waiting, set aside or uploaded.

    Shows the reason for images that are set aside, lost or discarded, and the key of uploaded ones.
    Lost and discarded images are shown only with --state.

    A program that reads JSON or CSV gets the next page with the id of the last image as --cursor;
    a page with fewer images than --limit is the last one.
    """
    if as_csv and as_json:
        fail("choose one of --csv and --json", Exit.USAGE)
    with context.spool() as spool:
        wanted = Wanted(
            device or "",
            since or "",
            until or "",
            By(by),
            search.states(states),
            sequence or "",
            tags,
            cursor or "",
            limit,
        )
        try:
            page = spool.find(search.query(spool, wanted))
        except Misread as misread:
            missing = misread.field == "cursor"
            fail(f"--{misread}", Exit.ERROR if missing else Exit.USAGE, missing=missing)
    if as_json:
        print_json([image_fields(receipt) for receipt in page.receipts])
        return
    if as_csv:
        print_text(_csv(page.receipts), nl=False)
        return
    for line in aligned(_HEAD, map(_cells, page.receipts), numbers=(2, 4)):
        print_text(line)
    if page.more:
        context.say(f"There are more: add --cursor {page.cursor}", err=True)


_HEAD = ("IMAGE", "STATE", "SIZE", "CAPTURED", "SEQUENCE", "KEY OR REASON")


def _cells(receipt: Receipt) -> tuple[str, ...]:
    said = ("clock not set",) if receipt.name.clock_unset else ()
    where = "; ".join((*filter(None, [receipt.key or receipt.reason]), *said))
    return (
        receipt.id,
        receipt.state.value,
        human_size(receipt.size),
        f"{receipt.captured_at:%Y-%m-%dT%H:%M:%SZ}" if receipt.captured_at else "",
        "" if receipt.sequence is None else str(receipt.sequence),
        where,
    )


_COLUMNS = (
    *(one.name for one in fields(Receipt) if one.name != "remarks"),
    "warnings",
    "safe_to_erase",
)


def _csv(receipts: Sequence[Receipt]) -> str:
    known = map(image_fields, receipts)
    return csv_text(_COLUMNS, ([one[column] for column in _COLUMNS] for one in known))
