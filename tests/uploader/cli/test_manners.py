"""How the command behaves towards people: help that ends in examples, -q and -v, colour."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from app.server import server
from headgate.host import terminal
from headgate.host.exit_codes import Exit
from headgate.settings.units import Percent
from headgate.spool.image.image import Count
from headgate.spool.upkeep.mover import Mover
from tests.support.paths import ROOT
from tests.support.s3_server import Place
from tests.support.screen import on_terminal
from tests.support.spooling import open_spool, put
from uploader.cli.main import COMMANDS, headgate, print_json, print_text, styled


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name, groups as well."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            if inner is not None and not inner.hidden:
                yield from walk(inner, f"{name} {word}")


ALL = dict(walk(headgate, "headgate"))
ALL["headgate-receiver"] = server.receiver


def help_of(name: str) -> str:
    # Its own settings as well: click keeps the help option of the first context that it sees.
    settings = ALL[name].context_settings
    context = click.Context(ALL[name], info_name=name, max_content_width=80, **settings)
    return ALL[name].get_help(context)


def examples(name: str) -> list[str]:
    """The lines of its examples, as a shell reads them."""
    part = help_of(name).partition("Examples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in part.split("\n")]


def call(line: str) -> list[str]:
    """The words of the call of headgate in an example: after eval, before a pipe or a file."""
    line = line.removeprefix('eval "$(').removesuffix(')"')
    words = shlex.split(line.partition(')"')[0], comments=True)
    for stop in ("|", ">"):
        words = words[: words.index(stop)] if stop in words else words
    return words


def parse(words: list[str]) -> None:
    """UsageError unless the words are a call that the command takes."""
    command = {"headgate": headgate, "headgate-receiver": server.receiver}[words[0]]
    context = command.make_context(words[0], words[1:])
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None
        command = found
        context = command.make_context(name, rest, parent=context)


def test_all_commands_are_looked_at() -> None:
    assert len(ALL) > 20
    assert {name.split()[1] for name in ALL if " " in name} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_ends_with_examples_of_that_command_and_they_parse(name: str) -> None:
    shown = examples(name)
    assert shown and all(shown), name
    for line in shown:
        words = call(line)
        parse(words)
        assert " ".join(words).startswith(name) or name == "headgate" or "--" in words[1], line


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_lists_the_exit_codes_and_no_line_runs_on(name: str) -> None:
    text = help_of(name)
    end = text.partition("Exit codes:\n")[2]
    codes = [int(number) for number in re.findall(r"^ +(\d+) ", end, re.MULTILINE)]
    assert codes[:1] == [Exit.OK] and {Exit.ERROR, Exit.USAGE} <= set(codes)
    assert set(codes) <= set(Exit)
    assert codes == sorted(codes)
    assert max(len(line) for line in text.split("\n")) <= 100
    assert "..." not in text.partition("Commands:")[2].partition("Examples:")[0]


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_flag_says_what_it_does(name: str) -> None:
    for option in ALL[name].params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{name} {option.opts}"


# -- how much is said


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a spool with an image that is set aside."""
    with closing(open_spool(tmp_path, spool__path="spool")) as spool:
        item = put(spool, b"x").receipt.id
        found = spool.catalog.get(item)
        assert found is not None
        with spool.hold_drain_lock("a test", 0) as lock:
            Mover(spool, lock).set_aside(found, "S3 does not like it", spool.now())
    file = tmp_path / "headgate.toml"
    file.write_text('[spool]\npath = "spool"\n')
    return file


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(headgate, ["--config", str(config), *words], prog_name="headgate")


@pytest.mark.parametrize(
    "words",
    [
        ("limit", "60%", "--for", "30min", "--reason", "a test"),
        ("device", "add", "cam-1", "--out", "OUT"),
        ("retry", "--all"),
        ("verify",),
        ("alert", "silence", "all", "--for", "1h"),
    ],
    ids=" ".join,
)
def test_quiet_leaves_out_what_nobody_asked_for(config: Path, words: tuple[str, ...]) -> None:
    usual = [word.replace("OUT", str(config.parent / "usual")) for word in words]
    quiet = [word.replace("OUT", str(config.parent / "quiet")) for word in words]
    assert run(config, *usual).output != ""
    if words[0] == "device":
        run(config, "device", "revoke", "cam-1")
    result = run(config, "-q", *quiet)
    assert (result.output, result.exit_code) == ("", 0)


