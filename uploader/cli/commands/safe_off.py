"""``headgate safe-off``: take a gateway out of service, and say when nothing is left on it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from headgate.actions import intake
from headgate.host.exit_codes import Exit
from headgate.host.progress import can_show
from headgate.monitor.checks import images_word
from headgate.settings.units import UnitError, parse_duration
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.verbosity import Verbosity
from uploader.run.bounds import RunRequest
from uploader.run.start import run

_IN_FLIGHT_SECONDS = 60.0
_LOOK_SECONDS = 0.2


@click.command(
    epilog=ending(
        'headgate safe-off --reason "a new disk"',
        "headgate safe-off --max-time 30min",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE, Exit.STILL_WAITING, Exit.LOCKED),
        meaning={
            Exit.OK: "no image is left that is only here: the gateway may be switched off",
            Exit.ERROR: "files and records disagree, or another error",
            Exit.STILL_WAITING: "images are left here; uploads stay closed",
            Exit.LOCKED: "another run holds the lock; uploads stay closed",
        },
    )
)
@click.option("--reason", default="", help="Reason, recorded with the user and the time.")
@click.option("--max-time", metavar="30min", help="Stop starting uploads after this long.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, reason: str, max_time: str | None, as_json: bool) -> None:
    """Close, send everything, and verify.

    Devices get 503 with Retry-After and keep their images. What waits is sent within the budget.
    Exit code 0 only if nothing is left that is not in the bucket. headgate safe-on opens again.
    """
    try:
        seconds = None if max_time is None else parse_duration(max_time)
    except UnitError as error:
        fail(f"--max-time: {error}", Exit.USAGE)
    if not context.settings.goes_to:
        fail("no bucket is set; set bucket under [s3], or HEADGATE_S3_BUCKET", Exit.USAGE)
    with context.spool(probe=True) as spool:
        intake.safe_off(spool, context.actor, reason)
        if not as_json:
            context.say("closed: devices keep their images until headgate safe-on")
        await_uploads(spool)
        try:
            loud = not as_json and context.verbosity is not Verbosity.QUIET
            shown = loud and can_show(sys.stderr)
            order = RunRequest(until_empty=True, max_seconds=seconds, show_progress=shown)
            report = run(spool, order)
        except LockHeld as error:
            fail(f"{error}; headgate safe-off again goes on from here", Exit.LOCKED)
        left = _left(spool)
        with context.progress(as_json=as_json) as progress:
            wrong = [str(one) for one in verify.disagreements(spool, progress=progress)]
    if as_json:
        print_json({"outcome": report.outcome, "sent": report.images, "left": left,
                    "wrong": wrong})  # fmt: skip
    else:
        for state, count in left.items():
            if count:
                print_text(f"left here: {images_word(count)} {state.replace('_', ' ')}", err=True)
        for one in wrong:
            print_text(one, err=True)
        if not any(left.values()) and not wrong:
            context.say("safe: every image is in the bucket; this gateway may be switched off")
        elif report.message:
            print_text(report.message, err=True)
    if wrong:
        raise SystemExit(Exit.ERROR)
    if any(left.values()):
        raise SystemExit(Exit.STILL_WAITING)


def await_uploads(
    spool: Spool,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Let uploads that had begun come to their end, for a minute at most."""
    until = monotonic() + _IN_FLIGHT_SECONDS
    while any(spool.files.tmp.iterdir()) and monotonic() < until:
        sleep(_LOOK_SECONDS)


def _left(spool: Spool) -> dict[str, int]:
    """Images that are nowhere else, by state; an upload that still runs counts as one."""
    images = spool.inventory()
    return {
        "arriving": sum(1 for _ in spool.files.tmp.iterdir()),
        "waiting": images.waiting.images + images.sending.images,
        "held": images.held.images,
        "set_aside": images.set_aside.images,
    }
