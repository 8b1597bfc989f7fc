"""``headgate device export | import``: let the devices of one gateway send to another one."""

from __future__ import annotations

import json
from collections import Counter
from typing import IO, Any

import click

from headgate.actions import devices
from headgate.host.foreign_json import read_json
from headgate.spool.site.enrolments import Enrolment, NotEnrolments, Taken
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_text

_MOST_BYTES = 64 * 1024 * 1024


@click.command(epilog=ending("headgate device export > devices.json"))
@click.pass_obj
def export(context: Context) -> None:
    """Print all devices, for headgate device import.

    Of their tokens only hashes are printed, with which no one can send. Revoked devices are among
    them, so that a revocation goes along. Devices that log in by HTTP Digest are left out: what is
    stored of theirs can be sent with.
    """
    with context.spool() as spool:
        found = spool.site.devices.enrolments(spool.now())
    print_text(json.dumps({"devices": [one.encode() for one in found]}))


@click.command("import", epilog=ending("headgate device import devices.json"))
@click.argument("file", default="-")
@click.pass_obj
def import_(context: Context, file: str) -> None:
    """Enrol and revoke as another gateway's export says.

    Their tokens are then valid here too. Of two enrolments of a device the later one counts, and a
    revocation counts at both. All are taken over, or none.
    """
    try:
        with click.open_file(file, encoding="utf-8") as stream:
            heard = _read(stream)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except (NotEnrolments, UnicodeDecodeError) as error:
        fail(f"{file}: this is not what headgate device export prints: {error}")
    with context.spool() as spool:
        taken = devices.take_over(spool, context.actor, heard)
    counts = Counter(taken.values())
    said = ", ".join(f"{counts[what]} {what}" for what in Taken if counts[what])
    context.say(f"devices: {said or 'none'}")
    left = [name for name, what in taken.items() if what is Taken.BY_DIGEST]
    if left:
        context.say(f"they log in by Digest here, and stay as they are: {', '.join(left)}")


def _read(file: IO[Any]) -> list[Enrolment]:
    text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise NotEnrolments("it is too large")
    try:
        document = read_json(text)
        found = document["devices"]
    except (ValueError, KeyError, TypeError):
        raise NotEnrolments("there are no devices in it") from None
    if not isinstance(found, list):
        raise NotEnrolments("there are no devices in it")
    heard = [Enrolment.decode(one) for one in found]
    if len({one.name for one in heard}) < len(heard):
        raise NotEnrolments("a device is named twice")
    return heard
