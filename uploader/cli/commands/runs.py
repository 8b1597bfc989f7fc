"""``headgate runs``: what the last runs did."""

from __future__ import annotations

from dataclasses import fields

import click

from headgate.settings.units import human_duration, human_size
from headgate.spool.site.runs import Run
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text
from uploader.cli.tables import aligned, csv_text

_HEAD = ("STARTED", "TOOK", "TRIGGER", "OUTCOME", "IMAGES", "BYTES", "DEFERRED", "ASIDE", "MESSAGE")


@click.command(epilog=ending("headgate runs", "headgate runs --limit 300 --csv"))
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Maximum number of runs.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with all fields.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, limit: int, as_csv: bool, as_json: bool) -> None:
    """List the last runs, newest first, with what came of them."""
    with context.spool() as spool:
        found = spool.site.runs(limit)
    if as_json:
        print_json(found)
    elif as_csv:
        head = [field.name for field in fields(Run)]
        rows = ([getattr(run, name) for name in head] for run in found)
        print_text(csv_text(head, rows), nl=False)
    else:
        for line in aligned(_HEAD, map(_cells, found), numbers=(4, 5, 6, 7)):
            print_text(line)
        if not found:
            context.say("no run has started yet")


def _cells(run: Run) -> tuple[str, ...]:
    took = "running"
    if run.ended_at is not None:
        took = human_duration((run.ended_at - run.started_at).total_seconds())
    return (
        f"{run.started_at:%Y-%m-%d %H:%M:%S} UTC",
        took,
        run.trigger,
        run.outcome.value,
        f"{run.images:,}",
        human_size(run.bytes),
        f"{run.deferred:,}",
        f"{run.set_aside:,}",
        run.message,
    )
