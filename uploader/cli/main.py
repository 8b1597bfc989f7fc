"""The ``headgate`` command: global flags, and where each command is found.

Commands are imported when they are called, so that ``headgate drain`` with nothing to do does not
pay for the imports of other commands.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import click

from headgate.actions.errors import ActionRefused
from headgate.host import command_line, job_control, logs, progress, terminal
from headgate.host.exit_codes import MEANING, Exit
from headgate.host.progress import Progress
from headgate.host.users import not_permitted, person
from headgate.settings.instants import rfc3339
from headgate.settings.load import load, split_flags
from headgate.settings.logins import without_login
from headgate.settings.settings import Settings, SettingsError
from headgate.settings.suggest import did_you_mean
from headgate.settings.units import Percent
from headgate.spool.errors import DiskError, SpoolElsewhere, SpoolUnsuitable
from headgate.spool.owner import become_owner, opened
from headgate.spool.site.audit import TERMINAL, Action, Actor
from headgate.spool.site.users import UserTrouble
from headgate.spool.spool import Spool
from uploader.cli import completions, verbosity
from uploader.cli.help_epilog import ending
from uploader.cli.problems import problem
from uploader.cli.verbosity import Verbosity

COMMANDS: Mapping[str, str] = {
    "alert": "uploader.cli.commands.alert",
    "audit": "uploader.cli.commands.audit",
    "check": "uploader.cli.commands.check",
    "completion": "uploader.cli.commands.completion",
    "config": "uploader.cli.commands.config",
    "cron": "uploader.cli.commands.cron",
    "dashboard": "uploader.cli.commands.dashboard",
    "device": "uploader.cli.commands.device",
    "doctor": "uploader.cli.commands.doctor",
    "drain": "uploader.cli.commands.drain",
    "fleet": "uploader.cli.commands.fleet",
    "find": "uploader.cli.commands.find",
    "get": "uploader.cli.commands.get",
    "hold": "uploader.cli.commands.hold",
    "install": "uploader.cli.commands.install",
    "import": "uploader.cli.commands.import_files",
    "intake": "uploader.cli.commands.intake",
    "limit": "uploader.cli.commands.limit",
    "list": "uploader.cli.commands.list",
    "pause": "uploader.cli.commands.pause",
    "plan": "uploader.cli.commands.plan",
    "purge": "uploader.cli.commands.purge",
    "release": "uploader.cli.commands.release",
    "reupload": "uploader.cli.commands.reupload",
    "resume": "uploader.cli.commands.resume",
    "retry": "uploader.cli.commands.retry",
    "discard": "uploader.cli.commands.discard",
    "runs": "uploader.cli.commands.runs",
    "safe-off": "uploader.cli.commands.safe_off",
    "safe-on": "uploader.cli.commands.safe_on",
    "spool": "uploader.cli.commands.spool",
    "status": "uploader.cli.commands.status",
    "token": "uploader.cli.commands.token",
    "uninstall": "uploader.cli.commands.uninstall",
    "user": "uploader.cli.commands.user",
    "verify": "uploader.cli.commands.verify",
    "watch": "uploader.cli.commands.watch",
    "why": "uploader.cli.commands.why",
    "worker": "uploader.cli.commands.worker",
}
"""Each module has one click command or group called ``command``."""


class Styled(str):
    """Text that is already escaped and has our colour codes around it."""


def styled(text: str, *, fg: str | None = None, bold: bool | None = None) -> Styled:
    """Text in a colour, for ``print_text``."""
    return Styled(click.style(terminal.escaped(text), fg=fg, bold=bold))


def print_text(*parts: str, err: bool = False, nl: bool = True) -> None:
    """Print text with control characters escaped. All output goes through here, because devices
    and servers chose some of it. Colours are made with ``styled``."""
    whole = (part if isinstance(part, Styled) else terminal.escaped(part) for part in parts)
    with progress.above():
        click.echo("".join(whole), err=err, nl=nl)


@dataclass
class Context:
    """What every command gets: the settings, read on first use, and the verbosity."""

    config: str | None = None
    flags: tuple[str, ...] = ()  # section.key=value, each
    verbosity: Verbosity = Verbosity.NORMAL
    user: int = field(default_factory=os.getuid)  # before root becomes the spool's owner

    @property
    def actor(self) -> Actor:
        """Who types this command, for the audit log."""
        return Actor(person(self.user, os.environ), TERMINAL)

    def speak(self, verbosity: Verbosity) -> None:
        """Set the verbosity from now on, and log to stderr."""
        self.verbosity = verbosity
        logs.configure(level=self.level(logging.WARNING), late=True)

    def level(self, usual: int) -> int:
        """The lowest level to log, for a command that usually logs from ``usual`` on."""
        return self.verbosity.level(usual)

    def say(self, text: str, *, err: bool = False) -> None:
        """Print what was done, unless -q is given; results that were asked for use print_text."""
        if self.verbosity is not Verbosity.QUIET:
            print_text(text, err=err)

    @contextmanager
    def progress(self, *, as_json: bool) -> Iterator[Progress]:
        """Show how far a task is, on a terminal; not with -q, and not with JSON."""
        hidden = as_json or self.verbosity is Verbosity.QUIET
        with progress.shown(hidden=hidden) as shown:
            yield shown

    @cached_property
    def settings(self) -> Settings:
        if _wants_json():
            try:
                settings = load(self.config, split_flags(self.flags))
            except SettingsError as error:
                said = " ".join(str(fault) for fault in error.faults)
                _print_problem(problem(said, Exit.USAGE, [*map(str, error.faults)]))
                raise SystemExit(Exit.USAGE) from error
        else:
            settings = command_line.settings_of("headgate", self.config, self.flags)
        logs.get().debug("settings.read", file=str(settings.file or "none"))
        return settings

    def become_owner(self) -> None:
        """Switch from root to the spool's owner before anything else is touched as root (a log
        file, a repair); ``spool`` does so anyway. An error ends the command."""
        try:
            become_owner(self.settings.spool.path)
        except SpoolUnsuitable as error:
            fail(str(error))

    @contextmanager
    def spool(self, *, probe: bool = False, tells: bool = False) -> Iterator[Spool]:
        """Open the existing spool as its owner; an error ends the command with a message.
        ``tells``: the channels of alerts report that it is missing, or back."""
        try:
            with opened(self.settings, probe=probe) as spool:
                if tells:
                    self._report_spool("")
                yield spool
        except SpoolElsewhere as error:
            if tells:
                self._report_spool(str(error))
            fail(str(error))
        except (SpoolUnsuitable, DiskError) as error:
            fail(str(error))
        except UserTrouble as error:
            fail(str(error), missing=error.missing)
        except ActionRefused as refused:
            code = Exit.USAGE if refused.invalid else Exit.ERROR
            fail(str(refused), code, missing=refused.missing)

    def record(self, settings: Settings, action: Action, subject: str = "") -> None:
        """Add a line to the audit log, of a change that is not in the spool; the last thing that
        the command does, because root becomes the spool's owner for it. Without a spool that can be
        opened there is no such log."""
        by = self.actor
        with suppress(SpoolUnsuitable, DiskError), opened(settings) as spool:
            spool.site.audit.record(by, action, spool.now(), subject)

    def _report_spool(self, missing: str) -> None:
        from uploader.alerts import missing_spool  # most commands do not pay for it

        def now() -> datetime:
            return datetime.now(UTC)

        if missing:
            missing_spool.report(self.settings, missing, now)
        else:
            missing_spool.clear(self.settings, now)


class OneOf(click.Choice[str]):
    """A parameter that takes one of these words; for a word that is none of them the error asks
    "did you mean ..."."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        said = super().get_invalid_choice_message(value, ctx)
        return said + did_you_mean(str(value), self.choices)


