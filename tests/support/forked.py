"""Programs of Headgate without the start of an interpreter for each.

For each kind of program one process of each test worker has imported what it needs, and forks for
each start. What is started is a program as from a shell: with its own descriptors, variables,
folder, signals and end. Tests of the start itself start an interpreter.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.support.environment import PYTHON_PATH, without_settings
from tests.support.wait import readable

_MESSAGE_MAX = 120_000
"""A datagram of variables and words; Linux takes twice that by default."""


class Forked(subprocess.Popen[bytes]):
    """A program that was forked: as ``Popen``, without pipes."""

    def __init__(
        self,
        kind: str,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        out: int,
        err: int,
        cwd: Path | None = None,
        session: bool = False,
    ) -> None:
        self.args, self.returncode = (kind, *words), None  # type: ignore[assignment]
        self.stdin = self.stdout = self.stderr = None
        message = {
            "words": words,
            "env": dict(env),
            "cwd": str(cwd or Path.cwd()),
            "session": session,
        }
        self._answer, theirs = os.pipe()
        try:
            socket.send_fds(
                _forks(os.getpid(), kind), [json.dumps(message).encode()], [theirs, out, err]
            )
        finally:
            os.close(theirs)
        self._told = b""
        self._read(lambda: b"\n" in self._told, None)
        self.pid = int(self._told)

    def __del__(self) -> None:
        os.close(self._answer)

    def _read(self, enough: Callable[[], bool], timeout: float | None) -> bool:
        """Whether so much came in time: the id of the program, and later how it ended."""
        until = None if timeout is None else time.monotonic() + timeout
        while not enough():
            left = None if until is None else max(0.0, until - time.monotonic())
            if not readable(self._answer, left):
                return False
            piece = os.read(self._answer, 100)
            assert piece, f"the process that forks has gone: {self._told!r}"
            self._told += piece
        return True

    def _ended(self, timeout: float | None) -> bool:
        if self.returncode is None and self._read(lambda: self._told.count(b"\n") == 2, timeout):
            self.returncode = int(self._told.split()[1])
        return self.returncode is not None

    def poll(self) -> int | None:
        return self.returncode if self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, input: object = None, timeout: float | None = None) -> tuple[Any, Any]:
        self.wait(timeout)
        return None, None

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def headgate(
    *words: str, env: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Call the command with these words, and wait until it has ended."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        called = Forked("headgate", words, env=env, out=out.fileno(), err=err.fileno())
        try:
            status = called.wait(timeout)
        except subprocess.TimeoutExpired:
            called.kill()
            raise
        said = [os.pread(file, os.fstat(file).st_size, 0).decode()
                for file in (out.fileno(), err.fileno())]  # fmt: skip
    return subprocess.CompletedProcess(called.args, status, *said)


@functools.cache
def _forks(_worker: int, kind: str) -> socket.socket:
    """The way to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    more = {"PYTHONPATH": PYTHON_PATH, **KINDS[kind].environment}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind], stdin=theirs, env=without_settings() | more
        )

    def end() -> None:
        ours.close()
        process.wait(60)

    atexit.register(end)
    return ours


class Kind:
    """What a program is, and what is imported before it is forked."""

    def __init__(self, main: str, *imports: str, **environment: str) -> None:
        self.main, self.imports, self.environment = main, imports, environment

    def prepare(self) -> Callable[[], object]:
        """Import all of it, with ``.*`` each module of a package, and return the entry point."""
        for name in self.imports:
            package = importlib.import_module(name.removesuffix(".*"))
            if name.endswith(".*"):
                for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
                    importlib.import_module(found.name)
        module = importlib.import_module(self.main)
        entry: Callable[[], object] = module.main
        return entry


KINDS = {
    "headgate": Kind(
        "uploader.cli.main", "uploader.cli.commands.*", "uploader.run.*", "uploader.s3.*",
        "uploader.alerts.*", "uploader.wire.*", "uploader.cloudwatch.*",
    ),
    # Its log shows each warning.
    "receiver": Kind(
        "app.server.server", "app.server.serving", "structlog", "app.http.fast_path",
        "app.http.routes", "app.http.jobs", "app.page.page", "app.people.actions",
        "app.upload.accept", PYTHONWARNINGS="default",
    ),
}  # fmt: skip


def serve(asked: socket.socket) -> None:
    """Fork for each message, until the test worker has gone. Returns in each forked program, whose
    entry point is to be called then."""
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
    try:
        os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
    finally:  # whether or not somebody asks
        os._exit(0)


def _become(message: Any, out: int, err: int) -> None:
    """Be the program that was asked for."""
    if message["session"]:
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 100)
    os.environ.clear()
    os.environ.update(message["env"])
    time.tzset()
    os.chdir(message["cwd"])
    sys.argv[1:] = message["words"]


if __name__ == "__main__":
    _main = KINDS[sys.argv[1]].prepare()
    with socket.socket(fileno=os.dup(0)) as _asked:
        serve(_asked)
    _main()
