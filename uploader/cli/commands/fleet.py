"""``headgate fleet``: all gateways of a site that share an uplink."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

import click

from headgate.host.exit_codes import Exit
from headgate.monitor import checks
from headgate.monitor.fleet import Fleet, Member
from headgate.monitor.fleet_reports import Reports
from headgate.monitor.rules import Level
from headgate.settings.units import human_duration, human_size
from headgate.shared.connection import SharedTrouble
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text, styled
from uploader.cli.report import styled_as
from uploader.cli.tables import aligned

_HEAD = ("GATEWAY", "REPORTED", "WAITING", "BYTES", "OLDEST", "MAY SEND", "SENT", "FREE", "VERSION",
         "STATE")  # fmt: skip


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
                "silent": list(found.silent),
                "gateways": [asdict(one) for one in found.members],
                "totals": asdict(found.totals),
            }
        )
    else:
        for line in _lines(found):
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


def _lines(found: Fleet) -> Iterator[str]:
    rows = [_cells(one) for one in found.members]
    if not rows:
        yield "no gateway has reported yet; headgate watch does so each minute"
        return
    yield from aligned(_HEAD, rows, numbers=(2, 3, 4, 5, 6, 7))
    for one in found.members:
        if one.report is not None and one.report.sentence:
            text = f"{one.gateway}: {one.report.sentence}"
            yield styled_as(text, one.report.level)
    for name in found.silent:
        yield styled(f"{name}: silent; look whether it runs, and reaches Redis", fg="red")
    sums = found.totals
    yield (
        f"all        received {sums.received:,}, waiting {sums.waiting:,} "
        f"({human_size(sums.waiting_bytes)}), uploaded {sums.uploaded:,}, set aside "
        f"{sums.set_aside:,}, lost {sums.lost:,}; they may send {human_size(sums.rate)}/s"
    )
    if sums.unaccounted:
        missing = checks.images_word(sums.unaccounted)
        text = f"MISSING    unaccounted for: {missing}; headgate verify at that gateway"
        yield styled(text, fg="red", bold=True)


def _cells(one: Member) -> tuple[str, ...]:
    report = one.report
    at = f"{one.seen_at:%H:%M:%S} UTC"
    if report is None:
        return (one.gateway, at, *["-"] * 7, "no report")
    return (
        one.gateway,
        at,
        f"{report.waiting:,}",
        human_size(report.waiting_bytes),
        human_duration(report.oldest_seconds) if report.waiting else "-",
        f"{human_size(report.rate)}/s",
        f"{human_size(report.used)}/s",
        human_size(report.free_bytes),
        report.version,
        "silent" if one.silent else report.level.value,
    )
