"""The docs against the code: each table is compared with the one that the program works by."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from app import create_app
from app.admission import checks
from app.admission.admission import Gate
from app.admission.auth import Principal
from app.http.limits import limits
from app.refusals import REFUSALS
from app.server import server, serving
from app.upload import fields, form, stalled
from dev.docs import console, settings_page
from dev.docs.__main__ import MAKERS, SLOW, manuals
from dev.docs.blocks import blocks
from headgate.host.exit_codes import Exit
from headgate.monitor.collect import snapshot
from headgate.monitor.devices import OTHERS_MAX
from headgate.monitor.metrics import measures
from headgate.monitor.rules import RULES as RULES_ALERT
from headgate.settings.settings import SETTINGS, combine
from headgate.settings.units import (
    UnitError,
    format_duration,
    parse_duration,
    parse_percent,
    parse_rate,
    parse_size,
)
from headgate.spool.disk import xattrs
from headgate.spool.disk.room import DISK_FULL, DISK_TROUBLE, INTAKE_SPENT, SAFE_OFF, STOPPING
from headgate.spool.image.image import METADATA_MAX, State
from headgate.spool.image.names import make
from headgate.spool.upkeep.verify import DisagreementKind as Disagreement
from tests.support.spooling import open_spool
from uploader.cli.main import COMMANDS, headgate
from uploader.cloudwatch.metrics import NUMBERS
from uploader.s3.errors import RULES
from uploader.s3.keys import DROP_ORDER, LAYOUTS, object_key

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DESIGN = (ROOT / "docs" / "DESIGN.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs" / "SETTINGS.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
C_CLIENT = (ROOT / "clients" / "c" / "headgate_client.h").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONTEXT = click.Context(headgate, info_name="headgate", **headgate.context_settings)


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cells(line: str) -> tuple[str, ...]:
    if not (line.startswith("|") and line.endswith("|")):
        return ()
    return tuple(cell.strip() for cell in line[1:-1].split("|"))


def tables(page: str, *head: str) -> list[tuple[str, ...]]:
    """The rows of all tables with these column titles."""
    lines = page.split("\n")
    rows = []
    for start in [at for at, line in enumerate(lines) if cells(line) == head]:
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            rows.append(cells(line))
            assert len(rows[-1]) == len(head), f"another number of columns: {line}"
    assert rows, f"no table with the columns {head}"
    return rows


def code(text: str) -> tuple[str, ...]:
    """What stands in backticks, outside blocks."""
    return tuple(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))


def prose(page: str) -> str:
    """The page as one line, for sentences that are wrapped."""
    return " ".join(page.split())


def sources(folder: str) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path.read_text(encoding="utf-8")


# -- settings and variables


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_what_is_made_in_a_page_is_what_would_be_made_now(path: Path) -> None:
    """What a program that runs for a while says is looked at apart, below."""
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.maker not in SLOW:
            assert block.body == f"{MAKERS[block.maker](block.argument)}\n", block.what


@pytest.mark.slow
def test_commands_say_what_the_pages_show() -> None:
    """But for numbers. ``make docs`` writes what they say now."""
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.maker in SLOW:
                made = MAKERS[block.maker](block.argument)
                assert console.shape(block.body.rstrip()) == console.shape(made), block.what


def test_the_manual_pages_are_those_that_would_be_made_now() -> None:
    for path, made in manuals().items():
        assert path.read_text(encoding="utf-8") == made, f"{place(path)}: run make docs"


def test_the_manual_pages_name_every_command_flag_and_exit_code() -> None:
    text = (ROOT / "deploy" / "man" / "headgate.1").read_text(encoding="utf-8")
    plain = re.sub(r"\\f[BR]|\\&", "", text).replace("\\-", "-")
    for name, command in commands().items():
        part = plain.partition(f'.SS "{name} ')[2].partition("\n.S")[0]
        assert part, name
        for flag in flags(command):
            assert re.search(rf"^(-\w)?{flag}\b", part, re.MULTILINE), f"{name} {flag}"
    assert {int(n) for n in re.findall(r"^\.TP\n(\d+)$", plain, re.MULTILINE)} == set(Exit)


@pytest.mark.parametrize("checker", ["mandoc", "man"])
def test_the_manual_pages_are_in_order(checker: str) -> None:
    found = shutil.which(checker)
    if found is None:
        pytest.skip(f"{checker} is not installed (.ci/run installs it)")
    how = {"mandoc": ["-Tlint", "-Wwarning"], "man": ["--warnings", "-l", "-Tutf8"]}[checker]
    for path in manuals():
        said = subprocess.run([found, *how, str(path)], capture_output=True, text=True, timeout=60)
        assert said.returncode == 0 and said.stderr == "", said.stderr
        assert checker == "man" or said.stdout == ""


def test_every_setting_stands_in_its_table_once() -> None:
    rows = tables(SETTINGS_PAGE, *settings_page.HEAD)
    documented = [(*code(name), *code(default), unit) for name, default, _, unit, _ in rows]
    assert documented == [(s.name, json.dumps(s.default), s.unit) for s in SETTINGS]
    assert all(row[2] and row[4] for row in rows)
    variables = tables(SETTINGS_PAGE, "variable", "setting")
    assert [code(row[0])[0] for row in variables] == [setting.variable for setting in SETTINGS]


def test_what_a_setting_is_said_to_take_is_what_it_takes() -> None:
    for setting in SETTINGS:
        setting.parse(setting.default)
        setting.parse(settings_page.shown(setting))
        assert settings_page.shown(setting) not in ("", [], None), f"{setting.name}: no example"
        if found := re.search(r"a whole number from ([\d,]+) to ([\d,]+)", setting.takes):
            low, high = (int(number.replace(",", "")) for number in found.groups())
            assert (setting.parse(low), setting.parse(high)) == (low, high)
            for wrong in (low - 1, high + 1):
                with pytest.raises(UnitError):
                    setting.parse(wrong)
        quoted = [word for word in code(setting.takes) if word.isalpha() and word != "true"]
        for word in quoted:
            setting.parse(word)


def test_what_the_page_of_settings_says_of_units_holds() -> None:
    readers = {
        "a size": parse_size, "a rate": parse_rate, "a duration": parse_duration,
        "a share": parse_percent,
    }  # fmt: skip
    for what, right, wrong in tables(SETTINGS_PAGE, "what", "write", "refused"):
        for text in code(right):
            readers[what](text)
        for text in code(wrong):
            with pytest.raises(UnitError):
                readers[what](text)


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_no_page_names_a_setting_that_is_not_there(path: Path) -> None:
    sections = {setting.section for setting in SETTINGS}
    words = set(re.findall(r"`([a-z0-9]+)\.([a-z_]+)\b", path.read_text(encoding="utf-8")))
    names = {f"{section}.{key}" for section, key in words if section in sections}
    assert names <= {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_settings_that_a_page_shows_are_accepted(path: Path) -> None:
    for example in re.findall(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        document = tomllib.loads(example)
        if "mail_to" in document.get("alerts", {}):
            assert "smtp_url" in document["alerts"]
        combine(document, ROOT / "headgate.toml", {}, {}, ROOT)


def test_every_form_of_variable_is_documented() -> None:
    forms = set(code(SETTINGS_PAGE))
    assert {"HEADGATE_CONFIG", "HEADGATE_<SECTION>_<KEY>", "HEADGATE_TEST_...", "_FILE"} <= forms
    secrets = {setting.name for setting in SETTINGS if setting.secret}
    sentence = prose(SETTINGS_PAGE).partition("**Secrets** (")[2].partition(")")[0]
    assert set(code(sentence)) == secrets


def test_every_variable_of_the_tests_is_documented_and_no_other() -> None:
    read = r"environ(?:\.get\(|\[)\"(HEADGATE_TEST_[A-Z0-9_]+)\""
    used = {name for text in sources("tests") for name in re.findall(read, text)}
    rows = tables(RELIABILITY, "variable", "what it does")
    assert {name for row in rows for name in code(row[0])} == used


@pytest.mark.parametrize("path", [*PAGES, ROOT / "Makefile", ROOT / ".ci" / "run"], ids=place)
def test_no_page_names_a_variable_that_is_not_there(path: Path) -> None:
    named = re.findall(r"\bHEADGATE_[A-Z0-9_]*[A-Z0-9]", path.read_text(encoding="utf-8"))
    known = {setting.variable for setting in SETTINGS} | {"HEADGATE_CONFIG"}
    known |= {f"{setting.variable}_FILE" for setting in SETTINGS if setting.secret}
    known |= set(re.findall(r"\bHEADGATE_[A-Z_]+", C_CLIENT))  # what it answers, no variables
    assert {name for name in named if not name.startswith("HEADGATE_TEST")} <= known


# -- commands, flags, exit codes


def commands() -> dict[str, click.Command]:
    """Every command that help shows, by its whole name."""
    found: dict[str, click.Command] = {}
    for word in COMMANDS:
        command = headgate.get_command(CONTEXT, word)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {}
        below = {f"headgate {word} {name}": part for name, part in inner.items()}
        found |= below or {f"headgate {word}": command}
    return {name: command for name, command in found.items() if not command.hidden}


def flags(command: click.Command) -> set[str]:
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {flag for option in options if not option.hidden for flag in option.opts}


def test_every_command_is_documented_with_each_of_its_flags_and_no_other() -> None:
    rows = tables(DESIGN, "command", "flags", "what for")
    documented = {code(name)[0]: set(code(its)) for name, its, _ in rows}
    assert documented == {name: flags(command) for name, command in commands().items()}
    assert len(rows) == len(documented)


def test_the_flags_before_the_command_are_documented() -> None:
    for command, prefix in ((headgate, "`headgate ["), (server.receiver, "`headgate-receiver [")):
        (line,) = re.findall(rf"{re.escape(prefix)}[^`]*`", prose(DESIGN))
        assert set(re.findall(r"-[qv]\b|--[a-z]+", line)) == flags(command)


def shell_lines(page: str) -> Iterator[str]:
    """Every call of headgate that a page shows, in a block or in a sentence."""
    lines = []
    for language, block in re.findall(r"```([a-z]*)\n(.*?)```", page, re.DOTALL):
        typed = [line for line in block.split("\n") if line.startswith("$ ")]
        lines += [line[2:] for line in typed]
        if language != "console":  # there, the rest is what was said
            lines += [line for line in block.split("\n") if line not in typed]
    lines += [text for text in code(page) if not re.search(r"[\[{]", text)]
    yield from (line for line in lines if re.match(r"(\S*/)?headgate(-receiver)? ", line))


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_every_call_that_a_page_shows_is_one_that_parses(path: Path) -> None:
    for line in shell_lines(path.read_text(encoding="utf-8")):
        words = shlex.split(line)[1:]
        command: click.Command = headgate
        context = CONTEXT
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            inner = command.get_command(context, words[0])
            assert inner is not None, f"{line}: there is no {words[0]}"
            command = inner
            words = words[1:]
        if isinstance(command, click.Group) or not words:
            continue  # the command itself is meant
        try:
            command.make_context("headgate", list(words), parent=context)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_every_time_that_a_page_gives_a_command_is_one(path: Path) -> None:
    for value in re.findall(
        r"headgate.*--(?:for|max-time) (\S+)", path.read_text(encoding="utf-8")
    ):
        assert is_duration(value), f"{place(path)}: {value}"


def test_every_time_that_help_gives_as_an_example_is_one() -> None:
    for name, command in commands().items():
        for option in command.params:
            if option.name in ("duration", "max_time"):
                assert option.metavar is not None
                assert is_duration(option.metavar), f"{name}: {option.metavar}"


def is_duration(text: str) -> bool:
    try:
        return parse_duration(text) > 0
    except UnitError:
        return False


def test_every_exit_code_is_documented_and_no_other() -> None:
    rows = tables(DESIGN, "exit code", "what it means")
    assert [int(row[0]) for row in rows] == sorted(Exit)


def test_operating_names_every_exit_code_of_a_run_without_flags() -> None:
    said = prose(OPERATING).partition("A run exits with ")[2].partition(". `man")[0]
    other = {Exit.STILL_WAITING, Exit.BUDGET_SPENT, Exit.CANNOT_HOLD}  # --strict, headgate plan
    assert {int(code) for code in re.findall(r"\b(\d+) \(", said)} == set(Exit) - other


def test_every_disagreement_that_verify_knows_is_documented() -> None:
    sentence = prose(DESIGN).partition("`headgate verify` says: ")[2].partition(". What seems")[0]
    assert set(re.findall(r'"([^"]+)"', sentence)) == set(Disagreement)


def test_every_make_target_is_documented_and_no_other() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    rows = tables(DESIGN, "make", "what it does")
    assert {name for row in rows for name in code(row[0])} == {f"make {word}" for word in targets}
    shown = {word for path in PAGES for word in re.findall(r"`make ([a-z-]+)", path.read_text())}
    assert shown | set(re.findall(r"^\$ make ([a-z-]+)", README, re.MULTILINE)) <= targets


# crontab.txt is held against ``headgate cron show`` in tests/uploader/cli/commands/test_cron.py.


# -- the protocol


def test_every_refusal_is_documented_with_its_status_and_no_other() -> None:
    def wait(seconds: int | None) -> str:
        return "" if seconds is None else f"{seconds} s" if seconds else "at once"

    rows = tables(DESIGN, "code", "status", "title", "come back after")
    assert [(*code(row[0]), *row[1:]) for row in rows] == [
        (r.code, str(r.status), r.title, wait(r.retry_seconds)) for r in REFUSALS.values()
    ]


def test_a_refusal_that_nobody_gives_is_said_to_be_one() -> None:
    given = " ".join(text for text in sources("app")).replace("\n", " ")
    for name in REFUSALS:
        is_given = re.search(rf'(Refused\(|if [a-z.]+ else )\s*"{name}"|"{name}" if ', given)
        given_by_room = name in (DISK_FULL, DISK_TROUBLE, STOPPING, INTAKE_SPENT, SAFE_OFF)
        unused = is_given is None and not given_by_room
        assert (f"nothing is answered with `{name}`" in prose(DESIGN)) == unused, name


def test_every_address_of_the_receiver_is_documented(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    try:
        app = create_app(spool)
        now = datetime(2026, 11, 23, tzinfo=UTC)
        handshake = limits(Gate(spool), spool.settings, spool.catalog, Principal(), now)
    finally:
        spool.close()
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE"}
    addresses = {f"{way} {r.rule}" for r in rules for way in (r.methods or set()) & methods}
    addresses |= {f"OPTIONS {r.rule}" for r in rules if "options" in r.endpoint}
    rows = tables(DESIGN, "address", "what it does")
    assert {name for row in rows for name in code(row[0])} == addresses
    sentence = prose(DESIGN).partition("**The handshake** says ")[2].partition(". ")[0]
    assert set(code(sentence)) == set(handshake)


def test_every_metric_is_documented_with_its_labels_and_no_other(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    try:
        text = create_app(spool).test_client().get("/metrics").text
        labels = {one.name: set(one.labels) for one in measures(snapshot(spool), "1", "3")}
    finally:
        spool.close()
    labels |= {"headgate_refused_total": {"reason"}, "headgate_upload_duration_seconds": {"le"}}
    told = {re.sub(r"_created$", "", name) for name in re.findall(r"^# TYPE (\S+)", text, re.M)}
    rows = tables(DESIGN, "metric", "labels", "what it is")
    documented = {name: set(code(row[1])) for row in rows for name in code(row[0])}
    assert set(documented) == told - {"headgate_refused"}
    assert {name: found for name, found in documented.items() if found} == {
        name: found for name, found in labels.items() if found
    }
    assert f"of others the {OTHERS_MAX:,}" in prose(DESIGN)


def test_what_a_device_may_say_is_documented() -> None:
    rows = tables(DESIGN, "field", "header", "what")
    assert [(*code(row[0]), *code(row[1])) for row in rows] == [
        (name, fields.HEADERS[name]) for name in fields.FIELDS
    ]


def test_the_limits_of_the_receiver_are_those_of_the_code() -> None:
    rows = dict(tables(RELIABILITY, "what", "limit"))
    numbers = {what: [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", limit)]
               for what, limit in rows.items()}  # fmt: skip
    assert numbers["header lines of a request"] == [checks.MAX_HEADERS, checks.MAX_HEADER]
    assert numbers["a form"] == [
        form.PARTS_MAX, form.PART_HEADERS_MAX, form.FIELD_BYTES_MAX // 1024,
    ]  # fmt: skip
    assert numbers["metadata of an image"] == [METADATA_MAX]
    assert numbers["an Idempotency-Key"] == [fields.KEY_MAX]
    assert numbers["tags"] == [fields.TAGS_MAX]
    assert numbers["a body"] == [stalled.MIN_RATE, stalled.GRACE_SECONDS]
    assert numbers["a header, or an idle connection"] == [serving.HEADER_SECONDS]
    assert server.CONNECTIONS_PER_THREAD == 4  # "four", in a sentence


# -- rooms, files, keys, errors


def test_every_folder_is_documented_in_its_place() -> None:
    (block,) = re.findall(r"\n## Rooms\n\n((?:    .*\n)+)", DESIGN)
    documented, parents = set(), list[str]()
    for indent, name in re.findall(
        r"^    ( *)([a-z0-9_]+)/ +[A-Za-z`].{10,}$", block, re.MULTILINE
    ):
        parents[len(indent) // 2 :] = [name]
        documented.add("/".join(parents))
    there = {path.parent.relative_to(ROOT).as_posix()
             for top in ("headgate", "app", "uploader", "dev", "bench")
             for path in (ROOT / top).rglob("__init__.py")}  # fmt: skip
    assert documented == there | {"clients"}  # single files, to be copied to devices


def test_every_attribute_is_documented_with_its_size() -> None:
    rows = tables(DESIGN, "attribute", "what it holds", "at most")
    assert {(*code(row[0]), row[2]) for row in rows} == {
        (xattrs.ATTRIBUTE, f"{METADATA_MAX:,} bytes"),
        (xattrs.SENT_ATTRIBUTE, f"{xattrs.ATTRIBUTE_MAX:,} bytes"),
        (xattrs.ASIDE_ATTRIBUTE, f"{xattrs.ATTRIBUTE_MAX:,} bytes"),
    }


def test_every_state_is_named() -> None:
    assert set(State) <= set(code(DESIGN))


def test_each_layout_is_shown_with_a_key_of_its_own() -> None:
    at = datetime(2026, 11, 23, 16, 4, 5, 123456, tzinfo=UTC)
    name = make(at, "cam-07", "0123456789abcdef" * 4, "jpg")
    rows = tables(DESIGN, "`s3.layout`", "a key, for the site `north`")
    assert [(*code(row[0]), *code(row[1])) for row in rows] == [
        (layout, object_key("north", "", layout, name)) for layout in LAYOUTS
    ]


def test_the_order_in_which_metadata_is_dropped_is_documented() -> None:
    assert f"left out in this order: {', '.join(DROP_ORDER)};" in prose(DESIGN)


ERROR_TABLE = ("code", "status", "kind", "what it means")


def test_every_rule_for_an_answer_of_s3_is_documented_and_no_other() -> None:
    rows = tables(DESIGN, *ERROR_TABLE)
    documented = [
        (set(code(codes)), {int(n) for n in statuses.split()}, kind, "sk first" in what)
        for codes, statuses, kind, what in rows
    ]
    assert documented == [(set(r.codes), set(r.statuses), r.kind.value, r.unknown) for r in RULES]
    for rule, row in zip(RULES, rows, strict=True):
        only = [method for method in ("PUT", "HEAD") if row[3].startswith(f"{method} only")]
        assert only == ([] if len(rule.methods) > 2 else sorted(rule.methods)), row


def test_every_error_of_our_own_is_documented_with_its_kind_and_no_other() -> None:
    raised: set[tuple[str, str]] = set()
    for text in sources("uploader"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "SendError":
                kind, word = node.args[:2]
                if isinstance(word, ast.Constant):
                    raised.add((str(word.value), ast.unparse(kind).rpartition(".")[2].lower()))
    rows = tables(DESIGN, "our code", "kind", "what it means")
    assert {(word, kind) for words, kind, _ in rows for word in code(words)} == raised


def test_every_kind_of_error_says_what_the_run_does() -> None:
    rows = tables(DESIGN, "kind", "what the run does")
    assert [row[0] for row in rows] == [kind.value for kind in type(RULES[0].kind)]


# -- alerts


def test_every_alert_is_documented_with_its_times_and_its_causes_and_no_other() -> None:
    def span(seconds: int) -> str:
        return format_duration(seconds) if seconds else "at once"

    rows = tables(DESIGN, "alert", "title", "told after", "good after", "not told during")
    assert [(*code(row[0]), *row[1:4], code(row[4])) for row in rows] == [
        (r.code, r.title, span(r.wait_seconds), span(r.calm_seconds), r.causes) for r in RULES_ALERT
    ]


def test_every_alert_says_what_to_type() -> None:
    parts = re.split(r"^### ([a-z0-9-]+)$", OPERATING, flags=re.MULTILINE)
    documented = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(documented) == [rule.code for rule in RULES_ALERT]
    for rule in RULES_ALERT:
        typed = re.findall(r"^\$ (.*)$", documented[rule.code], re.MULTILINE)
        assert any(line.startswith(rule.fix) for line in typed), rule.code


def test_every_number_for_cloudwatch_is_documented_and_no_other() -> None:
    rows = tables(DESIGN, "number", "unit", "what it says")
    assert [(*code(row[0]), *row[1:]) for row in rows] == [
        (number.name, number.unit, number.what) for number in NUMBERS
    ]


# -- words

PLAIN_WORDS = {
    "whoever": "anyone who, the user, a program that",
    "nobody": "no one, no program; or turn the sentence round",
    "anybody": "anyone",
    "somebody": "someone, another user, a program",
    "anew": "again; rebuild, recreate",
    "mend|mends|mended|mending": "fix, repair",
    "by chance": "at random, with jitter",
    "of its own accord": "by itself",
    "for ever": "forever, indefinitely",
    "in vain": "without success; the attempts failed",
    "beside": "next to; in addition to; compared with; during",
    "so many": "this many, a number of",
    "an URL": "a URL",
    "(is|are|was|were|be|been) told": "you get a message; is reported; is sent",
    "what stands": "what is, the part that is",
    "learnt": "learned",
    "small pictures?": "thumbnail",
}
"""Words that the prose had once and that readers stumbled over, and what to write instead."""
OLD_WORDS = re.compile(rf"\b({'|'.join(PLAIN_WORDS)})\b", re.IGNORECASE)


def old_words(where: str, text: str) -> list[str]:
    """Each old word of a text, with the plain one; code in backticks is not prose."""
    plain = re.sub(r"``[^`]+``|`[^`]+`|```.*?```", "", text, flags=re.DOTALL)
    found = []
    for match in OLD_WORDS.finditer(" ".join(plain.split())):
        instead = next(w for old, w in PLAIN_WORDS.items() if re.fullmatch(old, match[0], re.I))
        found.append(f"{where}: {match[0]!r}; write: {instead}")
    return found


def docstrings(text: str) -> Iterator[str]:
    """Every text that stands alone: docstrings, and what is said of a constant below it."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def test_the_prose_is_plain_english() -> None:
    found = [one for path in PAGES for one in old_words(place(path), path.read_text())]
    for folder in ("headgate", "app", "uploader"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in docstrings(path.read_text(encoding="utf-8")):
                found += old_words(place(path), text)
    for name, command in commands().items():
        options = [param for param in command.params if isinstance(param, click.Option)]
        for text in [command.help, command.epilog, *(option.help for option in options)]:
            found += old_words(name, text or "")
    for row in REFUSALS.values():
        found += old_words(row.code, f"{row.title}. {row.sentence}")
    for rule in RULES_ALERT:
        found += old_words(rule.code, f"{rule.title}. {rule.sentence}")
    for setting in SETTINGS:
        found += old_words(setting.name, f"{setting.help} {setting.takes} {setting.unit}")
    assert found == []


# -- links


@pytest.mark.parametrize("path", PAGES, ids=place)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[!-~]*)?", target), target
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), f"{place(path)} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, f"{place(path)} links to {target}"


