"""One row at work: its tests run by pytest, and what they recorded is read from its report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dev.torture.rows import PEER_ROUNDS, Row, Size

ROOT = Path(__file__).resolve().parent.parent.parent
SEED_MAX = 10**9
_WHY_MAX = 300
_LOST = "lost"
"""What a campaign records beside its counts, if anything acknowledged was."""


class State(StrEnum):
    """What came of a row."""

    HELD = "held"
    BROKEN = "broken"
    NOT_MADE = "not made"  # this machine lacks what it needs


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table. ``counts``: what was done, by its name; ``why``: what failed, or what
    this machine lacks, a sentence each."""

    name: str
    promise: str
    done: str
    state: State
    counts: dict[str, int]
    why: list[str]
    size: str
    seed: int
    seconds: float
    again: str  # the command that repeats it
    peers: list[str]  # what the same did to each peer, a sentence each


def command(tests: Sequence[str], report: Path) -> list[str]:
    """These tests in one process, those that are slow and those that need root among them."""
    return [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=",
        "--import-mode=importlib", "-p", "no:schemathesis", "-p", "no:anyio",
        f"--junitxml={report}", *tests,
    ]  # fmt: skip


def run(row: Row, size: Size, seed: int) -> Result:
    """Run it to its end. The same seed makes the same random choices."""
    began = time.monotonic()
    said, ended = _report(row.tests, row.environment(size), seed)
    state, counts, why = read(said) if said else (State.BROKEN, {}, [ended])
    peers = []
    if row.peers:
        said, ended = _report(row.peers, {"HEADGATE_TEST_PEERS": PEER_ROUNDS[size]}, seed)
        peers = read_peers(said) if said else [ended]
    seconds = round(time.monotonic() - began, 1)
    again = f"make torture SIZE={size} ROW={row.name} SEED={seed}"
    return Result(
        row.name, row.promise, row.done, state, counts, why, size.value, seed, seconds, again, peers
    )


def _report(tests: Sequence[str], variables: Mapping[str, str], seed: int) -> tuple[bytes, str]:
    """What pytest reports of these tests, and the end of what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "PYTEST"))}
    environment |= {**variables, "HEADGATE_TEST_SEED": str(seed)}
    with tempfile.TemporaryDirectory(prefix="headgate-torture-") as folder:
        report = Path(folder, "report.xml")
        ended = subprocess.run(
            command(tests, report), cwd=ROOT, env=environment, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        said = report.read_bytes() if report.exists() else b""
    return said, ended.stdout[-_WHY_MAX:]


def read(report: bytes) -> tuple[State, dict[str, int], list[str]]:
    """What a report of pytest (JUnit's XML) says: "cases" counts the tests that ran."""
    counts: dict[str, int] = {"cases": 0}
    why: dict[str, None] = {}
    broken = False
    for case in ElementTree.fromstring(report).iter("testcase"):
        if (skipped := case.find("skipped")) is not None:
            why[_sentence(skipped)] = None
            continue
        counts["cases"] += 1
        for name, value in _recorded(case):
            counts[name] = counts.get(name, 0) + value
        for failure in (*case.iterfind("failure"), *case.iterfind("error")):
            broken = True
            why[f"{case.get('name')}: {_sentence(failure)}"] = None
    if broken or counts.get(_LOST):
        return State.BROKEN, counts, list(why)
    return (State.HELD if counts["cases"] else State.NOT_MADE), counts, list(why)


def read_peers(report: bytes) -> list[str]:
    """Each peer, and what was counted of it; or why it could not be had, or did not go on."""
    found: dict[str, None] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        said = {
            one.get("name", ""): one.get("value", "")
            for one in case.iterfind("properties/property")
        }
        name = said.pop("peer", "")
        if name:
            found[f"{name}: " + ", ".join(f"{int(n):,} {what}" for what, n in said.items())] = None
        for left_out in (*case.iterfind("skipped"), *case.iterfind("failure"),
                         *case.iterfind("error")):  # fmt: skip
            found[f"{case.get('name')}: {_sentence(left_out)}"] = None
    return list(found)


def _recorded(case: ElementTree.Element) -> Iterator[tuple[str, int]]:
    for one in case.iterfind("properties/property"):
        yield one.get("name", ""), int(one.get("value", "0"))


def _sentence(element: ElementTree.Element) -> str:
    text = re.sub(r"\s+", " ", element.get("message") or element.text or "it does not say why")
    return text[:_WHY_MAX]
