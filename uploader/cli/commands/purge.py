"""``headgate purge``: erase images for good."""

from __future__ import annotations

from collections import Counter

import click

from headgate.actions import holds
from headgate.actions.images import REASON_MAX
from headgate.host.exit_codes import Exit
from headgate.monitor.checks import images, images_word
from headgate.settings.suggest import did_you_mean
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Count
from headgate.spool.site.holds import Kind, Subject
from headgate.spool.spool import Spool
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, confirm, fail, print_json, print_text
from uploader.run import purge

_SHOWN = 20


@click.command(
    epilog=ending(
        'headgate purge --device cam-07 --reason "request 4711" --dry-run',
        'headgate purge --image 20261123T160405.123456Z_cam-07_0123456789abcdef --reason "a face"',
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.LOCKED),
        meaning={
            Exit.ERROR: "some objects could not be deleted from the bucket, or another error",
            Exit.LOCKED: "a run holds the lock and does not end; try again",
        },
    )
)
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=completions.senders,
    help="Erase all images of this device.",
)
@click.option("--image", metavar="IMAGE", help="Erase this image, by its id or its SHA-256.")
@click.option("--reason", help="Reason, kept in the audit log; without personal data.")
@click.option("--dry-run", is_flag=True, help="Say what would be erased, and erase nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context,
    device: str | None,
    image: str | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Erase images for good.

    They go from this disk, from the records and, where the credentials may, from the bucket with
    every version. The audit log keeps when, by
    whom, how many and why, and not which. This cannot be undone.
    """
    if bool(device) == bool(image):
        fail("use --device or --image, and only one of them", Exit.USAGE)
    reason = " ".join((reason or "").split())[:REASON_MAX]
    if not reason and not dry_run:
        fail('give a reason: --reason "request 4711"', Exit.USAGE)
    with context.spool() as spool:
        subject = _subject(spool, device or "", image or "")
        found = []
        with context.progress(as_json=as_json) as progress:
            progress.begin("images found")
            for receipt in purge.of(spool, subject):
                progress.step()
                found.append(receipt)
        states = Counter(receipt.state.value for receipt in found)
        count = Count(len(found), sum(receipt.size for receipt in found))
        in_bucket = sum(bool(receipt.key) for receipt in found)
        if not as_json:
            context.say(
                f"{images(count)} of {subject.name}: "
                + (", ".join(f"{number:,} {state}" for state, number in states.items()) or "none")
                + f"; {images_word(in_bucket)} in the bucket"
            )
        if dry_run:
            if as_json:
                print_json({"images": count, "states": states, "in_bucket": in_bucket})
            return
        if not yes:
            otherwise = "this erases images for good; add --yes where no one can be asked"
            confirm("Erase them for good?", otherwise)
        try:
            with context.progress(as_json=as_json) as progress:
                progress.begin("images erased", count.images)
                done = purge.run(spool, context.actor, subject, reason, progress=progress)
        except LockHeld as error:
            fail(str(error), Exit.LOCKED)
    if as_json:
        print_json({"purged": done.images, "left": done.left})
    else:
        context.say(f"purged: {images(done.images)}")
        for key, why in list(done.left.items())[:_SHOWN]:
            print_text(f"still in the bucket: {key}: {why}", err=True)
        if len(done.left) > _SHOWN:
            print_text(f"and {len(done.left) - _SHOWN:,} more", err=True)
    if done.left:
        raise SystemExit(Exit.ERROR)


def _subject(spool: Spool, device: str, image: str) -> Subject:
    what = device or image
    found = holds.subject_of(spool, what)
    if found is None or (found.kind is Kind.DEVICE) != bool(device):
        known = [one.device for one in spool.catalog.arrivals()] if device else []
        kind = "device" if device else "image"
        fail(f"there is no {kind} {what}.{did_you_mean(what, known)}", missing=True)
    return found
