"""``headgate plan``: what a site needs, before it is built or changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from headgate.host.exit_codes import Exit
from headgate.monitor import forecast_inputs
from headgate.settings.settings import Settings
from headgate.settings.units import (
    UnitError,
    counted,
    human_duration,
    human_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from headgate.spool.budget.uplink import wall_clock
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.plan import plan
from uploader.plan.arrivals import measured
from uploader.plan.plan import Plan
from uploader.plan.terms import LIST_PRICES, Arrivals, Disk, Prices, Terms


class _Unit(click.ParamType[int]):
    """A quantity with its unit."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except UnitError as error:
            self.fail(str(error), param, ctx)


_POSITIVE = click.FloatRange(0, min_open=True)
_SIZE, _DURATION = _Unit("size", parse_size), _Unit("duration", parse_duration)


@click.command(
    epilog=ending(
        "headgate plan --images-per-minute 2000 --mb-per-minute 500 --outage 8h --disk 500GB",
        "headgate plan --outage 2d  # with what this gateway measured",
        "headgate --set uplink.share=5% plan --json",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.CANNOT_HOLD),
    )
)
@click.option(
    "--images-per-minute", type=_POSITIVE, metavar="N", help="Images that arrive each minute."
)
@click.option("--bytes-per-image", type=_SIZE, metavar="SIZE", help="Mean size, such as 250kB.")
@click.option(
    "--mb-per-minute", type=_POSITIVE, metavar="N", help="Megabytes that arrive each minute."
)
@click.option(
    "--outage",
    type=_DURATION,
    metavar="8h",
    default="8h",
    show_default=True,
    help="How long the uplink is down.",
)
@click.option(
    "--disk",
    type=_SIZE,
    metavar="SIZE",
    help="Size of each gateway's spool disk, instead of the one that is there.",
)
@click.option(
    "--gateways",
    type=click.IntRange(1, 10_000),
    help="Gateways that share the uplink and what arrives; otherwise uplink.gateways.",
)
@click.option(
    "--floor",
    type=_Unit("rate", parse_rate),
    metavar="RATE",
    help="The rate that is always each gateway's own; otherwise uplink.floor.",
)
@click.option(
    "--price-per-1000-puts", type=click.FloatRange(0), metavar="PRICE", help="Of the bucket."
)
@click.option(
    "--price-per-gb-month", type=click.FloatRange(0), metavar="PRICE", help="Of its storage."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context,
    images_per_minute: float | None,
    bytes_per_image: int | None,
    mb_per_minute: float | None,
    outage: int,
    disk: int | None,
    gateways: int | None,
    floor: int | None,
    price_per_1000_puts: float | None,
    price_per_gb_month: float | None,
    as_json: bool,
) -> None:
    """Work out backlog, disk, recovery and cost of a site on paper.

    What arrives is given by two of --images-per-minute, --bytes-per-image and --mb-per-minute, or
    else is what this gateway measured in the last days. A plan that cannot hold is refused, with
    the number to change and a value that would do. Prices are list prices of Amazon S3 unless they
    are given.
    """
    settings = context.settings
    given = (images_per_minute, bytes_per_image, mb_per_minute)
    arrivals = _given(*given) if any(one is not None for one in given) else _measured(context)
    terms = Terms(
        uplink=settings.uplink,
        arrivals=arrivals,
        outage_seconds=outage,
        prices=_prices(price_per_1000_puts, price_per_gb_month),
        disk=_disk(settings, disk),
        gateways=gateways or settings.uplink.gateways,
        floor=settings.uplink.floor if floor is None else floor,
    )
    made = plan.make(terms)
    if as_json:
        print_json(_fields(terms, made))
    else:
        for line in _lines(terms, made):
            print_text(line)
    if not made.holds:
        raise SystemExit(Exit.CANNOT_HOLD)


def _given(images: float | None, size: int | None, megabytes: float | None) -> Arrivals:
    if sum(one is not None for one in (images, size, megabytes)) != 2:
        fail(
            "give two of --images-per-minute, --bytes-per-image and --mb-per-minute, or none of "
            "them to plan with what this gateway measured",
            Exit.USAGE,
        )
    if size is not None and not size:
        fail("--bytes-per-image: an image has at least one byte", Exit.USAGE)
    if megabytes is None:
        assert images is not None and size is not None
        return Arrivals((images * size / 60,), size)
    each = size or megabytes * 1e6 / (images or 1)
    if each < 1:
        fail("that is less than one byte an image", Exit.USAGE)
    return Arrivals((megabytes * 1e6 / 60,), each)


