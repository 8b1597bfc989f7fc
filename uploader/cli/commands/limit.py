"""``headgate limit``: a different share of the link for a while."""

from __future__ import annotations

import logging
from datetime import timedelta

import click

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.settings.units import Percent, UnitError, human_size, parse_duration, parse_percent
from headgate.spool.budget.uplink import LIMIT, Limit
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
    logs.configure(level=context.level(logging.WARNING))
    if off and share:
        fail("use a share or --off, not both", Exit.USAGE)
    with context.spool() as spool:
        if off:
            spool.site.put(LIMIT, None)
            logs.get().info("limit.ended")
        elif share:
            _set(spool, *_checked(share, duration, reason))
        if as_json or context.verbosity is not Verbosity.QUIET or not (off or share):
            _show(spool, as_json)


def _checked(share: str, duration: str | None, reason: str | None) -> tuple[Percent, int, str]:
    if not duration:
        fail("a limit needs --for (how long)", Exit.USAGE)
    try:
        percent, seconds = parse_percent(share), parse_duration(duration)
    except UnitError as error:
        fail(str(error), Exit.USAGE)
    if not percent.hundredths:
        fail("0% would send nothing; to pause uploads, use headgate pause", Exit.USAGE)
    if not 0 < seconds <= 7 * 86400:
        fail(
            "--for is at most 7d; for longer, change uplink.share",
            Exit.USAGE,
        )
    return percent, seconds, reason or ""


def _set(spool: Spool, share: Percent, seconds: int, reason: str) -> None:
    before = spool.uplink.cap().limit
    if before is not None and before.is_pause:
        fail("uploads are paused; use headgate resume first")
    until = spool.now() + timedelta(seconds=seconds)
    spool.site.put(LIMIT, Limit(share, until, reason).encode())
    logs.get().info("limit.set", share=str(share), until=until.isoformat(), reason=reason)


def _show(spool: Spool, as_json: bool) -> None:
    uplink = spool.uplink
    cap, use = uplink.cap(), uplink.budget()
    change = uplink.next_change()
    then = uplink.rate_at(change) if change else None
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
        at = uplink.local(change)
        print_text(f"next change: {at:%a %Y-%m-%d %H:%M} local time, to {human_size(then)}/s")
    if use.day_allowance:
        print_text(
            f"today {human_size(use.day_used)} of {human_size(use.day_allowance)} have left "
            "(a local day of the wall clock)"
        )
