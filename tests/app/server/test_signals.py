"""Signals that come together, in a process with many threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.receiver import START, Receiver, environment
from tests.support.wait import wait_for_exit

# Each child waits in its main thread for what its SIGTERM handler does, as the server does.
CHILDREN = """
import os, signal, threading, time
from app.server.signals import take_signals

def child():
    take_signals()
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    if turn % 2:  # as one that falls asleep at the moment at which a signal comes
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.write(ready, b"x")
    threading.Event().wait()

for turn in range(40):
    told, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        child()
    os.read(told, 1)
    time.sleep(0.01)
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        os.kill(pid, one)
    until = time.monotonic() + 60
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            raise SystemExit(f"child {turn} never heard of it")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 7, ended
    os.close(told)
    os.close(ready)
"""


def test_of_many_signals_at_once_the_handler_hears() -> None:
    command = [sys.executable, "-c", CHILDREN]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The stop comes when granian has installed its handler, and has not said what that is to wake.
SLOW_TO_GET_READY = """
import os, signal, time
import granian._signals
from app.server import supervisor

supervisor.STOP_SECONDS = 10**6  # no one else ends it
install = granian._signals.set_sync_signals

def installed():
    made = install()
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(0.5)
    return made

granian._signals.set_sync_signals = installed
"""


def test_a_stop_while_the_server_gets_ready_is_heard(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SLOW_TO_GET_READY + START]
    for name, value in Receiver(tmp_path).flags.items():
        command += ["--set", f"{name}={value}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        _, said = wait_for_exit(process, "the receiver hears of the stop and ends")
    assert process.returncode == 0
    assert "receiver.started" in said and "Traceback" not in said
