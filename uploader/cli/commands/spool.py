"""``headgate spool``: which spool belongs at ``spool.path``."""

from __future__ import annotations

import click

from headgate.host.exit_codes import Exit
from headgate.spool import identity as known
from headgate.spool.errors import DiskError, SpoolUnsuitable
from headgate.spool.site.audit import Action
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail


@click.group(epilog=ending("headgate spool adopt"))
def command() -> None:
    """Choose which spool belongs at spool.path."""


@command.command(
    epilog=ending(
        "headgate spool adopt",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE),
        meaning={Exit.OK: "the spool at spool.path is accepted from now on"},
    )
)
@click.pass_obj
def adopt(context: Context) -> None:
    """Accept the spool that is at spool.path now.

    If there is none, the receiver creates a new one. Use this only if the previous spool is gone
    for good or was replaced on purpose: its images will no longer be sent. If its disk is just not
    mounted, mount it instead.
    """
    settings = context.settings
    before = known.remembered(settings)
    try:
        context.become_owner()
        known.forget(settings)
        if not (settings.spool.path / "state").exists():
            context.say(
                f"there is no spool at {settings.spool.path}; the receiver creates a new one "
                "when it "
                "starts"
            )
            return
    except (SpoolUnsuitable, DiskError) as error:
        fail(f"{error}; run it as root, or as the user that owns the spool")
    with context.spool() as spool:  # which remembers it
        identity = known.identity_of(settings.spool.path)
        spool.site.audit.record(context.actor, Action.SPOOL_ADOPT, spool.now(), identity)
    was = f", in place of {before[0].name}" if before and before[0].identity != identity else ""
    context.say(f"{settings.spool.path} is accepted as the spool {identity[:8]}{was}")
