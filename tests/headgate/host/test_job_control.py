"""Ctrl-Z stops a command between transactions, and never within one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from headgate.spool.disk.write_queue import WriteQueue
from tests.support.paths import ROOT
from tests.support.wait import wait_until

PROGRAM = """
import sys
from contextlib import closing
from pathlib import Path
from headgate.host.job_control import stop_between_transactions
from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog

stop_between_transactions()
with closing(Catalog(Path(sys.argv[1]))) as catalog:
    for number in range(2):
        with catalog._on.write, sqlite.transaction(catalog._on.writer):
            print("within", flush=True)
            for line in sys.stdin:  # runs on after the signal
                if line == "end\\n":
                    break
                print(line, end="", flush=True)
        print("outside", flush=True)
        sys.stdin.readline()
"""


def test_a_stop_waits_for_the_end_of_the_transaction(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "catalog.sqlite3")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None

    def say(line: str) -> None:
        assert program.stdin is not None
        program.stdin.write(f"{line}\n")
        program.stdin.flush()

    def is_stopped() -> bool:
        status = Path(f"/proc/{program.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    try:
        assert program.stdout.readline() == "within\n"
        program.send_signal(signal.SIGTSTP)
        for word in ("still", "here"):
            say(word)
            assert program.stdout.readline() == f"{word}\n"
        say("end")
        wait_until(is_stopped, "it stops after the transaction")
        queue = WriteQueue(tmp_path / "catalog.queue")
        assert queue._take_now(), "its turn at writing is over"
        queue.__exit__(None, None, None)
        queue.close()
        program.send_signal(signal.SIGCONT)
        assert program.stdout.readline() == "outside\n"
        program.send_signal(signal.SIGTSTP)
        wait_until(is_stopped, "outside of one it stops at once")
        program.send_signal(signal.SIGCONT)
        say("")
        assert program.stdout.readline() == "within\n"
        say("end")
        assert program.stdout.readline() == "outside\n"
        say("")
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait(60)
        program.stdin.close()
        program.stdout.close()


def test_the_command_takes_the_signal() -> None:
    script = (
        "import signal, sys; from headgate.host import job_control; from uploader.cli import main;"
        "main.headgate.main = lambda **_: print(signal.getsignal(signal.SIGTSTP)); main.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60,
        check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "_Transactions.stop" in ran.stdout
