"""``headgate why``: what an image or a device waits for, and when it should leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

import click

from headgate.monitor import why
from headgate.monitor.checks import images
from headgate.monitor.documents import image_fields
from headgate.monitor.why import SENTENCES, DeviceReason, Reason
from headgate.settings.units import human_duration
from headgate.spool.image.names import device_name
from headgate.spool.site.gone import Stage
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, fail_unknown, print_json, print_text


@click.command(
    epilog=ending(
        "headgate why 20261123T160405.123456Z_cam-07_0123456789abcdef",
        "headgate why cam-07 --json",
    )
)
@click.argument("what", metavar="IMAGE|DEVICE", shell_complete=completions.senders)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, what: str, as_json: bool) -> None:
    """Explain where an image is, and what it waits for.

    An image is named by its id or its SHA-256. Of a device, its oldest image that is not uploaded
    is explained. When an image should leave is an estimate, as long as no newer one goes first.
    """
    with context.spool() as spool:
        found = why.of_image(spool, what) or why.of_device(spool, device_name(what))
        now = spool.now()
        if found is None:
            gone = spool.site.gone.get(what)
            if gone is not None and gone.stage is Stage.PURGED:
                purged = f"it was purged on {gone.at:%Y-%m-%d %H:%M} UTC"
                fail(f"{purged}, and nothing else is known", missing=True)
            fail_unknown(spool, "image and no device", what)
    if as_json:
        print_json(_fields(found))
        return
    lines = _of_image(found, now) if isinstance(found, Reason) else _of_device(found, now)
    for line in lines:
        print_text(line)


def _fields(found: Reason | DeviceReason) -> dict[str, object]:
    if isinstance(found, Reason):
        return asdict(found) | {
            "receipt": image_fields(found.receipt),
            "sentence": SENTENCES[found.waits_for],
        }
    oldest = None if found.oldest is None else _fields(found.oldest)
    return asdict(found) | {"oldest": oldest}


def _of_device(found: DeviceReason, now: datetime) -> Iterator[str]:
    yield f"device     {found.device}, {'enrolled' if found.enrolled else 'not enrolled'}"
    if found.last_seen_at is None:
        yield "last seen  never"
    else:
        ago = human_duration(max(0.0, (now - found.last_seen_at).total_seconds()))
        yield f"last seen  {ago} ago; {images(found.received)} in all"
    yield f"waiting    {images(found.waiting)}"
    if found.oldest is not None:
        yield "the oldest that is not uploaded:"
        yield from (f"  {line}" for line in _of_image(found.oldest, now))


def _of_image(found: Reason, now: datetime) -> Iterator[str]:
    receipt = found.receipt
    age = human_duration(max(0.0, (now - receipt.received_at).total_seconds()))
    yield f"image      {receipt.id}"
    yield f"state      {receipt.state.replace('_', ' ')}; it arrived {age} ago"
    if receipt.key:
        here = "and a copy is here" if receipt.local else "and no copy is here"
        yield f"where      {receipt.bucket}, {receipt.key}, {here}"
    if receipt.pruned_at is not None:
        at = f"{receipt.pruned_at:%Y-%m-%d %H:%M} UTC"
        yield f"deleted    the copy here, {at}: {receipt.pruned_by}"
    if receipt.reason:
        yield f"reason     {receipt.reason}"
    for warning in receipt.warnings:
        yield f"warning    {warning}"
    for label, said in why.outlook(found, now):
        yield f"{label:<9}  {said}"