def _prices(puts: float | None, storage: float | None) -> Prices:
    given = {"per_1000_puts": puts, "per_gb_month": storage}
    known = {name: price for name, price in given.items() if price is not None}
    words = [name.replace("_", " ") for name in given if name not in known]
    source = f"{words[0]}: {LIST_PRICES.source}" if words else "prices as given"
    return replace(LIST_PRICES, **known, source=source) if known else LIST_PRICES


_SAY = "say what will, with --images-per-minute and --mb-per-minute"


def _measured(context: Context) -> Arrivals:
    path = context.settings.spool.path
    if not os.path.lexists(path):
        fail(f"there is no spool at {path}, so no arrivals were measured; {_SAY}", Exit.USAGE)
    with context.spool() as spool:
        now = spool.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        found = measured(forecast_inputs.hours(spool, now), hour, wall_clock)
    if found is None:
        fail(f"no image has arrived in a whole hour yet; {_SAY}")
    return found


def _disk(settings: Settings, given: int | None) -> Disk | None:
    """The disk of the spool, if it is there; nothing in it is read."""
    kept, path = settings.spool.keep_free, Path(settings.spool.path)
    if given is not None:
        return Disk(given, kept, given=True)
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return Disk(found.f_blocks * found.f_frsize, kept, inodes=found.f_files)


def _fields(terms: Terms, made: Plan) -> dict[str, Any]:
    arrivals = terms.arrivals
    return asdict(made) | {
        "holds": made.holds,
        "arrivals": {
            "images_per_second": arrivals.images_per_second,
            "bytes_per_second": arrivals.bytes_per_second,
            "image_bytes": arrivals.image_bytes,
            "measured_hours": arrivals.measured_hours,
        },
        "outage_seconds": terms.outage_seconds,
        "gateways": terms.gateways,
        "prices": asdict(terms.prices),
    }


def _lines(terms: Terms, made: Plan) -> Iterator[str]:
    arrivals = terms.arrivals
    origin = f"measured in {arrivals.measured_hours} h" if arrivals.measured_hours else "given"
    images = counted(round(arrivals.images_per_second * 60), "image")
    yield (
        f"arriving   {images} and {human_size(arrivals.bytes_per_second * 60)} a "
        f"minute, {human_size(arrivals.image_bytes)} each ({origin})"
    )
    yield (
        f"leaving    up to {human_size(made.carried_bytes_per_second * 60)} of images a minute, of "
        f"a cap of {human_size(made.cap_bytes_per_second * 60)}"
    )
    rates_hold = made.recover_seconds is not None
    if rates_hold:
        yield f"waiting    up to {_amount(made.backlog_bytes, arrivals)} in a usual week"
        yield (
            f"outage     of {human_duration(terms.outage_seconds)}: up to "
            f"{_amount(made.peak_bytes, arrivals)} wait"
        )
        assert made.recover_seconds is not None
        yield f"recovery   up to {human_duration(made.recover_seconds)} after its end"
    if made.room_bytes is None:
        if rates_hold:
            each = made.peak_bytes / terms.gateways
            yield f"disk       not known (--disk); {human_size(each)} of images must fit"
    elif rates_hold:
        yield f"disk       room for {human_size(made.room_bytes)} of images that wait"
    yield (
        f"requests   {made.puts_per_day:,.0f} PUTs a day, up to {made.puts_per_second:,.0f} a "
        "second while a backlog is sent"
    )
    yield (
        f"cost       {made.puts_cost_per_day:,.2f} a day for PUTs; "
        f"{human_size(made.stored_bytes_per_day)} a day are stored, "
        f"{made.storage_cost_per_month:,.2f} a month for what one day adds "
        f"({terms.prices.source})"
    )
    for fault in made.faults:
        yield f"refused    {fault.sentence}"


def _amount(size: float, arrivals: Arrivals) -> str:
    return f"{human_size(size)}, {counted(round(size / arrivals.image_bytes), 'image')}"
