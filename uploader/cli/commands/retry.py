"""``headgate retry``: put images that were set aside back in the queue."""

from __future__ import annotations

from collections import Counter

import click

from headgate.actions.images import ALL, FAILED, retry
from headgate.host.exit_codes import Exit
from headgate.spool.image.image import State
from uploader.cli import completions
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

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
            aside = spool.catalog.in_state(State.SET_ASIDE, ALL)
            images = tuple(item.id for item in aside)
        reasons = Counter(
            item.last_error or "no reason is known"
            for item in map(spool.catalog.get, images)
            if item is not None and item.state is State.SET_ASIDE
        )
        answers = retry(spool, context.actor, images)
    if as_json:
        print_json({image: str(answer) for image, answer in answers.items()})
    else:
        for image, answer in answers.items():
            if answer.result in FAILED:
                print_text(f"{image}: {answer}")
            else:
                context.say(f"{image}: {answer}")
        if not answers:
            context.say("nothing is set aside")
        _tell_reasons(context, reasons)
    if any(answer.result in FAILED for answer in answers.values()):
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
