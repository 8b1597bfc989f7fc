"""``headgate audit``: which person changed what, when and from where."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from datetime import datetime, timedelta

import click

from headgate.host.exit_codes import Exit
from headgate.settings.units import UnitError, parse_duration
from headgate.spool.site.audit import Entry
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text


@click.command(
    epilog=ending(
        "headgate audit --since 7d",
        "headgate audit --since 2026-11-01 --until 2026-12-01 --csv",
        "headgate audit --who anna",
    )
)
@click.option("--since", metavar="TIME", help="From then on: 7d for a week ago, or 2026-11-23.")
@click.option("--until", metavar="TIME", help="Before then; a time is local unless it has a zone.")
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
            since=_instant("--since", since, now),
            until=_instant("--until", until, now),
            who=who,
            limit=limit,
        )
    if as_json:
        print_json([asdict(entry) for entry in found])
    elif as_csv:
        print_text(_csv(found), nl=False)
    else:
        for entry in found:
            print_text(_line(entry))
        if not found:
            context.say("no such change is recorded")


def _instant(flag: str, text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        pass
    else:
        return at.astimezone()  # without a zone it is local time
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (UnitError, OverflowError):
        fail(
            f"{flag}: {text!r} is not a time; write how long ago (7d), a date (2026-11-23) or "
            "2026-11-23T16:04",
            Exit.USAGE,
        )


def _line(entry: Entry) -> str:
    what = " ".join(filter(None, (entry.subject, entry.detail and f"({entry.detail})")))
    return (
        f"{entry.at:%Y-%m-%d %H:%M:%S} UTC  {entry.who:<12}  {entry.address:<15}  "
        f"{entry.action:<15}  {what}"
    ).rstrip()


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _csv(found: list[Entry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("number", "at", "who", "action", "subject", "detail", "address"))
    for entry in found:
        # A spreadsheet runs a text that begins like a formula; a quote in front makes it text.
        cells = [entry.who, entry.action, entry.subject, entry.detail, entry.address]
        writer.writerow(
            [entry.number, entry.at.isoformat()]
            + [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]
        )
    return text.getvalue()
