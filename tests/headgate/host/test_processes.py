"""Other processes: who runs, and a child that ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.host import processes
from tests.support.wait import readable

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-IS", sys.argv[1], str(os.getpid()), "/bin/sh", "-c",
                          "echo started; exec sleep 600"], stdout=int(sys.argv[2]),
                         pass_fds=[int(sys.argv[2])])
sys.stdin.read()
"""


def read_before(fd: int, seconds: float) -> bytes:
    assert readable(fd, seconds), "neither a line nor the end of the pipe came"
    return os.read(fd, 100)


def test_a_child_ends_when_its_parent_is_killed() -> None:
    """The pipe ends when its last holder is gone: parent, child, and what the child became."""
    ours, theirs = os.pipe()
    program = str(Path(processes.__file__))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, program, str(theirs)],
        stdin=subprocess.PIPE, pass_fds=[theirs],
    )  # fmt: skip
    os.close(theirs)
    with parent:
        assert read_before(ours, 60) == b"started\n"
        parent.kill()
        assert read_before(ours, 60) == b""
    os.close(ours)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_who_has_lost_its_parent_already_ends_at_once(number: str) -> None:
    program = "import signal, sys; from headgate.host.processes import end_with_parent; "
    program += f"end_with_parent(1 << 30, signal.{number}); print('goes on')"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert ran.returncode < 0
    assert ran.stdout == b""


def test_the_names_of_what_runs_hold_ours() -> None:
    assert Path("/proc/self/comm").read_text().strip() in processes.running_names()