def fail(message: str, code: Exit = Exit.ERROR, *, missing: bool = False) -> NoReturn:
    """End the command with one sentence that says what to do, and its exit code; with --json with
    the sentence in an object, on stderr as well. ``missing``: nothing has the name that the caller
    gave, which HTTP answers with 404."""
    if _wants_json():
        _print_problem(problem(message, code, missing=missing))
    else:
        print_text(f"headgate: {message}", err=True)
    raise SystemExit(code)


def fail_unknown(spool: Spool, kind: str, name: str) -> NoReturn:
    """End the command because nothing of this kind has the name; the sentence asks "did you mean"
    about the devices that are known."""
    known = [one.device for one in spool.catalog.arrivals()]
    fail(f"there is no {kind} {name}.{did_you_mean(name, known)}", missing=True)


def _wants_json() -> bool:
    """Whether the command that runs was called with --json."""
    context = click.get_current_context(silent=True)
    return context is not None and any(
        "--json" in param.opts and context.params.get(param.name or "")
        for param in context.command.params
    )


def _print_problem(members: dict[str, object]) -> None:
    print_text(json.dumps(members, indent=2, ensure_ascii=False), err=True)


def confirm(question: str, otherwise: str) -> None:
    """Go on only if the person at the terminal says yes; where no one can be asked the command
    ends, with ``otherwise``."""
    if not sys.stdin.isatty():
        fail(otherwise, Exit.USAGE)
    click.confirm(question, abort=True, err=True)


