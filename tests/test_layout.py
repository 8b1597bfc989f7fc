"""The rules of the house: what imports what, what may touch the disk, what stays pure."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("app", "headgate", "uploader", "dev", "bench", "clients")
PEERS = ROOT / "bench" / "receive" / "peers"
"""Programs that do as others do, to be measured beside ours; they are read by nobody's rules."""
FILES = sorted(
    path for room in ROOMS for path in (ROOT / room).rglob("*.py") if not path.is_relative_to(PEERS)
)

MAY_IMPORT = {
    "headgate": {"headgate"},
    "app": {"app", "headgate"},
    "uploader": {"uploader", "headgate"},
    "dev": {"app", "dev", "headgate", "uploader"},
    "bench": {"bench", "dev", "headgate", "uploader"},
    "clients": set(),
}
"""Imports between rooms run one way: app -> headgate <- uploader."""

ORDER = """
clients
headgate/settings
headgate/host
headgate/shared
headgate/spool/image
headgate/spool/errors
headgate/spool/disk
headgate/spool/sqlite
headgate/spool/query
headgate/spool/catalog  headgate/spool/receipts  headgate/spool/site
headgate/spool/budget
headgate/spool/identity  headgate/spool/schemas  headgate/spool/dedupe  headgate/spool/recovery
headgate/spool/elsewhere
headgate/spool/spool
headgate/spool/owner  headgate/spool/upkeep
headgate/intake
headgate/monitor
headgate/actions
app/formats  app/refusals
app/responses
app/admission
app/upload
app/http
app/page
app/people
app
app/server
app/ftp  app/smtp
uploader/wire
uploader/destination
uploader/s3  uploader/http_post  uploader/alerts
uploader/cloudwatch
uploader/run
uploader/plan
uploader/queue
uploader/intake
uploader/cli
uploader/cli/cron  uploader/cli/install
uploader/cli/doctor
uploader/cli/commands
uploader
dev
dev/s3_local  dev/docs
bench/rounds
bench/simulate  bench/receive
bench
"""
"""Folders, and files beside folders: each imports what stands above its line, or is its own."""

RANK = {room: line for line, rooms in enumerate(ORDER.split("\n")) for room in rooms.split()}

UNTIL_MOVED: set[tuple[str, str]] = set()
"""Imports against the order that are about to go, each with a date and who removes it: the
importing file, and the room that it reaches."""

LINES_MAX = 450
LONG = {
    "clients/headgate_client.py": "a device copies one file",
    "headgate/spool/spool.py": "one noun: what both halves may ask of a spool",
    "headgate/settings/table.py": "one table: every setting with its default and its explanation",
}
"""Files that may be longer than LINES_MAX, each with its reason."""

FOREIGN = {
    # Libraries that belong to one room, or to one edge of it.
    "flask": {"app", "dev/s3_local"},
    "werkzeug": {"app", "dev/s3_local", "headgate/host/passwords.py"},
    "granian": {"app"},
    "multipart": {"app", "bench/parsers.py"},
    "prometheus_client": {"app"},
    "boto3": {"uploader", "dev", "bench"},
    "botocore": {"uploader", "dev", "bench"},
    "moto": {"dev/s3_local"},
    "crontab": {"uploader"},
    "apsw": {"headgate/spool/sqlite.py"},
    "sqlite3": set(),  # the system's SQLite; headgate/spool/sqlite.py says why not that one
    "trustme": {"bench"},
    "apprise": {"uploader/alerts/apprise.py"},
    "jwt": {"app/admission/oidc.py"},
    "celery": {"uploader/queue"},
    "kombu": {"uploader/queue"},
    "redis": {"uploader/queue", "headgate/shared/connection.py"},
    "pyftpdlib": {"app/ftp"},
    "aiosmtpd": {"app/smtp"},
    "tqdm": {"headgate/host/progress.py"},
    "imagecodecs": {"dev/corpus_decode.py"},
    "pillow_heif": {"dev/corpus_decode.py"},
}

