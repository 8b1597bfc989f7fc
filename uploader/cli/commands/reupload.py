"""``headgate reupload``: send uploaded images again."""

from __future__ import annotations

import click

from headgate.host.exit_codes import Exit
from headgate.monitor.checks import images, images_word
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Count
from headgate.spool.image.names import device_name
from headgate.spool.query import Query
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, confirm, fail, fail_unknown, print_json, print_text
from uploader.cli.tables import instant_of
from uploader.run import reupload

_SHOWN = 20


@click.command(
    epilog=ending(
        "headgate reupload --bucket photos-old --dry-run",
        "headgate reupload --device cam-07 --since 2026-11-01 --until 2026-11-23",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.LOCKED),
        meaning={
            Exit.ERROR: "some images could not be put back, or another error",
            Exit.LOCKED: "a run holds the lock and does not end; try again",
        },
    )
)
@click.option(
    "--device",
    metavar="NAME",
    shell_complete=completions.senders,
    help="Only images of this device.",
)
@click.option("--since", metavar="TIME", help="Only images that arrived from then on.")
@click.option("--until", metavar="TIME", help="Only images that arrived before; a day to its end.")
@click.option("--bucket", metavar="NAME", help="Only images that were sent to this bucket.")
@click.option("--dry-run", is_flag=True, help="Say how much that is, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context,
    device: str | None,
    since: str | None,
    until: str | None,
    bucket: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send uploaded images again, to where the settings say now.

    Copies on this disk are put back in the queue; where there is none, the image is fetched from
    the bucket of its receipt first. Runs send them within the budget, and what is in the new place
    already is not sent twice.
    """
    if not (device or since or until or bucket):
        fail("say which images: --device, --since, --until or --bucket", Exit.USAGE)
    with context.spool() as spool:
        now = spool.now()
        query = Query(
            device=device_name(device or ""),
            since=instant_of("--since", since, now),
            until=instant_of("--until", until, now, end=True),
        )
        here, away = Count(), Count()
        with context.progress(as_json=as_json) as progress:
            progress.begin("images found")
            for receipt in reupload.of(spool, query, bucket or ""):
                progress.step()
                one = Count(1, receipt.size)
                here, away = (here + one, away) if receipt.local else (here, away + one)
        nothing = not (here.images or away.images)
        if device and nothing and not spool.knows_device(query.device):
            fail_unknown(spool, "device", device)
        if not as_json:
            context.say(
                f"{images(here)} with a copy here, {images(away)} to be fetched first; they go to "
                f"{context.settings.goes_to or 'no bucket: none is set'}"
            )
        if dry_run:
            if as_json:
                print_json({"local": here, "to_fetch": away})
            return
        if not yes and not nothing:
            confirm("Send them again?", "add --yes where no one can be asked")
        try:
            with context.progress(as_json=as_json) as progress:
                progress.begin("images put back", here.images + away.images)
                done = reupload.run(spool, context.actor, query, bucket or "", progress)
        except LockHeld as error:
            fail(str(error), Exit.LOCKED)
    if as_json:
        print_json({"images": done.images, "left": done.left})
    else:
        context.say(f"{images_word(done.images)} put back in the queue")
        for image, why in list(done.left.items())[:_SHOWN]:
            print_text(f"{image}: {why}", err=True)
    if done.left:
        raise SystemExit(Exit.ERROR)