def print_json(value: Any) -> None:
    """Print one JSON document; instants, paths and shares as text, records as objects.

    TypeError for anything else: the text that Python prints of an object is no interface.
    """
    print_text(json.dumps(value, indent=2, default=_encode, ensure_ascii=False))


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Path | Percent):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


class _Lazy(click.Group):
    def main(self, *args: Any, **extra: Any) -> Any:
        """As click's, but that with --json what is wrong with the flags is said in an object."""
        words = extra.get("args", args[0] if args else None)
        if "--json" not in (sys.argv[1:] if words is None else words):
            return super().main(*args, **extra)
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            known = error.exit_code in tuple(Exit)
            code = Exit(error.exit_code) if known else Exit.ERROR
            _print_problem(problem(error.format_message(), code))
        except click.Abort:
            code = Exit.ERROR
            _print_problem(problem("Aborted.", code))
        sys.exit(code if isinstance(code, int) else Exit.OK)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        if not gc.isenabled() and cmd_name != "drain":  # a run first loads S3's service model
            gc.freeze()
            gc.enable()
        return verbosity.also_after(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            meant = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"there is no command {args[0]}.{meant}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=ending(
        "headgate status",
        "headgate drain --until-empty  # by hand, within the budget",
        "headgate cron install  # let cron start the runs",
        "headgate --config /etc/headgate/headgate.toml config check",
        exits=tuple(MEANING),
    ),
)
@command_line.options("this call", shell_complete=completions.settings)
@verbosity.options
@click.option(
    "--traceback", is_flag=True, help="Print the Python traceback of an unexpected error."
)
@click.version_option(package_name="headgate")
@click.pass_context
def headgate(
    ctx: click.Context,
    config: str | None,
    flags: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    traceback: bool,
) -> None:
    """Receive a site's images and upload them to S3 within a bandwidth limit.

    -q and -v may also follow the command.
    """
    if not terminal.may_colour(os.environ):
        ctx.color = False
    ctx.obj = Context(config, flags)
    ctx.obj.speak(verbosity.chosen(Verbosity.NORMAL, quiet, verbose))


def main() -> None:
    """Entry point of the console script."""
    gc.disable()  # what is loaded is not garbage; saves 5 % of a run that finds nothing to do
    os.umask(0o007)  # two users share the spool through its group; others cannot read it
    job_control.stop_between_transactions()
    try:
        headgate.main(prog_name="headgate")
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(Exit.ERROR) from None
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        if isinstance(error, PermissionError) and (advice := not_permitted(error)):
            fail(advice)
        what = without_login(f"{type(error).__name__}: {error}")
        fail(f"unexpected: {what} (headgate --traceback ... shows the traceback; please report it)")
