"""``headgate cron``: the lines that start the runs and the watch, shown, installed, removed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from headgate.host.exit_codes import Exit
from headgate.settings.units import format_duration
from headgate.spool.site.audit import Action
from uploader.cli.cron import crontabs as cron
from uploader.cli.cron import entry as crontab_line
from uploader.cli.cron import systemd_timer
from uploader.cli.cron.entry import CronEntry, CronError
from uploader.cli.cron.trial import Trial, bare_environment, reach
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text

COMMENT = (
    "# One run of Headgate's uploader every interval (uplink.interval); "
    "`headgate cron install` adds both lines to a crontab."
)
FLOOR_COMMENT = (
    "# Fallback runs (queue.floor): messages of the queue start the runs, and this line starts one "
    "without them; `headgate cron install` puts both lines into a tab."
)
WATCH_COMMENT = "# And a check every minute, which sends alerts."


@click.group(epilog=ending("headgate cron install", "headgate cron remove"))
def command() -> None:
    """Let cron start the runs: show, install or remove its lines.

    One line starts a run every interval (uplink.interval); the other checks for alerts every
    minute.
    """


def _where(function: Any) -> Any:
    """The options that choose a tab."""
    function = click.option(
        "--user",
        metavar="NAME",
        help="Whose crontab (root only), or the user in the line of --file.",
    )(function)
    return click.option(
        "--file",
        "path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="A file with a user column, as in /etc/cron.d, instead of a user's crontab.",
    )(function)


def _tab(path: Path | None, user: str | None) -> cron.Tab:
    return cron.FileTab(path.absolute()) if path is not None else cron.UserTab(user)


def _default(
    context: Context, path: Path | None, user: str | None
) -> tuple[Path | None, str | None]:
    """Which crontab and user count where none is named: of an installed gateway, root means its
    own file in /etc/cron.d, and the uploader's user."""
    if path is not None or user is not None:
        return path, user
    return cron.installed_tab(context.settings) or (None, None)


def _lines(context: Context, path: Path | None, user: str | None) -> tuple[CronEntry, CronEntry]:
    if path is not None and user is None:
        raise CronError("a file in /etc/cron.d needs a user in each line: add --user NAME")
    return cron.lines_for(context.settings, user=user if path is not None else None)


@command.command(
    epilog=ending(
        "headgate cron show",
        "headgate cron show --user headgate  # as a file in /etc/cron.d has it",
    )
)
@click.option(
    "--command", "headgate", metavar="PATH", help="Use this path of the headgate command."
)
@click.option("--settings", "config", metavar="PATH", help="Use this settings file.")
@click.option("--user", metavar="NAME", help="Add a user column, as in /etc/cron.d.")
@click.option("--json", "as_document", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(
    context: Context, headgate: str | None, config: str | None, user: str | None, as_document: bool
) -> None:
    """Print the lines, and change nothing."""
    try:
        if headgate is not None and config is not None:
            seconds, setting = cron.rhythm(context.settings)
            line = CronEntry(seconds, headgate, config, user, setting=setting)
        else:
            own = cron.line_for(context.settings, user=user)
            line = replace(own, headgate=headgate or own.headgate, config=config or own.config)
        made = crontab_line.make(line)
        watch = crontab_line.make(replace(line, interval_seconds=cron.WATCH_SECONDS, task="watch"))
    except CronError as error:
        fail(str(error))
    if as_document:
        print_json({"line": made, "interval_seconds": line.interval_seconds, "watch_line": watch})
    else:
        comment = FLOOR_COMMENT if line.setting == "queue.floor" else COMMENT
        print_text(f"{comment}\n{made}\n{WATCH_COMMENT}\n{watch}")


@command.command(
    epilog=ending(
        "headgate cron install",
        "headgate cron install --dry-run",
        "headgate cron install --file /etc/cron.d/headgate --user headgate",
        meaning={Exit.ERROR: "the line would not work in cron; nothing was changed"},
    )
)
@_where
@click.option("--dry-run", is_flag=True, help="Check everything, and install nothing.")
@click.option("--json", "as_document", is_flag=True, help="Print JSON.")
@click.pass_obj
def install(
    context: Context, path: Path | None, user: str | None, dry_run: bool, as_document: bool
) -> None:
    """Test the run's line, then install both.

    The test uses cron's own bare environment, and a line that would not work is not installed.
    Every other line of the tab stays as it is, to the byte.
    """
    try:
        if systemd_timer.enabled():
            raise CronError(systemd_timer.IN_CHARGE)
        path, user = _default(context, path, user)
        line, watch = _lines(context, path, user)
        made, watched = crontab_line.make(line), crontab_line.make(watch)
        tab = _tab(path, user)
        before = tab.read()
        account = cron.account(user)
        environment = bare_environment(account, crontab_line.variables(before))
        run = crontab_line.command(line)
        Trial(run, line.headgate, line.config, account, environment).check(context.settings)
        after = crontab_line.put(crontab_line.put(before, made), watched)
        if after != before and not dry_run:
            tab.write(after)
            context.record(context.settings, Action.CRON_INSTALL, tab.name)
    except CronError as error:
        fail(str(error))
    replaced = [old for old in crontab_line.find(before) if old not in (made, watched)]
    if as_document:
        changed = after != before
        print_json(
            {
                "tab": tab.name,
                "line": made,
                "watch_line": watched,
                "changed": changed and not dry_run,
                "would_change": changed,
                "replaced": replaced,
            }
        )
        return
    if after == before:
        context.say(f"{tab.name} already has these lines:\n{made}\n{watched}")
        return
    for old in replaced:
        context.say(f"replaces:\n{old}")
    context.say(f"{'would be added to' if dry_run else 'added to'} {tab.name}:\n{made}\n{watched}")
    if line.setting == "queue.floor":
        context.say(
            f"the queue starts the runs (uplink.trigger); this one, every "
            f"{format_duration(line.interval_seconds)}, runs even if the queue sends nothing"
        )
    if not cron.is_running():
        context.say("note: no cron is running on this machine (service cron start)", err=True)


@command.command(
    epilog=ending("headgate cron remove", "headgate cron remove --file /etc/cron.d/headgate")
)
@_where
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@click.option("--json", "as_document", is_flag=True, help="Print JSON.")
@click.pass_obj
def remove(
    context: Context, path: Path | None, user: str | None, dry_run: bool, as_document: bool
) -> None:
    """Remove the lines from a crontab.

    Every other line stays as it is, to the byte.
    """
    try:
        path, user = _default(context, path, user)
        tab = _tab(path, user)
        before = tab.read()
        removed = crontab_line.find(before)
        if removed and not dry_run:
            tab.write(crontab_line.take_out(before))
            context.record(context.settings, Action.CRON_REMOVE, tab.name)
    except CronError as error:
        fail(str(error))
    if as_document:
        print_json({"tab": tab.name, "removed": [] if dry_run else removed, "found": removed})
    elif not removed:
        context.say(f"{tab.name} has no line of Headgate")
    else:
        context.say(f"{'would be removed' if dry_run else 'removed'} from {tab.name}:")
        context.say("\n".join(removed))


@command.command("reach", hidden=True)
@click.pass_obj
def show_reach(context: Context) -> None:
    """What boto3 finds in this environment; install asks it in cron's."""
    try:
        print_json(asdict(reach(context.settings)))
    except CronError as error:
        fail(str(error))
