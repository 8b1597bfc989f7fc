"""The manual pages, headgate(1) and headgate-receiver(1), out of the commands themselves.

Written with the macros of man(7), which every man(1) knows. Names, flags, sentences, examples and
exit codes are those that ``--help`` shows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version

import click

from app.server.server import receiver
from headgate.settings.settings import SETTINGS
from uploader.cli.main import headgate

NAMES = ("headgate", "headgate-receiver")
FOLDER = "deploy/man"
_TH = re.compile(r'^\.TH "[^"]*" "1" "([^"]*)"', re.MULTILINE)

_FILES = (
    ("headgate.toml", "The settings, in the working folder or named by --config."),
    ("/etc/headgate/headgate.toml", "The settings, if there are none in the working folder."),
    ("spool.path", "The folder set by this setting holds every image and its metadata."),
)
_ENVIRONMENT = (
    ("HEADGATE_CONFIG", "The settings file."),
    (
        "HEADGATE_<SECTION>_<KEY>",
        "One setting, such as HEADGATE_UPLINK_SHARE; it overrides the file. "
        f"For a secret ({', '.join(s.name for s in SETTINGS if s.secret)}) a variable "
        "whose name ends in _FILE names a file that contains it.",
    ),
)
_COLOUR = (
    ("NO_COLOR, TERM=dumb", "Do not use colour, even on a terminal."),
    (
        "AWS_..., HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "Used as in boto3: credentials, region, and proxies to the bucket.",
    ),
)


def page(name: str, before: str, today: str) -> str:
    """Make a whole manual page. It keeps the date of ``before``, the page as it was, where nothing
    else changed."""
    command = {"headgate": headgate, "headgate-receiver": receiver}[name]
    body = "\n".join(_page(name, command)) + "\n"
    found = _TH.search(before)
    if found is not None and before.partition("\n")[2] == body:
        today = found[1]
    return f'.TH "{name.upper()}" "1" "{today}" "headgate {version("headgate")}"\n{body}'


def _page(name: str, command: click.Command) -> Iterator[str]:
    yield from (".SH NAME", f"{_text(name)} \\- {_text(_what_for(command))}")
    yield ".SH SYNOPSIS"
    context = click.Context(command, info_name=name, **command.context_settings)
    yield f"\\fB{_text(name)}\\fR {_text(' '.join(command.collect_usage_pieces(context)))}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(command)
    yield ".SH OPTIONS"
    yield from _options(command, context)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        yield from _commands(command, context)
    yield from _ending(command, ".SH")
    yield ".SH ENVIRONMENT"
    yield from _terms((*_ENVIRONMENT, *(_COLOUR if name == "headgate" else ())))
    yield ".SH FILES"
    yield from _terms(_FILES)
    yield ".SH SEE ALSO"
    others = [other for other in NAMES if other != name]
    yield ", ".join(f"\\fB{_text(other)}\\fR(1)" for other in others) + ", \\fBcrontab\\fR(5)"
    yield ".PP"
    yield _text("docs/SETTINGS.md, docs/OPERATING.md and docs/PROTOCOL.md in the source.")


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, parent=context, info_name=word)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f'.SS "{_text(inner.command_path)} {_text(usage)}"'
        yield from _paragraphs(command)
        yield from _options(command, inner)
        yield from _ending(command, ".PP")


def _what_for(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")
    return first[:1].lower() + first[1:].rstrip(".")


def _paragraphs(command: click.Command) -> Iterator[str]:
    for number, part in enumerate(inspect.cleandoc(command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(part.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    own = command.params if context.parent else command.get_params(context)  # --help: once
    for param in own:
        record = param.get_help_record(context)
        if record is not None and record[1]:
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]))


def _ending(command: click.Command, head: str) -> Iterator[str]:
    """Examples as they are, and exit codes as a list."""
    parts = inspect.cleandoc(command.epilog or "").split("\n\n")
    for part in parts:
        title, *lines = [line for line in part.split("\n") if line != "\b"]
        named = title.rstrip(":")
        if head == ".SH":
            yield f".SH {'EXIT STATUS' if named == 'Exit codes' else named.upper()}"
        else:
            yield from (".PP", _text(title))
        if named == "Exit codes":
            yield ".PD 0"  # no lines between them
            for line in lines:
                code, _, meaning = line.strip().partition(" ")
                yield from (".TP", f"\\fB{code}\\fR", _text(meaning.strip()))
            yield ".PD"
        else:
            yield from (*([".PP"] if head == ".PP" else []), ".nf", ".RS 4")
            yield from (_text(line.strip()) for line in lines)
            yield from (".RE", ".fi")


def _terms(terms: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in terms:
        yield from (".TP", f"\\fB{_text(term)}\\fR", _text(text))


def _text(text: str) -> str:
    """Text as roff takes it: no backslash, and no line that looks like a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{text}" if text[:1] in (".", "'") else text
