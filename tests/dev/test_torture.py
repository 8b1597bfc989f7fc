"""The table of campaigns: every row can run, and says what pytest said, never more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev.torture import campaign, table
from dev.torture.campaign import State
from dev.torture.rows import OPEN, ROWS, Row, Size
from tests.support.paths import ROOT

RELIABILITY = (ROOT / "docs/RELIABILITY.md").read_text(encoding="utf-8")


def test_every_row_has_its_own_name_and_tests_that_are_there() -> None:
    names = [row.name for row in ROWS] + [one.name for one in OPEN]
    assert len(set(names)) == len(names)
    for test in (test for row in ROWS for test in (*row.tests, *row.peers)):
        file, _, name = test.partition("::")
        assert (ROOT / file).exists(), test
        if name:
            defined = rf"^def {re.escape(name.partition('[')[0])}\("
            assert re.search(defined, (ROOT / file).read_text(), re.MULTILINE), test


def test_every_variable_of_a_row_is_one_that_the_tests_read_and_published_is_more() -> None:
    for row in ROWS:
        for size in Size:
            assert all(f"`{name}`" in RELIABILITY for name in row.environment(size)), row.name
        if len(row.sizes) > 1:
            small, large = (row.sizes[size] for size in (Size.CI, Size.PUBLISHED))
            assert small.keys() == large.keys()
            assert all(int(small[name]) < int(large[name]) for name in small)


REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase name="a"><properties><property name="kills" value="3"/></properties></testcase>
<testcase name="b"><properties><property name="kills" value="4"/>{more}</properties>{end}</testcase>
<testcase name="c"><skipped message="strace is not installed"/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("more", "end", "state", "why"),
    [
        ("", "", State.HELD, []),
        ("", '<failure message="one is lost"/>', State.BROKEN, ["b: one is lost"]),
        ("", '<error message="no receiver"/>', State.BROKEN, ["b: no receiver"]),
        ('<property name="lost" value="1"/>', "", State.BROKEN, []),
    ],
)
def test_a_report_is_read_for_what_was_done_and_what_was_lost(
    more: str, end: str, state: State, why: list[str]
) -> None:
    found = campaign.read(REPORT.format(more=more, end=end).encode())
    lost = {"lost": 1} if more else {}
    assert found == (
        state, {"cases": 2, "kills": 7, **lost}, [*why, "strace is not installed"],
    )  # fmt: skip


def test_where_every_test_was_left_out_nothing_held() -> None:
    left_out = (
        b'<testsuites><testcase name="a"><skipped message="needs root"/></testcase></testsuites>'
    )
    assert campaign.read(left_out) == (State.NOT_MADE, {"cases": 0}, ["needs root"])


def test_what_a_peer_lost_is_told_and_breaks_no_row() -> None:
    report = b"""<testsuites><testcase name="a"><properties>
    <property name="peer" value="other 1.0"/><property name="acknowledged" value="1200"/>
    <property name="lost" value="7"/></properties></testcase>
    <testcase name="b"><skipped message="there is no node"/></testcase></testsuites>"""
    assert campaign.read_peers(report) == [
        "other 1.0: 1,200 acknowledged, 7 lost", "b: there is no node",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_row_is_run_and_repeated_from_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_dice.py").write_text(
        "import random\n"
        "def test_a(record_property): record_property('dice', random.randrange(10**9))\n"
        "def test_b(): assert random.random() < 2, 'it broke'\n"
    )
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    row = Row("dice", "Chance repeats", "dice are thrown", ("test_dice.py",))
    first, again, other = (campaign.run(row, Size.CI, seed) for seed in (1, 1, 2))
    assert first.state is State.HELD
    assert first.counts == again.counts != other.counts
    assert first.again == "make torture SIZE=ci ROW=dice SEED=1"
    (tmp_path / "test_dice.py").write_text("def test_a(): assert False, 'it broke'\n")
    broken = campaign.run(row, Size.CI, 1)
    assert broken.state is State.BROKEN
    shown = table.markdown("here", [first, broken], OPEN)
    assert "1 of 2 rows held." in shown
    assert "**broken**: test_a: AssertionError: it broke" in shown
    assert all(f"**{one.name}**, open: {one.why}" in shown for one in OPEN)
