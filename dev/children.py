"""Programs that we start, whose errors we show, and that end when we do, however we end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from headgate.host import processes

BIN = Path(sys.executable).parent
_TETHERED = processes.__file__


class ChildDied(Exception):
    """Something that should run for as long as we do has ended; the sentence says what and why."""


def shown(line: str) -> str:
    """A line of a child's output as the terminal gets it; empty for what is only information."""
    try:
        event = json.loads(line)
    except ValueError:
        return line
    if not isinstance(event, dict) or event.get("level") in ("debug", "info"):
        return ""
    rest = " ".join(
        f"{key}={value}" for key, value in event.items() if key not in ("event", "level", "at")
    )
    return f"{event.get('level', '')} {event.get('event', '')} {rest}".strip()


class Child:
    """One program in a process group of its own, so that Ctrl-C reaches it only through us.

    Made by the main thread alone: the kernel ties the parent's death to the thread that forked.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=50)  # what it said last
        self._quiet = quiet
        self.process = subprocess.Popen(
            [sys.executable, "-IS", _TETHERED, str(os.getpid()), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            if text := shown(line.rstrip("\n")):
                self.lines.append(text)
                if not self._quiet:
                    self.show(text)

    def show(self, text: str) -> None:
        """Print a line, with the child's name in front."""
        print(f"{self.name} | {text}", file=sys.stderr, flush=True)

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.poll()

    def require(self) -> None:
        """ChildDied if it has ended."""
        if self.code is not None:
            self._reader.join(1)
            how = f"by signal {-self.code}" if self.code < 0 else f"with exit code {self.code}"
            why = f": {self.lines[-1]}" if self.lines else ""
            raise ChildDied(f"{self.name} ended {how}{why}")

    def stop(self, seconds: float) -> bool:
        """Ask it to end and wait for that; kill it after ``seconds``. True if it ended itself."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(seconds)
            ended = True
        except subprocess.TimeoutExpired:
            self.kill()
            ended = False
        self._close()
        return ended

    def kill(self) -> None:
        """End it and what it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _close(self) -> None:
        self._reader.join(2)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


def taken(host: str, port: int) -> str:
    """Why nobody can listen there; empty when one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def wait_until_it_listens(child: Child, host: str, port: int, seconds: float = 30) -> None:
    """Return once it accepts connections; ChildDied if it ends, or takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        child.require()
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.05)
    raise ChildDied(f"{child.name} does not listen on {host}:{port} after {seconds:.0f} s")
