"""One holder at any time, however the others come, wait and die."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.spool.disk import locks
from headgate.spool.errors import LockHeld
from tests.support.paths import ROOT

HOLD = """
import sys, time
from pathlib import Path
from headgate.spool.disk import locks
lock = locks.acquire(Path(sys.argv[1]), Path(sys.argv[2]), "a test's holder")
print("held", flush=True)
time.sleep(600)
"""
CROWD = """
import os, sys, time
from pathlib import Path
from headgate.spool.disk import locks
folder, note, inside, log = map(Path, sys.argv[1:5])
begin, started = os.pipe()
children = []
for number in range(50):
    child = os.fork()
    if not child:
        os.close(started)
        os.read(begin, 1)  # all at once, when the parent has started the last
        try:
            with locks.acquire(folder, note, f"child {number}", wait_seconds=60):
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                with log.open("a") as out:
                    out.write(f"{number}\\n")
                if number % 10 == 0:
                    note.unlink()  # the worst moment for it
                time.sleep(0.002)
                os.unlink(inside)
                if number % 7 == 0:
                    os.kill(os.getpid(), 9)
        except BaseException as error:
            print(number, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(started)
codes = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(code not in (0, 9) for code in codes))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "new"
    made.mkdir()
    return made


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "drain.lock"


Holder = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def holder(folder: Path, note: Path) -> Iterator[Holder]:
    """Starts a program that has taken the lock when this returns."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), str(note)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(program)
        assert program.stdout is not None and program.stdout.readline() == "held\n"
        return program

    yield start
    for program in started:
        program.kill()
        program.wait(60)
        assert program.stdout is not None
        program.stdout.close()


def is_held(folder: Path, note: Path) -> bool:
    try:
        locks.acquire(folder, note, "a look").release()
    except LockHeld:
        return True
    return False


def test_another_program_is_kept_out_and_told_who_holds_it(
    folder: Path, note: Path, holder: Holder
) -> None:
    program = holder()
    with pytest.raises(LockHeld) as refusal:
        locks.acquire(folder, note, "a second")
    assert str(refusal.value) == f"a test's holder, pid {program.pid} holds drain.lock"


def test_a_kill_of_the_holder_frees_it(folder: Path, note: Path, holder: Holder) -> None:
    for _ in range(3):
        program = holder()
        assert is_held(folder, note)
        program.send_signal(signal.SIGKILL)
        program.wait(60)
        with locks.acquire(folder, note, "the next"):
            assert note.read_text() == f"the next, pid {os.getpid()}\n"


def test_a_holder_that_was_stopped_still_holds_it(folder: Path, note: Path, holder: Holder) -> None:
    program = holder()
    program.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
    assert is_held(folder, note)
    program.send_signal(signal.SIGCONT)
    assert is_held(folder, note)


@pytest.mark.parametrize("how", ["deleted", "replaced", "renamed"])
def test_whatever_is_done_to_the_lock_file_lets_no_second_holder_in(
    folder: Path, note: Path, holder: Holder, how: str
) -> None:
    program = holder()
    if how == "renamed":
        note.rename(note.with_name("away"))
    else:
        note.unlink()
    if how == "replaced":
        note.write_text("me\n")
    assert is_held(folder, note)
    program.kill()
    program.wait(60)
    assert not is_held(folder, note)


def test_flock_on_the_file_alone_keeps_a_run_out(folder: Path, note: Path) -> None:
    note.touch()
    with note.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(folder, note)
    assert not is_held(folder, note)


def test_the_same_program_gets_it_only_once(folder: Path, note: Path) -> None:
    with locks.acquire(folder, note, "the first"):
        assert is_held(folder, note)
    assert not is_held(folder, note)


def test_two_locks_of_one_spool_do_not_touch(folder: Path, note: Path, tmp_path: Path) -> None:
    other = tmp_path / "tmp"
    other.mkdir()
    with (
        locks.acquire(folder, note, "a run"),
        locks.acquire(other, tmp_path / "receiver.lock", "a receiver"),
    ):
        pass


def test_a_refusal_leaves_no_file_open(folder: Path, note: Path) -> None:
    with locks.acquire(folder, note, "the first"):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            assert is_held(folder, note)
        assert len(os.listdir("/proc/self/fd")) == before
    assert len(os.listdir("/proc/self/fd")) == before - 2


def test_it_waits_until_the_holder_lets_go(folder: Path, note: Path) -> None:
    first = locks.acquire(folder, note, "the first")
    at, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        at[0] += seconds
        if at[0] > 7:
            first.release()

    locks.acquire(folder, note, "the second", 15, sleep, lambda: at[0]).release()
    assert 7 < at[0] < 8 and max(slept) <= 0.1


def test_it_does_not_wait_longer_than_it_said(folder: Path, note: Path) -> None:
    at = [0.0]

    def sleep(seconds: float) -> None:
        at[0] += seconds

    with locks.acquire(folder, note, "the first"):
        with pytest.raises(LockHeld, match=r"the first, pid \d+ holds drain\.lock"):
            locks.acquire(folder, note, "the second", 15, sleep, lambda: at[0])
        assert at[0] == pytest.approx(15)


def test_a_holder_is_named_even_where_its_note_is_gone_or_nonsense(
    folder: Path, note: Path
) -> None:
    assert locks.holder(note) == "somebody"
    note.write_bytes(b"\xff\n")
    assert re.fullmatch(r"\ufffd", locks.holder(note))
    note.write_bytes(b"")
    assert locks.holder(note) == "somebody"


def test_of_fifty_at_once_exactly_one_holds_it_at_any_time(
    folder: Path, note: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ran = subprocess.run(
        [sys.executable, "-c", CROWD, folder, note, tmp_path / "inside", log],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert sorted(map(int, log.read_text().split())) == list(range(50))
    assert not (tmp_path / "inside").exists()
