"""The ``headgate`` command: global flags, and where each command is found.

Commands are imported when they are called, so that ``headgate drain`` with nothing to do does not
pay for the ones it does not run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import click

from spool.config import load, split_flags
from spool.errors import DiskTrouble, SpoolUnfit
from spool.settings import Settings, SettingsError
from spool.spool import Spool
from uploader.exits import Exit

COMMANDS: Mapping[str, str] = {
    "alert": "uploader.commands.alert",
    "config": "uploader.commands.config",
    "cron": "uploader.commands.cron",
    "dashboard": "uploader.commands.dashboard",
    "device": "uploader.commands.device",
    "drain": "uploader.commands.drain",
    "limit": "uploader.commands.limit",
    "list": "uploader.commands.list",
    "retry": "uploader.commands.retry",
    "s3-local": "uploader.commands.s3_local",
    "status": "uploader.commands.status",
    "verify": "uploader.commands.verify",
    "watch": "uploader.commands.watch",
}
"""Each module has one click command or group called ``command``."""


@dataclass
class Context:
    """What every command gets: the settings, read on first use."""

    config: str | None = None
    flags: tuple[str, ...] = ()  # section.key=value, each

    @cached_property
    def settings(self) -> Settings:
        try:
            return load(self.config, split_flags(self.flags))
        except SettingsError as error:
            for fault in error.faults:
                click.echo(f"headgate: {fault}", err=True)
            raise SystemExit(Exit.USAGE) from error

    @contextmanager
    def spool(self, *, probe: bool = False) -> Iterator[Spool]:
        """The spool that is there, open; what is wrong with it ends the command in a sentence."""
        try:
            with closing(Spool.open(self.settings, create=False, probe=probe)) as spool:
                yield spool
        except (SpoolUnfit, DiskTrouble) as error:
            fail(str(error))


def fail(message: str, code: Exit = Exit.ERROR) -> NoReturn:
    """End the command with one sentence that says what to do, and its exit code."""
    click.echo(f"headgate: {message}", err=True)
    raise SystemExit(code)


def print_json(value: Any) -> None:
    """One JSON document on stdout; instants and paths as text."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="The settings file (default: headgate.toml here).")
@click.option(
    "--set",
    "flags",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="One setting for this call only; may be given more than once.",
)
@click.option("--traceback", is_flag=True, help="Show where in the code an unexpected error arose.")
@click.version_option(package_name="headgate")
@click.pass_context
def headgate(
    ctx: click.Context, config: str | None, flags: tuple[str, ...], traceback: bool
) -> None:
    """Get a site's images safely into S3, through a gate that never opens too wide."""
    ctx.obj = Context(config, flags)


def main() -> None:
    """Entry point of the console script."""
    gc.disable()  # modules and S3's service model are no garbage; a long run turns it on again
    os.umask(0o007)  # two users share the spool through its group; nobody else reads it
    try:
        headgate.main(prog_name="headgate")
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(Exit.ERROR) from None
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        what = f"{type(error).__name__}: {error}"
        fail(f"unexpected: {what} (headgate --traceback ... shows where; please report it)")
