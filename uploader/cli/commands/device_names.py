"""``headgate device gaps | label | group | rename | remove``: corrections of devices."""

from __future__ import annotations

import click

from headgate.actions import device_names
from headgate.host.exit_codes import Exit
from headgate.monitor import search
from headgate.monitor.documents import gaps_fields
from headgate.monitor.search import Misread
from headgate.settings.units import counted
from headgate.spool.image.names import device_name
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

_DEVICE = click.argument("device", metavar="NAME", shell_complete=completions.senders)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SHOWN = 1000


@click.command(
    epilog=ending("headgate device gaps cam-07", "headgate device gaps cam-07 --accept 17-40")
)
@_DEVICE
@click.option("--accept", metavar="17[-40]", help="These images will not come: close the gap.")
@_JSON
@click.pass_obj
def gaps(context: Context, device: str, accept: str | None, as_json: bool) -> None:
    """List sequence numbers that never arrived.

    Only gaps of the current series count: a camera that counts from 0 or 1 again begins a new
    one. With --accept they are closed, and the alert device-gaps ends.
    """
    device = device_name(device)
    try:
        numbers = search.numbers(accept or "", "accept")
    except Misread as misread:
        fail(f"--{misread}", Exit.USAGE)
    with context.spool() as spool:
        closed = 0
        if numbers is not None:
            closed = device_names.accept_gaps(spool, context.actor, device, *numbers)
        found = spool.catalog.gaps(device, _SHOWN)
    if found is None:
        fail(f"{device} has sent no sequence number", missing=True)
    if as_json:
        print_json(gaps_fields(found) | {"accepted": closed})
        return
    if numbers is not None:
        context.say(f"{counted(closed, 'missing number')} accepted")
    for first, last in found.gaps:
        print_text(str(first) if first == last else f"{first}-{last}")
    if numbers is None:
        context.say(f"{found.missing:,} of {found.first}-{found.last} are missing", err=True)


@click.command(
    epilog=ending('headgate device label cam-07 "Front door"', 'headgate device label cam-07 ""')
)
@_DEVICE
@click.argument("label", metavar="TEXT")
@_JSON
@click.pass_obj
def label(context: Context, device: str, label: str, as_json: bool) -> None:
    """Say what people call a device; an empty text takes it away."""
    _label(context, device_name(device), as_json, text=label)


@click.command(epilog=ending("headgate device group cam-07 north"))
@_DEVICE
@click.argument("group", metavar="GROUP")
@_JSON
@click.pass_obj
def group(context: Context, device: str, group: str, as_json: bool) -> None:
    """Show a device together with others; an empty text takes it out."""
    _label(context, device_name(device), as_json, group=group)


def _label(context: Context, device: str, as_json: bool, **given: str) -> None:
    with context.spool() as spool:
        found = device_names.label(spool, context.actor, device, **given)
    if as_json:
        print_json({"device": device, "label": found.label, "group": found.group})
    else:
        context.say(f"{device}: label {found.label or '(none)'}, group {found.group or '(none)'}")


@click.command(epilog=ending("headgate device rename cam-7 cam-07"))
@_DEVICE
@click.argument("name", metavar="NEW-NAME")
@_JSON
@click.pass_obj
def rename(context: Context, device: str, name: str, as_json: bool) -> None:
    """Give a device another name, whether it is enrolled or only sends.

    Its tokens stay valid, and what it sends from now on has the new name in paths and keys. Images
    that came before keep the old name there and in headgate find. A device without a token has to
    send the new name itself.
    """
    device = device_name(device)
    with context.spool() as spool:
        device_names.change_name(spool, context.actor, device, name)
    if as_json:
        print_json({"device": name, "before": device})
    else:
        context.say(f"{device} is {name} now; images that came before keep the name {device}")


@click.command(epilog=ending("headgate device remove cam-07"))
@_DEVICE
@_JSON
@click.pass_obj
def remove(context: Context, device: str, as_json: bool) -> None:
    """Forget a device: its tokens, label and statistics.

    Its images stay, and waiting ones are sent. Also for devices that only sent, without a token:
    such a device is back as soon as it sends again.
    """
    device = device_name(device)
    with context.spool() as spool:
        device_names.remove(spool, context.actor, device)
    if as_json:
        print_json({"removed": device})
    else:
        context.say(f"removed: {device}; its images stay")
