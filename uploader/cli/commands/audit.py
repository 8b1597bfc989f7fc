"""``headgate audit``: which person changed what, when and from where."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields

import click

from headgate.host.exit_codes import Exit
from headgate.spool.site.audit import Entry
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.tables import csv_text, instant_of


@click.command(
    epilog=ending(
        "headgate audit --since 7d",
        "headgate audit --since 2026-11-01 --until 2026-12-01 --csv",
        "headgate audit --who anna",
    )
)
@click.option("--since", metavar="TIME", help="From then on: 7d for a week ago, or 2026-11-23.")
@click.option("--until", metavar="TIME", help="Before then; of a day until its end.")
@click.option("--who", metavar="NAME", default="", help="Only what this person did.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="Maximum number of lines.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for a spreadsheet.")
@click.pass_obj
def command(
    context: Context,
    since: str | None,
    until: str | None,
    who: str,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show who changed what, when and from where, newest first.

    Lines are kept for auth.keep_audit. "terminal" stands for a command on this machine.
    """
    if as_json and as_csv:
        fail("use --json or --csv, not both", Exit.USAGE)
    with context.spool() as spool:
        now = spool.now()
        found = spool.site.audit.entries(
            since=instant_of("--since", since, now),
            until=instant_of("--until", until, now, end=True),
            who=who,
            limit=limit,
        )
    if as_json:
        print_json([asdict(entry) for entry in found])
    elif as_csv:
        head = [field.name for field in fields(Entry)]
        print_text(csv_text(head, map(astuple, found)), nl=False)
    else:
        for entry in found:
            print_text(_line(entry))
        if not found:
            context.say("no such change is recorded")


def _line(entry: Entry) -> str:
    what = " ".join(filter(None, (entry.subject, entry.detail and f"({entry.detail})")))
    return (
        f"{entry.at:%Y-%m-%d %H:%M:%S} UTC  {entry.who:<12}  {entry.address:<15}  "
        f"{entry.action:<15}  {what}"
    ).rstrip()
