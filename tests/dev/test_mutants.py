"""Seeded mistakes can all be made, and one that no test catches is never taken for caught."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from dev import mutants
from dev.mutants import Change, Mutant, NoLongerApplies
from tests.support.paths import ROOT

MUTANTS = mutants.all_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mistake_can_still_be_made_and_is_claimed_by_a_test(mutant: Mutant) -> None:
    assert mutant.promise and mutant.mistake.endswith(".") and mutant.tests
    for file, text in mutant.texts(ROOT).items():
        before, after = ast.parse((ROOT / file).read_text()), ast.parse(text)
        assert ast.dump(before) != ast.dump(after), f"{file} does the same as before"
    for test in mutant.tests:
        file, _, name = test.partition("[")[0].partition("::")
        source = (ROOT / file).read_text()
        assert re.search(rf"^def {name}\(" if name else r"^def test_", source, re.MULTILINE), test


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 25


def test_lines_are_found_whatever_their_indentation_and_replaced_with_theirs() -> None:
    text = "def f():\n    if x:\n        a()\n        b()\n    return 1\n"
    change = Change("f.py", "if y:\n    a()\n".replace("y", "x"), "")
    with pytest.raises(NoLongerApplies, match="are not there"):
        change.applied("def f():\n    pass\n")
    found = Change("f.py", "\na()\nb()\n"[1:], "for one in x:\n    b()\n")
    assert found.applied(text) == (
        "def f():\n    if x:\n        for one in x:\n            b()\n    return 1\n"
    )
    with pytest.raises(NoLongerApplies, match="are there 2 times"):
        Change("f.py", "a()", "b()").applied("a()\n  a()\n")
    assert (
        Change("f.py", "        a()\n", "        pass\n").applied(text).count("        pass") == 1
    )


TREE = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "sums.py": "def total(numbers):\n    return sum(numbers)\n",
    "test_sums.py": """
import pytest
from sums import total
def test_a_total(): assert total([1, 2]) == 3
def test_of_nothing(): assert total([]) == 0
@pytest.mark.skip("it needs another machine")
def test_elsewhere(): assert total([1]) == 1
""",
}
MISTAKE = """
promise = "Sums are right"
mistake = "It is wrong."
tests = ["test_sums.py::{test}"]
[[change]]
file = "sums.py"
find = "{find}"
replace = "{replace}"
"""
SUM, WRONG = "return sum(numbers)", "return sum(numbers) * 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "find", "replace", "caught"),
    [
        pytest.param("test_a_total", SUM, WRONG, "", id="caught"),
        pytest.param("test_of_nothing", SUM, WRONG, "passes", id="not-seen"),
        pytest.param("test_a_total", "return 3", WRONG, "no longer applies", id="moved"),
        pytest.param("test_a_total", SUM, "return (", "cannot say", id="does-not-even-import"),
        pytest.param("test_elsewhere", SUM, WRONG, "cannot say", id="skipped"),
    ],
)
def test_a_mistake_is_caught_only_by_a_test_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], test: str, find: str, replace: str,
    caught: str,
) -> None:  # fmt: skip
    for name, text in TREE.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tests/mutants").mkdir(parents=True)
    mistake = MISTAKE.format(test=test, find=find, replace=replace)
    (tmp_path / "tests/mutants/wrong.toml").write_text(mistake)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)
    if test == "test_elsewhere":
        with pytest.raises(SystemExit, match="fail without a mistake"):
            mutants.main(["--jobs", "1"], tmp_path)
        return
    assert mutants.main(["--jobs", "1"], tmp_path) == (1 if caught else 0)
    said = capsys.readouterr().out
    assert caught in said
    assert said.splitlines()[-1] == f"{0 if caught else 1} of 1 mistakes caught"
