"""``headgate get``: an image as it arrived, from this disk or from the bucket."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from headgate.host.exit_codes import Exit
from headgate.settings.units import human_size
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError, LockHeld
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json
from uploader.run.original import NotToBeHad, Source, original

_FROM = {Source.DISK: "this disk", Source.BUCKET: "the bucket"}


@click.command(
    epilog=ending(
        "headgate get 20261123T160405.123456Z_cam-07_0123456789abcdef",
        "headgate get 20261123T160405.123456Z_cam-07_0123456789abcdef -o front.jpg --force",
        "headgate get 20261123T160405.123456Z_cam-07_0123456789abcdef -o - | display",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.LOCKED),
        meaning={Exit.LOCKED: "another program sends at this moment; try again"},
    )
)
@click.argument("image", metavar="IMAGE")
@click.option(
    "-o",
    "output",
    metavar="FILE",
    help="Write to this file, or with - to standard output; otherwise to the image's own name.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the file, and where it is from.")
@click.pass_obj
def command(context: Context, image: str, output: str | None, force: bool, as_json: bool) -> None:
    """Get an image as it arrived, by its id or its SHA-256.

    It comes from this disk, or else from the bucket that confirmed it, and is compared with its
    SHA-256 before it gets its name. Run as root, the command writes as the spool's owner; to write
    where that user may not, use -o - and let the shell write.
    """
    to_pipe = output == "-"
    if to_pipe and as_json:
        fail("--json needs a file to write the image to", Exit.USAGE)
    if to_pipe and sys.stdout.isatty():
        fail("an image is nothing for a terminal; use -o FILE", Exit.USAGE)
    with context.spool() as spool:
        receipt = spool.receipt(image)
        if receipt is None:
            fail(f"there is no image {image}; headgate find lists images", missing=True)
        target = Path(output or receipt.name.file)
        if not to_pipe and not force and target.exists():
            fail(f"{target} is there already; use --force, or name another file with -o")
        try:
            found = original(spool, receipt)
        except NotToBeHad as error:
            fail(str(error))
        except LockHeld as error:
            fail(str(error), Exit.LOCKED)
    if to_pipe:
        sys.stdout.buffer.write(found.data)
        sys.stdout.buffer.flush()
        return
    _write(target, found.data, force)
    if as_json:
        print_json(
            {
                "id": receipt.id,
                "file": target.absolute(),
                "size": receipt.size,
                "sha256": receipt.sha256,
                "source": found.source,
            }
        )
    else:
        context.say(f"{target}: {human_size(receipt.size)} from {_FROM[found.source]}")


def _write(target: Path, data: bytes, force: bool) -> None:
    """The name appears with all the bytes, or not at all; a device or a pipe is written to."""
    part = target.with_name(f".{target.name}.part")
    try:
        if force and target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb", buffering=0) as device:
                device.write(data)
            return
        if force:
            durable.write_file(target.resolve(), data)  # of a link the file that it leads to
            return
        durable.write_file(part, data)
        try:
            durable.move(part, target)
        finally:
            durable.remove(part)
    except FileExistsError:
        fail(f"{target} is there already; use --force, or name another file with -o")
    except (DiskError, OSError) as error:
        fail(f"{target} cannot be written: {error}")
