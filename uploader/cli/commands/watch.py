"""``headgate watch``: the older name of ``headgate check --notify``, which crontabs call."""

from __future__ import annotations

import click

from headgate.host.exit_codes import Exit
from uploader.cli.commands.check import EXITS, MEANING, check
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context


@click.command(
    epilog=ending(
        "headgate watch",
        "headgate watch --dry-run  # check, and send nothing",
        exits=EXITS,
        meaning={**MEANING, Exit.OK: "nothing is wrong; with --cron: the check worked"},
    )
)
@click.option("--cron", is_flag=True, help="Print nothing: alerts go to the channels.")
@click.option("--dry-run", is_flag=True, help="Check and record alerts, but send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, cron: bool, dry_run: bool, as_json: bool) -> None:
    """Check for alerts and send them.

    The older name of headgate check --notify. With --cron it prints nothing, and also starts
    requested drains (POST /jobs/drain) that no worker has taken.
    """
    raise SystemExit(check(context, notify=not dry_run, cron=cron, as_json=as_json))
