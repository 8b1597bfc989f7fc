"""``headgate limit``: a different share of the link for a while."""

from __future__ import annotations

import click

from headgate.actions import uplink
from headgate.host.exit_codes import Exit
from headgate.settings.units import human_size
from headgate.spool.spool import Spool
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.verbosity import Verbosity


@click.command(
    epilog=ending(
        "headgate limit  # what is in force, why, and what changes next",
        'headgate limit 60% --for 30min --reason "catch up"',
        "headgate limit --off",
    )
)
@click.argument("share", required=False)
@click.option("--for", "duration", metavar="30min", help="How long; then the settings apply again.")
@click.option("--reason", metavar="TEXT", help="Reason, shown while the limit lasts.")
@click.option("--off", is_flag=True, help="End the limit now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context,
    share: str | None,
    duration: str | None,
    reason: str | None,
    off: bool,
    as_json: bool,
) -> None:
    """Give images a different SHARE of the link for a while. Without SHARE, show the current limit.

    An active run follows at once.
    """
    if off and share:
        fail("use a share or --off, not both", Exit.USAGE)
    with context.spool() as spool:
        if off:
            uplink.end_limit(spool, context.actor)
        elif share:
            uplink.limit(spool, context.actor, share, duration or "", reason or "")
        if as_json or context.verbosity is not Verbosity.QUIET or not (off or share):
            _show(spool, as_json)


def _show(spool: Spool, as_json: bool) -> None:
    link = spool.uplink
    cap, use = link.cap(), link.budget()
    change = link.next_change()
    then = link.rate_at(change) if change else None
    if as_json:
        print_json(
            {
                "rate": cap.rate,
                "full_rate": cap.full_rate,
                "reason": cap.limit.reason if cap.limit else "",
                "until": cap.limit.until if cap.limit else None,
                "paused": cap.is_pause,
                "why": cap.why,
                "next_change": change,
                "next_rate": then,
                "images": cap.for_images,
                "rest": cap.for_the_rest,
                "day_used": use.day_used,
                "day_allowance": use.day_allowance,
            }
        )
        return
    if cap.limit is None:
        print_text(f"no limit is in force: {human_size(cap.rate)}/s ({cap.why})")
    elif cap.is_pause:
        print_text(f"uploads are paused {cap.limit.words}")
    else:
        print_text(
            f"{human_size(cap.rate)}/s instead of {human_size(cap.full_rate)}/s {cap.limit.words}"
        )
    print_text(
        f"of that, images have {human_size(cap.for_images)}/s and everything else "
        f"{human_size(cap.for_the_rest)}/s"
    )
    if change is not None and then is not None:
        at = link.local(change)
        print_text(f"next change: {at:%a %Y-%m-%d %H:%M} local time, to {human_size(then)}/s")
    if use.day_allowance:
        print_text(
            f"today {human_size(use.day_used)} of {human_size(use.day_allowance)} have left "
            "(a local day of the wall clock)"
        )
