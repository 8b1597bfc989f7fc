"""Signals that come together, in a process with many threads."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT
from tests.support.receiver import environment

# Each child waits in its main thread for what its SIGTERM handler does, as the server does.
CHILDREN = """
import os, signal, threading, time
from app.server.signals import take_signals

def child():
    take_signals()
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
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