def test_every_promise_has_a_proof_that_is_there() -> None:
    rows = tables(RELIABILITY, "promise", "what proves it", "not yet")
    for promise, proof, _ in rows:
        assert re.search(r"\]\(\.\./tests/[a-z_/0-9]+\.py\)", proof), promise


# -- numbers

NOUNS = (
    "alert|attempt|bucket|camera|database|day|device|event|fault|file|folder|gap|image|message|"
    "object|package|picture|row|silence|time|token|upload|user"
)
"""Not run and the like, which are verbs as well."""
COUNTED = re.compile(rf" ({NOUNS})s\b")


def test_one_of_a_thing_is_never_said_as_many() -> None:
    """What is counted is said by ``counted``: "1 image", not "1 images"."""
    found = []
    for folder in ("headgate", "app", "uploader"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    for value, text in zip(node.values, node.values[1:], strict=False):
                        is_number = isinstance(value, ast.FormattedValue)
                        words = str(text.value) if isinstance(text, ast.Constant) else ""
                        if is_number and COUNTED.match(words) and path.name != "units.py":
                            found.append(f"{place(path)}:{node.lineno}: {ast.unparse(node)}")
    for path in sorted((ROOT / "app" / "templates").rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        found += [f"{place(path)}: {one[0]}" for one in re.finditer(r"}}" + COUNTED.pattern, text)]
    for rule in RULES_ALERT:
        words = re.sub(r"\{(requests|minutes|inodes|all|n)[^}]*\}", "", rule.sentence)
        found += [f"{rule.code}: {one[0]}" for one in re.finditer(r"}" + COUNTED.pattern, words)]
    assert found == []