IMPURE = {
    "os", "io", "shutil", "socket", "apsw", "subprocess", "threading", "time", "random",
    "secrets", "signal", "tempfile", "logging", "structlog", "fcntl", "select",
}  # fmt: skip
IMPURE_CALLS = re.compile(
    r"(open|print|datetime\.now|datetime\.utcnow|date\.today|.*\.(read_text|read_bytes|write_text|"
    r"write_bytes|exists|is_file|is_dir|iterdir|stat|unlink|mkdir|resolve|expanduser))"
)

DISK = {"fsync", "fdatasync", "link", "symlink", "rename", "renames", "hardlink_to", "sync"}
"""Words that only headgate/spool/disk/durable may call, on ``os`` or on a path."""

VAGUE = {"manager", "helper", "helpers", "util", "utils", "handler", "service", "process", "misc"}
"""Names that say nothing."""


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(path: Path) -> dict[type, list[Any]]:
    """All nodes of a file by their type: walked once for all rules."""
    found: dict[type, list[Any]] = defaultdict(list)
    for node in ast.walk(tree_of(path)):
        found[type(node)].append(node)
    return found


def calls_in(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the whole name of each call."""
    return ((node.lineno, ast.unparse(node.func)) for node in nodes_of(path)[ast.Call])


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names, one for each module that is imported, wherever in the file."""
    found = {alias.name for node in nodes_of(path)[ast.Import] for alias in node.names}
    for node in nodes_of(path)[ast.ImportFrom]:
        assert node.level == 0, f"{place(path)}: a relative import"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            found.add(inner if module_file(inner) else node.module)
    return frozenset(found)


@functools.cache
def module_file(dotted: str) -> Path | None:
    base = ROOT.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def files_imported(path: Path) -> set[Path]:
    """The files of ours that it imports, those inside functions and for type checkers as well."""
    return {file for name in imports_of(path) if (file := module_file(name))} - {path}


def standing(path: Path) -> str:
    """The room of ORDER that a file belongs to: the longest that its path begins with; or ""."""
    parts = place(path).removesuffix(".py").removesuffix("/__init__").split("/")
    whole = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((room for room in whole if room in RANK), "")


def upward(path: Path) -> set[tuple[str, str]]:
    """The imports of a file that go against ORDER: the file, and the room it reaches."""
    own = standing(path)
    rooms = {standing(file) for file in files_imported(path)} - {own, ""}
    return {(place(path), room) for room in rooms if own and RANK[room] >= RANK[own]}


@functools.cache
def is_pure(path: Path) -> bool:
    """Whether its docstring says so: its first paragraph ends with the word "Pure."."""
    return (ast.get_docstring(tree_of(path)) or "").partition("\n\n")[0].endswith("Pure.")


@functools.cache
def pure() -> list[Path]:
    """Modules that decide: they take now, sleep and chance as arguments, and do no I/O.

    What they take from another module is data: types are defined in the module that produces them.
    """
    return [path for path in FILES if is_pure(path)]


def ours_imported_by(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Our own modules, each with what is taken from it; no names: the module itself."""
    nodes = nodes_of(path)
    found = [(alias.name, "") for node in nodes[ast.Import] for alias in node.names]
    found += [(node.module, alias.name) for node in nodes[ast.ImportFrom] for alias in node.names]
    for module, name in found:
        if module.partition(".")[0] in ROOMS:
            inner = f"{module}.{name}"
            yield (inner, set()) if module_file(inner) else (module, {name})


@functools.cache
def data_of(path: Path) -> set[str]:
    """What a pure module may take from any other: frozen dataclasses, enums and constants."""
    found = set()
    for node in tree_of(path).body:
        if isinstance(node, ast.ClassDef):
            frozen = any("frozen=True" in ast.unparse(one) for one in node.decorator_list)
            if frozen or any(ast.unparse(base).endswith("Enum") for base in node.bases):
                found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {ast.unparse(one) for one in targets if ast.unparse(one).isupper()}
    return found


def circles(edges: Mapping[str, set[str]]) -> list[str]:
    """One sentence for each circle that a walk along the edges runs into."""
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for after in sorted(edges.get(name, ())):
                visit(after, (*trail, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())
    return found


def test_there_are_files_to_look_at() -> None:
    assert {path.parts[len(ROOT.parts)] for path in FILES} == set(ROOMS)
    assert len(pure()) > 50


def may_import(path: Path, name: str) -> bool:
    """Whether a rule lets the file import this module."""
    top = name.partition(".")[0]
    if top in ROOMS:
        return top in MAY_IMPORT[place(path).partition("/")[0]]
    if top in FOREIGN:
        return any(f"{place(path)}/".startswith(f"{where}/") for where in FOREIGN[top])
    return top in sys.stdlib_module_names or top in {"click", "structlog", "PIL"}


def test_rooms_import_one_way_and_libraries_stay_where_they_belong() -> None:
    assert [
        f"{place(path)} imports {name}"
        for path in FILES
        for name in imports_of(path)
        if not may_import(path, name)
    ] == []


def test_no_test_opens_a_database_with_another_sqlite() -> None:
    """Two copies of SQLite in one process drop each other's locks, and a test would make the very
    damage that it looks for."""
    imports = re.compile(r"^\s*(import|from) .*\bsqlite3\b", re.MULTILINE)
    assert imports.search("    import sqlite3") and imports.search("from sqlite3 import connect")
    every = (ROOT / "tests").rglob("*.py")
    assert [place(path) for path in every if imports.search(path.read_text())] == []


def test_every_file_stands_in_the_order_of_imports() -> None:
    placeless = {place(path) for path in FILES if not standing(path)}
    assert {path for path in placeless if not path.endswith("/__init__.py")} == set()
    used = {standing(path) for path in FILES} - {""}
    assert set(RANK) - used == set(), "ORDER names what is not there"


def test_imports_between_folders_run_one_way() -> None:
    """All imports count: those inside functions and under TYPE_CHECKING too."""
    assert {edge for path in FILES for edge in upward(path)} - UNTIL_MOVED == set()


def test_each_exception_is_needed_still() -> None:
    needed = {edge for path in FILES for edge in upward(path)}
    assert needed >= UNTIL_MOVED, "landed: take these lines out of UNTIL_MOVED"


def test_no_file_imports_itself_in_a_circle() -> None:
    """All imports count: those inside functions and under TYPE_CHECKING too."""
    edges = {
        place(path): {
            place(file)
            for file in files_imported(path)
            if file.name != "__init__.py" and (place(path), standing(file)) not in UNTIL_MOVED
        }
        for path in FILES
    }
    assert circles(edges) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b -> c -> b"]
    assert circles({"a": {"b", "c"}, "b": {"c"}}) == []


def test_every_module_is_imported_or_started() -> None:
    """By a dotted name: in an import, a table of commands, an entry point, or "python -m"; or, for
    a program that is started as a file, by its name in quotes."""
    used = {module for path in FILES for module in imports_of(path)}
    texts = "".join(path.read_text(encoding="utf-8") for path in (*FILES, ROOT / "setup.cfg"))
    unused = []
    for path in FILES:
        dotted = place(path).removesuffix(".py").replace("/", ".")
        if path.name in ("__init__.py", "__main__.py") or dotted in used:
            continue
        started = f'"{dotted}"' in texts or f" {dotted}:" in texts or f'"{path.name}"' in texts
        if place(path).startswith(("headgate/", "app/", "uploader/")) and not started:
            unused.append(place(path))
    assert unused == []


def test_a_package_exports_nothing_but_what_it_defines() -> None:
    """``__init__.py`` re-exports no names: a reader finds a name where it is made. The receiver's
    assembles its application."""
    packages = [path for path in FILES if path.name == "__init__.py"]
    assert [place(path) for path in packages if files_imported(path)] == ["app/__init__.py"]


def test_long_files_have_a_reason() -> None:
    """A long file may hold a second noun, which gets a file of its own. No split without one."""
    long = {place(path) for path in FILES if len(path.read_text().splitlines()) > LINES_MAX}
    assert long == set(LONG), "a file grew without a reason, or LONG names one that is short again"


def impurities(path: Path) -> Iterator[str]:
    """What a pure module does that it must not."""
    for imported in imports_of(path):
        if imported.partition(".")[0] in IMPURE:
            yield f"{place(path)} imports {imported}"
    for module, names in ours_imported_by(path):
        file = module_file(module)
        assert file is not None
        if not is_pure(file) and not (names and names <= data_of(file)):
            yield f"{place(path)}: {module} is not pure"
    for line, called in calls_in(path):
        if IMPURE_CALLS.fullmatch(called):
            yield f"{place(path)}:{line} calls {called}"


def test_pure_modules_do_no_input_or_output_and_read_no_clock() -> None:
    assert [fault for path in pure() for fault in impurities(path)] == []


def flushes(path: Path) -> Iterator[str]:
    """Calls that only headgate/spool/disk/durable may make."""
    for line, called in calls_in(path):
        owner, _, word = called.rpartition(".")
        replaces = word == "replace" and (owner == "os" or "path" in owner.lower())
        if owner and (replaces or word in DISK or called == "shutil.move"):
            yield f"{place(path)}:{line} calls {called}"


def test_only_spool_durable_flushes_links_and_renames() -> None:
    """The stand-in's folder is no spool, and a device has one of its own."""
    own = ("headgate/spool/disk/durable.py", "dev/s3_local/folder.py", "clients/headgate_client.py")
    assert [fault for path in FILES if place(path) not in own for fault in flushes(path)] == []
    assert [*flushes(ROOT / own[0])]


def test_what_other_programs_wrote_is_read_where_all_that_readers_raise_is_known() -> None:
    """Dates of mail, and nested JSON: each of several readers had its own idea of the errors."""
    own = {"clients/headgate_client.py", "headgate/settings/instants.py"}
    assert {place(one) for one in FILES if "parsedate" in one.read_text("utf-8")} == own
    deep = {place(one) for one in FILES if "except RecursionError" in one.read_text("utf-8")}
    assert deep == {"headgate/host/foreign_json.py"}


def test_commands_open_the_spool_in_the_one_way_that_gives_up_roots_rights() -> None:
    """``headgate.spool.owner.opened``, which ``Context.spool`` calls."""
    direct = re.compile(r"Spool(\.open)?|Catalog|Receipts|Uplink")
    opens = {
        place(path)
        for path in FILES
        if place(path).startswith(("uploader/", "headgate/spool/owner.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and direct.fullmatch(ast.unparse(node.func))
    }
    assert opens == {"headgate/spool/owner.py"}


def test_commands_print_through_the_one_function_that_escapes() -> None:
    """``print_text``: devices and servers chose some of what commands show on a terminal."""
    direct = re.compile(r"print|click\.(echo|secho|style|echo_via_pager)")
    prints = {
        place(path)
        for path in FILES
        if place(path).startswith(("uploader/cli/commands/", "uploader/cli/main.py"))
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute | ast.Name) and direct.fullmatch(ast.unparse(node))
    }
    assert prints == {"uploader/cli/main.py"}


def words_of(path: Path) -> set[str]:
    """The words of a file's path, and of the names of its classes and functions."""
    words, nodes = set(re.split(r"[_/.]", place(path))), nodes_of(path)
    for node in nodes[ast.ClassDef]:
        words |= {word.lower() for word in re.findall(r"[A-Z][a-z]+", node.name)}
    for node in nodes[ast.FunctionDef] + nodes[ast.AsyncFunctionDef]:
        words |= set(node.name.split("_"))
    return words


def test_names_say_something() -> None:
    assert {place(path): found for path in FILES if (found := words_of(path) & VAGUE)} == {}


def undocumented(path: Path) -> Iterator[str]:
    if not ast.get_docstring(tree_of(path)):
        yield f"{place(path)} has no docstring"
    for node in tree_of(path).body:
        public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if isinstance(node, ast.ClassDef) and public and not ast.get_docstring(node):
            yield f"{place(path)}:{node.lineno} {node.name} has no docstring"


def test_every_public_thing_says_what_it_is_for() -> None:
    assert [fault for path in FILES for fault in undocumented(path)] == []


TESTS = sorted(
    path
    for path in (ROOT / "tests").rglob("*.py")
    if place(path) != "tests/support/wait.py" and "data" not in path.parts
)


def test_tests_import_helpers_from_support_alone() -> None:
    """What two test files use is in tests/support/, so that no test file is needed by another."""
    imports = re.compile(r"^\s*(from|import) tests\.(?!support)", re.MULTILINE)
    assert imports.search("from tests.uploader import conftest")
    assert [place(path) for path in TESTS if imports.search(path.read_text())] == []


def endless_waits(tree: ast.Module) -> Iterator[str]:
    """Loops that sleep until something is so, and waits for another thread or program for ever."""
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    for node in ast.walk(tree):
        tries = isinstance(node, ast.For) and any(
            isinstance(one, ast.Break) for one in ast.walk(node)
        )
        if isinstance(node, ast.While) or tries:
            calls = [inner for inner in ast.walk(node)
                     if isinstance(inner, ast.Call) and id(inner) not in awaited]  # fmt: skip
            if any(re.search(r"\bsleep$", ast.unparse(call.func)) for call in calls):
                yield f"{node.lineno}: a loop that sleeps (tests.support.wait has wait_until)"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            word, bounds = node.func.attr, len(node.args)
            if word not in ("communicate", "wait", "join", "result") or id(node) in awaited:
                continue
            bounds -= word == "communicate"  # its first argument is the input
            if bounds < 1 and not any(key.arg == "timeout" for key in node.keywords):
                yield f"{node.lineno}: {word}() without a bound (tests.support.wait has some)"


def test_each_wait_of_a_test_has_a_bound() -> None:
    assert [f"{place(path)}:{one}" for path in TESTS for one in endless_waits(tree_of(path))] == []


@pytest.mark.parametrize(
    "text",
    [
        "while not ready():\n    time.sleep(0.1)",
        "while True:\n    if ready():\n        break\n    sleep(1)",
        "for _ in range(50):\n    if ready():\n        break\n    time.sleep(0.1)",
        "process.communicate()",
        "process.communicate('input')",
        "event.wait()",
        "thread.join()",
        "future.result()",
    ],
)
def test_a_wait_without_a_bound_is_found(text: str) -> None:
    assert len(list(endless_waits(ast.parse(text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "while piece := sock.recv(100):\n    data += piece",
        "process.communicate(timeout=9)",
        "event.wait(20)",
        "for _ in range(3):\n    time.sleep(0.1)\n    started.append(start())",
        "', '.join(words)",
        "async def serve():\n    await stop.wait()",
    ],
)
def test_what_has_a_bound_or_is_no_wait_is_let_alone(text: str) -> None:
    assert list(endless_waits(ast.parse(text))) == []


def test_the_rules_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail is none: each rule is shown a breach."""
    breach = tmp_path / "utils.py"
    breach.write_text(
        "import os, flask\nos.fsync(3)\nfrom pathlib import Path\nPath('x').rename('y')\n"
        "os.replace('a', 'b')\nclass Helper: pass\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert {one.partition(" calls ")[2] for one in flushes(breach)} == {
        "os.fsync", "Path('x').rename", "os.replace",
    }  # fmt: skip
    assert [*impurities(breach)] == ["utils.py imports os"]
    assert words_of(breach) & VAGUE == {"utils", "helper"}
    assert len([*undocumented(breach)]) == 2
    assert not may_import(breach, "flask.json") and not may_import(breach, "tomlkit")
    monkeypatch.undo()
    assert data_of(ROOT / "headgate/spool/site/runs.py") >= {"Run", "Proof", "FAILURES"}
    assert not data_of(ROOT / "headgate/spool/spool.py") & {"Spool", "prepare", "utc_now"}
    assert IMPURE_CALLS.fullmatch("datetime.now")
    assert IMPURE_CALLS.fullmatch("self.path.exists")
    assert not IMPURE_CALLS.fullmatch("re.compile")
