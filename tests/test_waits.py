"""Waits, seeds and the closing lines of the tests themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support import wait
from tests.support.paths import ROOT


def program(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_wait_returns_what_it_waited_for() -> None:
    found = iter(["", "", "there"])
    assert wait.wait_until(lambda: next(found), "something is there") == "there"


def test_a_wait_in_vain_says_what_for_and_how_things_stand() -> None:
    with pytest.raises(wait.NeverHappened, match=r"0.1 s passed without this: pigs fly\nno wings"):
        wait.wait_until(lambda: False, "pigs fly", 0.1, detail=lambda: "no wings")


def test_what_came_at_the_last_look_counts() -> None:
    """Even if the machine did not let the test look in time."""
    assert wait.wait_until(lambda: True, "it is there", seconds=-1)


def test_a_wait_for_a_program_that_ends_says_what_it_wrote() -> None:
    ended = program("import sys; sys.exit('no such port')")
    with pytest.raises(wait.NeverHappened, match=r"ended with 1 before this: it is up\nno such"):
        wait.wait_until(lambda: False, "it is up", process=ended)


def test_a_program_that_does_not_end_is_killed_and_says_what_it_wrote() -> None:
    deaf = program("import threading; print('up', flush=True); threading.Event().wait()")
    with pytest.raises(wait.NeverHappened, match=r"0.5 s passed without this: it ends"):
        wait.wait_for_exit(deaf, "it ends", 0.5)
    assert deaf.returncode is not None


def test_a_thread_that_does_not_end_is_shown_where_it_is() -> None:
    let_go = threading.Event()
    thread = threading.Thread(target=let_go.wait, args=(60,), name="the waiting one")
    thread.start()
    with pytest.raises(wait.NeverHappened, match=r"the waiting one ends\n(.|\n)*wait"):
        wait.join(thread, seconds=0.1)
    let_go.set()
    wait.join(thread)


INNER = """
import random, pytest
@pytest.mark.skip(reason="of a reason")
@pytest.mark.parametrize("n", range(5))
def test_left_out(n): pass
@pytest.mark.slow
def test_slow(): pass
def test_fails(): assert random.random() > 2, random.random()
"""


def run_inner(folder: Path, *flags: str) -> str:
    (folder / "test_inner.py").write_text(INNER)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "--rootdir",
        str(folder),
        "-c",
        str(ROOT / "pyproject.toml"),
        "-m",
        "not slow",
        *flags,
        str(folder),
    ]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    ran = subprocess.run(
        command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False, timeout=400
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_closing_lines_count_what_was_left_out_and_a_failure_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run_inner(tmp_path, "-n", "1")  # in another process, as `make test` does
    assert said.count("SKIPPED") == 0
    assert "\n5 left out, because this machine lacks what they need" in said
    assert "\n1 left out by -m or -k; make test-slow" in said
    found = re.search(r"HEADGATE_TEST_SEED=(\d+) makes", said)
    assert found
    monkeypatch.setenv("HEADGATE_TEST_SEED", found[1])
    again = run_inner(tmp_path, "-rs")
    assert "of a reason" in again
    assert "\n1 left out by -m or -k; make test-slow" in again
    chosen = re.compile(r"AssertionError: [\d.]+")
    assert set(chosen.findall(said)) == set(chosen.findall(again)) != set()
