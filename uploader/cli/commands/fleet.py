"""``headgate fleet``: all gateways of a site that share an uplink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

import click

from headgate.host.exit_codes import Exit
from headgate.monitor.fleet import Fleet
from headgate.monitor.fleet_reports import Reports
from headgate.monitor.fleet_words import Line, law, lines, sentence, timetable
from headgate.monitor.rules import Level
from headgate.settings.units import human_size
from headgate.shared.connection import SharedTrouble
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.report import styled_as
from uploader.cli.tables import aligned

_HEAD = ("GATEWAY", "REPORTED", "WAITING", "BYTES", "OLDEST", "MAY SEND", "SENT", "EMPTY IN",
         "FREE", "FULL IN", "VERSION", "STATE")  # fmt: skip


@click.group(epilog=ending("headgate fleet status", "headgate fleet forget gw3"))
def command() -> None:
    """Show the gateways that share an uplink as one site."""


@command.command(
    epilog=ending(
        "headgate fleet status",
        "headgate fleet status --json | jq .totals.waiting",
        meaning={Exit.ERROR: "a gateway is silent or in trouble, or Redis cannot be read"},
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Print each gateway's last report, silent ones, and the totals.

    Exit code 1 if a gateway is silent or something is wrong at one, or if the images that were
    received do not add up.
    """
    try:
        with closing(_reports(context)) as reports:
            found = reports.read()
    except SharedTrouble as trouble:
        fail(str(trouble))
    if as_json:
        print_json(
            {
                "level": found.level.value,
                "sentence": sentence(found),
                "silent": list(found.silent),
                "gateways": [asdict(one) for one in found.members],
                "totals": asdict(found.totals),
            }
        )
    else:
        for line in _lines(found, datetime.now(UTC)):
            print_text(line)
    if found.level is Level.BAD:
        raise SystemExit(Exit.ERROR)


@command.command(epilog=ending("headgate fleet forget gw3"))
@click.argument("gateway")
@click.pass_obj
def forget(context: Context, gateway: str) -> None:
    """Forget a gateway that was taken away.

    One that still reports is back with its next report.
    """
    try:
        with closing(_reports(context)) as reports:
            known = reports.forget(gateway)
    except SharedTrouble as trouble:
        fail(str(trouble))
    if not known:
        fail(f"no gateway {gateway} has reported; headgate fleet status lists those that have")
    context.say(f"forgotten: {gateway}")


def _reports(context: Context) -> Reports:
    uplink = context.settings.uplink
    if not uplink.shared:
        fail("this gateway shares its uplink with no other: uplink.shared is not set")
    return Reports(uplink.shared, context.settings.site.name)


def _lines(found: Fleet, now: datetime) -> Iterator[str]:
    if found.members:
        every = lines(found, now)
        yield from aligned(_HEAD, map(_cells, every), numbers=(2, 3, 4, 5, 6, 7, 8, 9))
        for one in every:
            if one.remark:
                yield styled_as(f"{one.gateway}: {one.state}; {one.remark}", one.level)
        yield law(found.totals)
        sums = found.totals
        yield f"they may send {human_size(sums.rate)}/s and sent {human_size(sums.used)}/s"
        if said := timetable(found):
            yield said
    yield styled_as(sentence(found), found.level)


def _cells(one: Line) -> tuple[str, ...]:
    at = f"{one.seen_at:%H:%M:%S} UTC"
    return (one.gateway, at, one.waiting, one.bytes, one.oldest, one.rate, one.used, one.empty,
            one.free, one.full, one.version, one.state)  # fmt: skip
