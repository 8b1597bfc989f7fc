"""How much a command says: -q and -v, before the command or after it.

Quiet: only errors, and what was asked for. Verbose: also the log down to
its details, on stderr (or in the log of a run started by cron).
"""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import Any

import click


class Verbosity(IntEnum):
    """How much is said."""

    QUIET = -1
    NORMAL = 0
    VERBOSE = 1

    def level(self, usual: int) -> int:
        """The least level that is logged, where a command usually logs from ``usual`` on."""
        return {Verbosity.QUIET: logging.ERROR, Verbosity.VERBOSE: logging.DEBUG}.get(self, usual)


def chosen(before: Verbosity, quiet: bool, verbose: bool) -> Verbosity:
    """What the flags ask for, where they do; UsageError if they contradict each other."""
    wanted = {before} if before else set()
    wanted |= {Verbosity.QUIET} if quiet else set()
    wanted |= {Verbosity.VERBOSE} if verbose else set()
    if len(wanted) > 1:
        raise click.UsageError("use --quiet or --verbose, not both")
    return wanted.pop() if wanted else Verbosity.NORMAL


def options(function: Any) -> Any:
    """The two flags of the group."""
    function = click.option("-v", "--verbose", is_flag=True, help="Log details to stderr.")(
        function
    )
    return click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")(
        function
    )


def also_after(command: click.Command) -> click.Command:
    """Let a command, and those below it, take the flags as well; help does not show them again."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            also_after(inner)
    elif not any("--quiet" in param.opts for param in command.params):
        command.params += [_flag("-q", "--quiet"), _flag("-v", "--verbose")]
    return command


def _flag(short: str, long: str) -> click.Option:
    def take(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and ctx.obj is not None:
            ctx.obj.speak(chosen(ctx.obj.verbosity, long == "--quiet", long == "--verbose"))

    return click.Option(
        [short, long], is_flag=True, expose_value=False, is_eager=True, hidden=True, callback=take
    )
