"""``headgate retry``: put images that were set aside back in the queue."""

from __future__ import annotations

from collections import Counter

import click

from headgate.host.exit_codes import Exit
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import State
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep.mover import Mover
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

_ALL = 1_000_000
_REASONS = 10


@click.command(
    epilog=ending(
        "headgate retry --all",
        "headgate retry 20261123T160405.123456Z_cam-07_0123456789abcdef",
        meaning={Exit.ERROR: "a named image does not exist, or another error"},
    )
)
@click.argument("images", nargs=-1, metavar="[ID]...", shell_complete=completions.images_aside)
@click.option("--all", "everything", is_flag=True, help="Retry every image that is set aside.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, images: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Send again images that were set aside or refused.

    If a run is active, it does this within a second or two.
    """
    if bool(images) == everything:
        fail("name the images (headgate list --state set_aside), or use --all", Exit.USAGE)
    with context.spool() as spool:
        if everything:
            aside = spool.catalog.in_state(State.SET_ASIDE, _ALL)
            images = tuple(item.id for item in aside)
        reasons = Counter(
            item.last_error or "no reason is known"
            for item in map(spool.catalog.get, images)
            if item is not None and item.state is State.SET_ASIDE
        )
        said = _retry(spool, images)
    if as_json:
        print_json(said)
    else:
        for image, what in said.items():
            if _is_trouble(what):
                print_text(f"{image}: {what}")
            else:
                context.say(f"{image}: {what}")
        if not said:
            context.say("nothing is set aside")
        _tell_reasons(context, reasons)
    if any(_is_trouble(what) for what in said.values()):
        raise SystemExit(Exit.ERROR)


def _tell_reasons(context: Context, reasons: Counter[str]) -> None:
    """How many had been set aside, and why: the commonest reasons first."""
    if not reasons:
        return
    context.say(f"{reasons.total()} had been set aside:")
    shown = reasons.most_common(_REASONS)
    for reason, count in shown:
        context.say(f"  {count}: {reason}")
    if left := reasons.total() - sum(count for _, count in shown):
        context.say(f"  {left}: for other reasons")


def _is_trouble(what: str) -> bool:
    return what.startswith("there is no")


def _retry(spool: Spool, images: tuple[str, ...]) -> dict[str, str]:
    said = {}
    try:
        with spool.hold_drain_lock("headgate retry", 0) as lock:
            mover = Mover(spool, lock)
            for image in images:
                put_back = mover.retry(image)
                said[image] = "the next run will send it" if put_back else _unknown(spool, image)
    except LockHeld:
        for image in images:
            if spool.catalog.get(image) is None:
                said[image] = _unknown(spool, image)
                continue
            spool.site.add_request(RETRY, image, spool.now())
            said[image] = "the active run will put it back"
    return said


def _unknown(spool: Spool, image: str) -> str:
    receipt = spool.receipt(image)
    if receipt is not None and receipt.safe_to_erase:
        return "it is already uploaded"
    if receipt is not None and receipt.state in (State.LOST, State.DISCARDED):
        return f"there is no file of it any more: {receipt.reason}"
    return "there is no such image"
