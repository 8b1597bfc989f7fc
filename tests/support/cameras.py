"""Cameras of tests: each client of ``clients/`` behind the same few calls."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Protocol

from tests.support.bad_network import BadNetwork
from tests.support.paths import ROOT
from tests.support.receiver import Receiver

PYTHON = ROOT / "clients" / "headgate_client.py"
C = ROOT / "clients" / "c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-Wconversion")


@cache
def python_client() -> ModuleType:
    """The Python client, loaded from its file, as a device would."""
    spec = importlib.util.spec_from_file_location("headgate_client", PYTHON)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["headgate_client"] = module
    spec.loader.exec_module(module)
    return module


class Camera(Protocol):
    """A device with a spool of its own. Time passes for it between two passes, and never in one."""

    folder: Path
    slept: list[float]

    def put(self, picture: bytes) -> None: ...

    def send(self) -> str:
        """One pass; why it ended before its end, or nothing."""

    def states(self) -> dict[str, str]:
        """The state of each picture in the spool, by its SHA-256."""

    def retry(self) -> None: ...

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What a process runs for one pass, without waits."""


class PythonCamera:
    """The Python client as a module, with a clock of its own."""

    def __init__(self, folder: Path, port: int, token: str, **config: object) -> None:
        self.folder = folder
        self.slept: list[float] = []
        self.now = 1_800_000_000.0
        self._port, self._token, self._config = port, token, config
        self.start()

    def start(self) -> None:
        """As after a reboot."""
        client = python_client()
        config = client.Config(
            gateway=f"http://127.0.0.1:{self._port}", token=self._token, spool=self.folder,
            **self._config,
        )  # fmt: skip
        self.client = client.Client(config, now=lambda: self.now, sleep=self.slept.append)

    def put(self, picture: bytes) -> None:
        self.client.put(picture)

    def send(self) -> str:
        self.now += 7200  # longer than any pause
        self.report = self.client.send()
        return str(self.report.trouble)

    def states(self) -> dict[str, str]:
        return {p.sha256: p.state.value for p in self.client.spool.pictures()}

    def retry(self) -> None:
        self.client.retry()

    def command(self) -> tuple[list[str], dict[str, str]]:
        code = (
            "import runpy, sys, time; time.sleep = lambda _: None; "
            f"sys.argv = ['x', '--config', {str(self.folder / 'client.ini')!r}, 'send']; "
            f"runpy.run_path({str(PYTHON)!r}, run_name='__main__')"
        )
        (self.folder / "client.ini").write_text(
            f"[gateway]\nurl = http://127.0.0.1:{self._port}\n[spool]\npath = {self.folder}\n"
            "[retention]\nask_every = 0s\n"
        )
        return [sys.executable, "-I", "-c", code], {"HEADGATE_CLIENT_TOKEN": self._token}


class CCamera:
    """The C client as a command, compiled with the port for POSIX and no sleep."""

    def __init__(self, program: Path, folder: Path, port: int, token: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._log = folder / "slept"
        self._program, self._port, self._token = program, port, token

    def put(self, picture: bytes) -> None:
        source = self.folder / "frame"
        source.write_bytes(picture)
        self._run("put", str(source))

    def send(self) -> str:
        lines = self._run("send").splitlines()
        return lines[1] if len(lines) > 1 else ""

    def states(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.folder.glob("*.rec")):
            known = dict(
                line.split("=", 1) for line in path.read_text().splitlines() if "=" in line
            )
            found[known["sha256"]] = known["state"]
        return found

    def retry(self) -> None:
        self._run("retry")

    @property
    def slept(self) -> list[float]:
        return [float(line) for line in self._log.read_text().split()] if self._log.exists() else []

    def command(self) -> tuple[list[str], dict[str, str]]:
        words = [str(self._program), "127.0.0.1", str(self._port), str(self.folder), "send"]
        return words, self._environment()

    def _environment(self) -> dict[str, str]:
        return {
            "HEADGATE_CLIENT_TOKEN": self._token, "HEADGATE_CLIENT_ASK_EVERY": "1",
            "SLEPT": str(self._log), "ASAN_OPTIONS": "detect_leaks=1",
        }  # fmt: skip

    def _run(self, *words: str) -> str:
        command = [str(self._program), "127.0.0.1", str(self._port), str(self.folder), *words]
        done = subprocess.run(
            command, env={**os.environ, **self._environment()}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode in (0, 1, 3), done.stderr
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        return done.stdout


def compiled(compiler: str, folder: Path) -> Path:
    """The C client's command, with every warning an error and the sanitizers on."""
    program = folder / "headgate-client"
    sources = [C / "headgate_client.c", C / "port_posix.c", C / "main.c",
               ROOT / "tests" / "data" / "no_sleep.c"]  # fmt: skip
    sanitizers = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    subprocess.run(
        [compiler, *STRICT, *sanitizers, *map(str, sources), "-o", str(program)],
        check=True, timeout=120,
    )  # fmt: skip
    return program


@dataclass
class Gateway:
    """A receiver that takes nobody without a token."""

    receiver: Receiver
    devices: Iterator[tuple[str, str]]

    def images(self, device: str) -> list[Path]:
        """What it holds of a device."""
        return [path for path in self.receiver.images() if f"_{device}_" in path.name]


@dataclass
class Field:
    """A camera, a bad network, and the gateway behind it."""

    gateway: Gateway
    network: BadNetwork
    camera: Camera
    device: str
    token: str

    def arrived(self) -> list[bytes]:
        """The pictures that the gateway holds of this camera."""
        return sorted(path.read_bytes() for path in self.gateway.images(self.device))
