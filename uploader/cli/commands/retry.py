"""``headgate retry``: put images that were set aside back in the queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

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


class Result(StrEnum):
    """What became of one image; the value is its sentence."""

    PUT_BACK = "the next run sends it"
    ASKED = "a run is at work and puts it back"
    UPLOADED = "it is uploaded already"
    GONE = "there is no file of it any more"
    UNKNOWN = "there is no such image here"


_FAILED = (Result.GONE, Result.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result for one image, and why."""

    result: Result
    reason: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.result.value, self.reason) if part)


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
        answers = _retry(spool, images)
    if as_json:
        print_json({image: str(answer) for image, answer in answers.items()})
    else:
        for image, answer in answers.items():
            if answer.result in _FAILED:
                print_text(f"{image}: {answer}")
            else:
                context.say(f"{image}: {answer}")
        if not answers:
            context.say("nothing is set aside")
        _tell_reasons(context, reasons)
    if any(answer.result in _FAILED for answer in answers.values()):
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


def _retry(spool: Spool, images: tuple[str, ...]) -> dict[str, Answer]:
    answers = {}
    try:
        with spool.hold_drain_lock("headgate retry", 0) as lock:
            mover = Mover(spool, lock)
            for image in images:
                put_back = mover.retry(image)
                answers[image] = Answer(Result.PUT_BACK) if put_back else _absent(spool, image)
    except LockHeld:
        for image in images:
            if spool.catalog.get(image) is None:
                answers[image] = _absent(spool, image)
                continue
            spool.site.add_request(RETRY, image, spool.now())
            answers[image] = Answer(Result.ASKED)
    return answers


def _absent(spool: Spool, image: str) -> Answer:
    receipt = spool.receipt(image)
    if receipt is not None and receipt.safe_to_erase:
        return Answer(Result.UPLOADED)
    if receipt is not None and receipt.state in (State.LOST, State.DISCARDED):
        return Answer(Result.GONE, receipt.reason)
    return Answer(Result.UNKNOWN)
