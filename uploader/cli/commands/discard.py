"""``headgate discard``: give up images that are set aside or lost; their records stay."""

from __future__ import annotations

import os

import click

from headgate.host.exit_codes import Exit
from headgate.host.users import user_name
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import State
from headgate.spool.site.gone import Stage
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

_REASON_MAX = 500


@click.command(
    epilog=ending(
        'headgate discard 20261123T160405.123456Z_cam-07_0123456789abcdef --reason "a test"',
        meaning={Exit.ERROR: "a named image could not be discarded"},
    )
)
@click.argument("images", nargs=-1, required=True, metavar="ID...",
                shell_complete=completions.images_aside)  # fmt: skip
@click.option("--reason", required=True, help="Reason, recorded with the user and the time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, images: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Give up images that are set aside or lost.

    Their files are deleted and their records stay: headgate list --state discarded shows who did
    it, when and why. Images that wait to be sent cannot be discarded. If a run is active, it does
    the work.
    """
    reason = " ".join(reason.split())[:_REASON_MAX]
    if not reason:
        fail('give a reason: --reason "a test picture"', Exit.USAGE)
    who = _who()
    with context.spool() as spool:
        said = {image: _ask(spool, image, who, reason) for image in images}
        troubled = [image for image, what in said.items() if what]
        said = {image: what or _carry_out(spool, image) for image, what in said.items()}
    if as_json:
        print_json(said)
    else:
        for image, what in said.items():
            if image in troubled:
                print_text(f"{image}: {what}")
            else:
                context.say(f"{image}: {what}")
    if troubled:
        raise SystemExit(Exit.ERROR)


def _who() -> str:
    """The user who decided: the one behind sudo, if any."""
    if named := os.environ.get("SUDO_USER", ""):
        return named[:64]
    return user_name(os.getuid()) or f"uid {os.getuid()}"


def _ask(spool: Spool, image: str, who: str, reason: str) -> str:
    """Put it into the books; a sentence if it cannot be discarded."""
    item, line = spool.catalog.get(image), spool.site.gone.get(image)
    if line is not None and line.stage is Stage.DISCARDED:
        return line.said
    if line is not None and line.stage is Stage.LOST:
        spool.site.gone.discarded(image, spool.now(), who, reason)
        return ""
    if item is None:
        receipt = spool.receipt(image)
        if receipt is not None and receipt.safe_to_erase:
            return "it is uploaded; its local copy is deleted automatically"
        return "there is no such image"
    if item.state is not State.SET_ASIDE and spool.files.places(item.name):
        return "it is waiting to be sent; only images that are set aside or lost can be discarded"
    if item.state is not State.SET_ASIDE:
        return "its file is missing; headgate verify --repair records it as lost, then discard it"
    spool.site.gone.ask(item, spool.now(), who, reason)
    return ""


def _carry_out(spool: Spool, image: str) -> str:
    try:
        with spool.hold_drain_lock("headgate discard", 0) as lock:
            Mover(spool, lock).discard()
    except LockHeld:
        line = spool.site.gone.get(image)
        if line is not None and line.stage is Stage.ASKED:
            return "the active run will discard it"
    return "discarded"
