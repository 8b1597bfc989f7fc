"""``headgate spool``: which spool belongs at ``spool.path``."""

from __future__ import annotations

import click

from headgate.host.exit_codes import Exit
from headgate.spool import identity as known
from headgate.spool.errors import DiskError, SpoolUnsuitable
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail


@click.group(epilog=ending("headgate spool adopt"))
def command() -> None:
    """Say which spool belongs at spool.path."""


@command.command(
    epilog=ending(
        "headgate spool adopt",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE),
        meaning={Exit.OK: "the spool that is there is the one from now on"},
    )
)
@click.pass_obj
def adopt(context: Context) -> None:
    """Accept the spool that is there.

    It is the right one from now on; where none is, the receiver makes a new one. Only for a spool
    that is gone for good, or replaced on purpose: what the one before holds is neither received
    nor sent any more. Where its disk is just not mounted, mount it instead.
    """
    settings = context.settings
    before = known.remembered(settings)
    try:
        context.become_owner()
        known.forget(settings)
        if not (settings.spool.path / "state").exists():
            context.say(
                f"there is no spool at {settings.spool.path}; the receiver makes a new one when it "
                "starts"
            )
            return
    except (SpoolUnsuitable, DiskError) as error:
        fail(f"{error}; run it as root, or as the user that owns the spool")
    with context.spool():  # which remembers it
        identity = known.identity_of(settings.spool.path)
    was = f", in place of {before[0].name}" if before and before[0].identity != identity else ""
    context.say(f"{settings.spool.path} is the spool {identity[:8]} from now on{was}")
