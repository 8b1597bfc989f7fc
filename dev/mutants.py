"""Seeded mistakes: each is made in a copy of the checkout, and the tests that claim it run there.

``python -m dev.mutants [NAME ...]`` says of each mistake whether it was caught, and ends with 1
unless all were. ``tests/mutants/NAME.toml`` has the promise that it breaks, the mistake in a
sentence, the tests that claim to catch it (each of them has to fail), and the change: lines that
stand in a file exactly once, whatever their indentation, and those that take their place. So a
mistake survives a refactoring that leaves its lines alone; where they have changed it is an error,
never a mistake that is silently made no more.

A test counts only if it passes without the mistake, and a mistake is caught only if a test fails:
an import that breaks, or a test that is skipped, catches nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("tests/mutants")
TEST_SECONDS = 300
"""Then pytest ends a test that a mistake made hang, which counts as caught."""


class NoLongerApplies(Exception):
    """The lines of a mistake are not there, or more than once: the sentence says where to look."""


@dataclass(frozen=True, slots=True)
class Change:
    """Lines of a file, and those that take their place."""

    file: str
    find: str
    replace: str

    def applied(self, text: str) -> str:
        """The file's text with the change; NoLongerApplies if the lines are not there once."""
        lines, wanted = text.splitlines(), _dedented(self.find)
        size = len(wanted)
        found = [
            at for at in range(len(lines) - size + 1) if _dedented(lines[at : at + size]) == wanted
        ]
        if len(found) != 1:
            times = "are not there" if not found else f"are there {len(found)} times"
            raise NoLongerApplies(f"{self.file}: these lines {times}:\n{self.find.rstrip()}")
        (at,) = found
        # Indented as the lines are that go.
        shift = _indent(lines[at : at + size]) - _indent(self.find.splitlines())
        put = [
            f"{' ' * (_indent([line]) + shift)}{line.strip()}" if line.strip() else ""
            for line in self.replace.splitlines()
        ]
        return "\n".join((*lines[:at], *put, *lines[at + size :])) + "\n"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. ``tests``: node ids of pytest, each of which has to fail."""

    name: str
    promise: str
    mistake: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """TypeError or KeyError where the file lacks something, or has what is not known."""
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        changes = tuple(Change(**change) for change in said.pop("change"))
        return cls(path.stem, changes=changes, tests=tuple(said.pop("tests")), **said)

    def texts(self, root: Path) -> dict[str, str]:
        """The changed files below ``root``, by their names; NoLongerApplies."""
        texts: dict[str, str] = {}
        for change in self.changes:
            path = root / change.file
            if not path.is_file():
                raise NoLongerApplies(f"{change.file} is not there")
            text = texts.get(change.file) or path.read_text(encoding="utf-8")
            texts[change.file] = change.applied(text)
        return texts


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one mistake; ``why`` is empty if it was caught."""

    name: str
    promise: str
    mistake: str
    caught: bool
    why: str
    seconds: float


def all_mutants(root: Path = ROOT) -> list[Mutant]:
    """Every mistake, by name."""
    return [Mutant.read(path) for path in sorted((root / FOLDER).glob("*.toml"))]


def _dedented(lines: str | Sequence[str]) -> list[str]:
    text = lines if isinstance(lines, str) else "\n".join(lines)
    return textwrap.dedent(text).rstrip("\n").splitlines()


def _indent(lines: Sequence[str]) -> int:
    return min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)


def copy_of(root: Path, target: Path) -> Path:
    """The files of a checkout that git knows, or would take, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)
    return target


@contextlib.contextmanager
def made_in(copy: Path, mutant: Mutant) -> Iterator[None]:
    """The copy has the mistake inside this context, and no bytecode of the other state."""
    before = {name: (copy / name).read_bytes() for name in (one.file for one in mutant.changes)}
    try:
        for name, text in mutant.texts(copy).items():
            _put(copy / name, text.encode())
        yield
    finally:
        for name, data in before.items():
            _put(copy / name, data)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Ran:
    """What pytest said: how many of the tests passed, failed and were skipped."""

    passed: int
    failed: int
    skipped: int
    output: str
    ended: int  # its exit code


def run_tests(copy: Path, tests: Sequence[str], *flags: str) -> Ran:
    """Run tests of the copy, on the copy's own modules."""
    report = copy / "report.xml"
    report.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTEST"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
        "-o", f"timeout={TEST_SECONDS}", f"--junitxml={report}", *flags, *tests,
    ]  # fmt: skip
    ended = subprocess.run(
        command, cwd=copy, env={**environment, "PYTHONPATH": str(copy)}, check=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    if report.exists():
        for suite in ElementTree.parse(report).iter("testsuite"):
            counts = {name: counts[name] + int(suite.get(name, 0)) for name in counts}
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    said = ended.stdout + ended.stderr
    return Ran(passed, failed, counts["skipped"], said, ended.returncode)


def judge(copy: Path, mutant: Mutant) -> Verdict:
    """Make the mistake in the copy, and see whether each test that claims it fails."""
    began = time.monotonic()
    missing: list[str] = []
    try:
        with made_in(copy, mutant):
            for test in mutant.tests:
                ran = run_tests(copy, [test], "-x")
                if ran.ended == 1 and ran.failed:
                    continue
                how = "passes" if ran.ended == 0 and ran.passed else f"cannot say:\n{ran.output}"
                missing.append(f"{test} {how}")
    except (NoLongerApplies, OSError) as error:
        missing.append(f"it no longer applies. {error}")
    seconds = round(time.monotonic() - began, 1)
    why = "; ".join(missing)
    return Verdict(mutant.name, mutant.promise, mutant.mistake, not missing, why, seconds)


def unfit(copy: Path, mutants: Sequence[Mutant], jobs: int) -> str:
    """Why the claimed tests cannot tell anything here; empty if each passes without a mistake."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    ran = run_tests(copy, tests, "-n", str(jobs))
    return "" if ran.ended == 0 and ran.passed else ran.output


def judge_all(root: Path, mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    """Each mistake's verdict, as it comes; in a copy of the checkout for each job."""
    with tempfile.TemporaryDirectory(prefix="headgate-mutants-") as folder:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(jobs):
            copies.put(copy_of(root, Path(folder, str(number))))
        first = copies.get()
        if output := unfit(first, mutants, jobs):
            raise SystemExit(f"{output}\nmutants: these tests fail without a mistake: repair first")
        copies.put(first)

        def one(mutant: Mutant) -> Verdict:
            copy = copies.get()
            try:
                return judge(copy, mutant)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(one, mutants)


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev.mutants", description="Make seeded mistakes, each of which must fail."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--json", type=Path, help="where to write the verdicts")
    given = parser.parse_args(words)
    known = {mutant.name: mutant for mutant in all_mutants(root)}
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"there is no {FOLDER}/{unknown[0]}.toml; there are: {', '.join(known)}")
    chosen = [known[name] for name in given.names or known]
    verdicts = []
    for verdict in judge_all(root, chosen, given.jobs):
        word = "caught" if verdict.caught else "SURVIVED"
        print(f"{word:9} {verdict.name:38} {verdict.seconds:6.1f} s  {verdict.why}", flush=True)
        verdicts.append(verdict)
    caught = sum(verdict.caught for verdict in verdicts)
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")
    print(f"{caught} of {len(verdicts)} mistakes caught")
    return 0 if caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
