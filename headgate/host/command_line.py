"""What every program's command line has in common: where its settings come from, and how it says
what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from headgate.host import terminal
from headgate.host.exit_codes import Exit
from headgate.settings.load import load, split_flags
from headgate.settings.settings import Settings, SettingsError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def options(one_use: str, **of_set: Any) -> Callable[[_Command], _Command]:
    """The flags ``--config`` and ``--set`` (``config``, ``flags``) of a click command. ``one_use``:
    what ``--set`` holds for, as "this call"; the rest goes to that option."""

    def add(command: _Command) -> _Command:
        add_set = click.option(
            "--set",
            "flags",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help=f"Override one setting for {one_use}; may be repeated.",
            **of_set,
        )
        add_config = click.option(
            "--config",
            metavar="FILE",
            type=click.Path(),
            help="The settings file (default: headgate.toml here, then in /etc/headgate).",
        )
        return add_config(add_set(command))

    return add


def settings_of(program: str, config: str | None, flags: Sequence[str]) -> Settings:
    """The settings that these flags lead to; where they are wrong, a sentence for each fault, and
    SystemExit."""
    try:
        return load(config, split_flags(flags))
    except SettingsError as error:
        for fault in error.faults:
            complain(program, fault)
        raise SystemExit(Exit.USAGE) from error


def complain(program: str, sentence: str) -> None:
    """Say on stderr what is wrong. Control characters are escaped: others may have chosen them."""
    click.echo(terminal.escaped(f"{program}: {sentence}"), err=True)
