"""The headgate command in a process of its own, without the start of an interpreter for each.

One process for each test worker has imported all commands, and forks for each call. What is called
is a program as from a shell: with its own descriptors, variables, folder, signals and end. A test
of the start itself, or one that needs the process while it runs, starts an interpreter.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from tests.support.environment import PYTHON_PATH, without_settings

_MESSAGE_MAX = 120_000
"""A datagram of variables and words; Linux takes twice that by default."""


def call(
    *words: str, env: Mapping[str, str], cwd: str | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``headgate`` with these words, and wait until it has ended."""
    message = {"words": words, "env": dict(env), "cwd": cwd or os.getcwd()}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        answer, theirs = os.pipe()
        try:
            files = [theirs, out.fileno(), err.fileno()]
            try:
                socket.send_fds(_asking(os.getpid()), [json.dumps(message).encode()], files)
            finally:
                os.close(theirs)
            pid, status = _answer(answer, words, timeout)
        finally:
            os.close(answer)
        assert pid
        said = [_text(file.fileno()) for file in (out, err)]
    return subprocess.CompletedProcess(["headgate", *words], status, *said)


def _answer(answer: int, words: Iterable[str], timeout: float) -> tuple[int, int]:
    """The id of the program, which comes first, and how it ended."""
    told, until = b"", time.monotonic() + timeout
    while told.count(b"\n") < 2:
        ready, _, _ = select.select([answer], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            if told:
                os.kill(int(told), signal.SIGKILL)
            raise subprocess.TimeoutExpired(["headgate", *words], timeout)
        piece = os.read(answer, 100)
        assert piece, f"the process that starts commands has gone: {told!r}"
        told += piece
    pid, status = map(int, told.split())
    return pid, status


def _text(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode()


@functools.cache
def _asking(_worker: int) -> socket.socket:
    """The way to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=theirs,
            env=without_settings() | {"PYTHONPATH": PYTHON_PATH},
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours


def _import_all() -> None:
    import uploader
    import uploader.cli.commands

    for package in (uploader.cli.commands, *map(importlib.import_module, _HEAVY)):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)


_HEAVY = ("uploader.run", "uploader.s3", "uploader.alerts", "uploader.wire", "uploader.cloudwatch")


def serve(asked: socket.socket) -> None:
    """Fork for each message, until the test worker has gone. Returns in each forked program, where
    the caller is to start the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        message, files, _, _ = socket.recv_fds(asked, _MESSAGE_MAX, 3)
        if not message:
            sys.exit()
        if os.fork() == 0:
            asked.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer, out, err = files
            pid = os.fork()
            if pid == 0:
                os.close(answer)
                _become(json.loads(message), out, err)
                return
            _report(answer, pid)
        for file in files:
            os.close(file)


def _report(answer: int, pid: int) -> NoReturn:
    os.write(answer, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(message: Any, out: int, err: int) -> None:
    """Be the program that was asked for."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in ((1, out), (2, err)):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(message["env"])
    time.tzset()
    os.chdir(message["cwd"])
    sys.argv[1:] = message["words"]


if __name__ == "__main__":
    _import_all()
    with socket.socket(fileno=os.dup(0)) as _asked:
        serve(_asked)
    from uploader.cli.main import main

    main()
