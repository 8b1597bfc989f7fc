"""Other processes of this machine: their names, and ending when the parent ends.

``python processes.py PARENT COMMAND...`` becomes COMMAND, which ends when PARENT does: a program of
its own, because code between fork and exec is unsafe in a process with threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Get this signal when the parent dies (prctl(2), Linux; kept through exec); at once if it has
    died already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def written_bytes(pid: int) -> int | None:
    """What this process made the disk write, as the kernel counts it (proc(5), /proc/pid/io: pages
    that were made dirty); None where it does not say."""
    try:
        said = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        return None
    found = re.search(r"^write_bytes: (\d+)$", said, re.MULTILINE)
    return None if found is None else int(found[1])


def running_names() -> set[str]:
    """The names of all programs that run, each cut to 15 characters (proc_pid_comm(5))."""
    names = set()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            names.add(path.read_text().strip())
    return names


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