def without_moments(text: str) -> str:
    """The text without what changes between two commands: ages, free room, the disk's forecast."""
    steady = re.sub(r"^disk  .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"[\d.,]+ (s\b|[kMGT]?B free)", r"N \1", steady)


def test_quiet_still_gives_what_was_asked_for_and_errors(config: Path) -> None:
    for words in (("status",), ("list",), ("limit",), ("device", "list"), ("config", "show")):
        usual, quiet = (run(config, *flag, *words).stdout for flag in ((), ("-q",)))
        assert without_moments(quiet) == without_moments(usual) != ""
    refused = run(config, "-q", "retry", "nobody")
    assert refused.exit_code == Exit.ERROR and "no such image" in refused.stdout
    assert "headgate: " in run(config, "-q", "limit", "60%").stderr


def test_the_flags_stand_before_the_command_or_after_it(config: Path) -> None:
    for words in (["-q", "verify"], ["verify", "-q"], ["verify", "--quiet"]):
        assert run(config, *words).output == ""
    for words in (["-q", "-v", "status"], ["-q", "status", "-v"], ["status", "-q", "-v"]):
        result = run(config, *words)
        assert result.exit_code == Exit.USAGE and "not both" in result.stderr


BUCKET = '[s3]\nbucket = "{}"\nendpoint_url = "{}"\nregion = "us-east-1"\n'


def test_verbose_tells_of_the_settings_and_of_each_answer_of_s3(config: Path, place: Place) -> None:
    place.client.create_bucket(Bucket="manners")
    with config.open("a") as file:
        file.write(BUCKET.format("manners", place.url))
    run(config, "retry", "--all")

    def events(*words: str) -> list[str]:
        result = run(config, *words)
        assert result.exit_code == 0, result.output
        return [json.loads(line)["event"] for line in result.stderr.split("\n") if line[:1] == "{"]

    assert events("status") == []
    assert events("-v", "status") == ["settings.read"]
    heard = events("drain", "-v")
    assert {"run.picked", "s3.answered", "image.uploaded", "run.ended"} <= set(heard)


def test_the_log_of_a_run_by_cron_is_not_made_quiet(config: Path, place: Place) -> None:
    place.client.create_bucket(Bucket="by-cron")
    with config.open("a") as file:
        file.write(
            f'[s3]\nbucket = "by-cron"\nendpoint_url = "{place.url}"\nregion = "us-east-1"\n'
        )
        file.write('[log]\nfile = "drain.log"\n')
    run(config, "retry", "--all")
    assert run(config, "-q", "drain", "--cron").output == ""
    logged = (config.parent / "drain.log").read_text()
    assert "run.ended" in logged and "s3.answered" not in logged


# -- colour


def status_on_terminal(config: Path, **environment: str) -> str:
    """What ``headgate status`` writes to a terminal of its own."""
    command = [sys.executable, "-m", "uploader", "--config", str(config), "status"]
    code, said = on_terminal(command, 80, environment)
    assert code == 0, said
    return said


def test_a_terminal_shows_what_is_set_aside_in_colour_unless_told_not_to(config: Path) -> None:
    assert "\x1b[33mset aside  1 image" in status_on_terminal(config)
    for refuses in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = status_on_terminal(config, **refuses)
        assert "set aside  1 image" in plain and "\x1b" not in plain
    assert terminal.may_colour({"NO_COLOR": ""})  # empty is not set (no-color.org)


def test_nothing_that_is_not_a_terminal_gets_colour(config: Path) -> None:
    assert "\x1b" not in run(config, "status").output


# -- what a terminal would obey

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.\udcff"
"""A title, a cleared screen, a C1 sequence, a turned direction, and a byte that is no text."""


def test_text_of_others_does_not_act_on_the_terminal() -> None:
    assert terminal.escaped("Küche, 日本 → a\nb\tc") == "Küche, 日本 → a\nb\tc"
    shown = terminal.escaped(NASTY)
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == NASTY


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("list", "--json"),
        ("limit",),
        ("status",),
        ("status", "--json"),
        ("retry", "IMAGE\x1b[2J"),
        ("verify",),
        ("alert", "list"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_no_command_prints_what_a_terminal_obeys(
    config: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = NASTY.encode("utf-8", "replace").decode()
    with closing(open_spool(config.parent, spool__path="spool")) as spool:
        found = spool.catalog.get(put(spool, b"y", file_name=others).receipt.id)
        assert found is not None
        with spool.hold_drain_lock("a test", 0) as lock:
            Mover(spool, lock).set_aside(found, others, spool.now())
    assert run(config, "limit", "60%", "--for", "30min", "--reason", others).exit_code == Exit.OK
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = CliRunner().invoke(headgate, ["--config", str(config), *words], color=True).output
    ours = re.sub(r"\x1b\[[0-9;]*m", "", out)  # the colours that Headgate adds
    assert out and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ours)
    if "--json" in words:
        json.loads(out)
    elif words == ("list",):
        assert r"\u001b]0;owned" in out


def test_a_colour_of_ours_stays_and_one_of_others_does_not() -> None:
    with CliRunner().isolation(color=True) as (out, *_):
        print_text(styled("red \x1b[0m", fg="red"), " plain \x1b[32m")
        said = out.getvalue().decode()
    assert said == "\x1b[31mred \\u001b[0m\x1b[0m plain \\u001b[32m\n"


# -- an ordinary user, and values that are no JSON


AS_NOBODY = """
import importlib, os
from uploader.cli.main import COMMANDS, main

for module in COMMANDS.values():  # this user may not read them, perhaps
    importlib.import_module(module)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main()
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_who_may_not_read_the_spool_is_told_who_may(config: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(config.parent / "spool", place / "spool")
        (place / "headgate.toml").write_text(config.read_text())
        (place / "spool" / "state").chmod(0o700)
        for command in ("status", "list", "verify", "limit", "pause", "alert list"):
            there = ["--config", str(place / "headgate.toml")]
            ran = subprocess.run(
                [sys.executable, "-c", AS_NOBODY, *there, *command.split()],
                cwd=ROOT, text=True, capture_output=True, timeout=120, check=False,
            )  # fmt: skip
            assert ran.returncode == Exit.ERROR, command
            assert "unexpected" not in ran.stderr and "Traceback" not in ran.stderr
            assert "may not use" in ran.stderr and "sudo" in ran.stderr, ran.stderr


def test_what_has_no_form_in_json_is_an_error_and_no_text_of_python() -> None:
    with pytest.raises(TypeError, match="set has no form in JSON"):
        print_json({"bucket": {1}})


def test_records_are_objects_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    print_json({"share": Percent(2000), "count": Count(2, 3), "at": at})
    assert json.loads(capsys.readouterr().out) == {
        "share": "20%", "count": {"images": 2, "bytes": 3}, "at": "2026-01-02T00:00:00Z",
    }  # fmt: skip
