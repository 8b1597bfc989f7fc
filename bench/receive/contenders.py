"""The programs that are measured: each started as a whole, on a folder and a port of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.rounds import Failed
from headgate.host.addresses import free_port

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
PEERS_BIN = ROOT / ".venv-bench" / "bin"
NODE_FOLDER = ROOT / ".venv-bench" / "node"

_START_SECONDS = 30
_STOP_SECONDS = 20
_ALL_SECONDS = 0.5
"""From the first of its processes that listens to the last: connections are made once."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a program that listens on ``port`` and stores below ``folder``."""

    words: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the table. ``command`` gets a port, a folder and the number of connections."""

    name: str
    command: Callable[[int, Path, int], Command]
    kept: str = "new"
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that answers."""

    pid: int
    port: int


def headgate(settings: tuple[str, ...] = ()) -> Callable[[int, Path, int], Command]:
    """The receiver, with settings beside the usual ones: ("receiver.threads=64",)."""

    def command(port: int, folder: Path, _connections: int) -> Command:
        words = [sys.executable, "-c", "from app.server.server import main; main()"]
        wanted = (f"receiver.bind=127.0.0.1:{port}", f"spool.path={folder}", *settings)
        for setting in wanted:
            words += ["--set", setting]
        return Command(words, {"PYTHONPATH": str(ROOT)})

    return command


def multer(how: str, processes: int = 1) -> Callable[[int, Path, int], Command]:
    """Node with multer: "plain" as the replaced service has it, "same" with our work; several
    processes by Node's cluster."""

    def command(port: int, folder: Path, _connections: int) -> Command:
        node = shutil.which("node")
        if node is None:
            raise Failed("there is no node on this machine")
        script = _node_folder() / "multer.js"
        words = [node, str(script), how, str(port), str(folder), str(processes)]
        return Command(words, {"NODE_ENV": "production"})

    return command


def fastapi(processes: int = 1, *, durable: bool = True) -> Callable[[int, Path, int], Command]:
    """uvicorn with uvloop and httptools, as installed with uvicorn[standard]; ``durable``: it
    flushes, as Headgate does."""

    def command(port: int, folder: Path, _connections: int) -> Command:
        words = [str(_peer("uvicorn")), "fastapi_upload:app", "--app-dir", str(PEERS)]
        words += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        if processes > 1:
            words += ["--workers", str(processes)]
        return Command(words, _folder(folder) | ({"BENCH_FLUSH": "1"} if durable else {}))

    return command


def flask(processes: int = 1) -> Callable[[int, Path, int], Command]:
    """gunicorn, each worker with a thread for each connection."""

    def command(port: int, folder: Path, connections: int) -> Command:
        words = [str(_peer("gunicorn")), "flask_upload:app", "--chdir", str(PEERS)]
        words += ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
        words += ["--workers", str(processes), "--threads", str(connections)]
        return Command([*words, "--log-level", "warning"], _folder(folder))

    return command


def nginx(port: int, folder: Path, _connections: int) -> Command:
    """One worker; what arrives is a PUT of the image itself."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise Failed("there is no nginx on this machine (Debian: nginx-light)")
    (folder / "new").mkdir()
    text = (PEERS / "nginx.conf").read_text(encoding="utf-8")
    if os.getuid() == 0:
        text = "user root;\n" + text
    conf = folder / "nginx.conf"
    conf.write_text(text.replace("PORT", str(port)).replace("FOLDER", str(folder)))
    return Command([found, "-p", str(folder), "-c", str(conf)])


def _folder(folder: Path) -> dict[str, str]:
    (folder / "spooled").mkdir()
    return {"BENCH_FOLDER": str(folder), "TMPDIR": str(folder / "spooled")}


def _peer(name: str) -> Path:
    path = PEERS_BIN / name
    if not path.exists():
        raise Failed(f"there is no {name} in .venv-bench (make bench-ready makes it)")
    return path


def _node_folder() -> Path:
    """multer and Express as the lock file says, installed once."""
    lock = PEERS / "package-lock.json"
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    made = NODE_FOLDER / ".made"
    if not made.exists() or made.read_bytes() != lock.read_bytes():
        npm = shutil.which("npm")
        if npm is None:
            raise Failed("there is no npm on this machine")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PEERS / name, NODE_FOLDER / name)
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=NODE_FOLDER,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Failed(f"npm ci failed: {done.stderr.strip()[-300:]}")
        shutil.copy(lock, made)
    shutil.copy(PEERS / "multer.js", NODE_FOLDER / "multer.js")
    return NODE_FOLDER


@contextlib.contextmanager
def running(contender: Contender, folder: Path, connections: int) -> Iterator[Running]:
    """Start it, wait until it listens, and end it afterwards. Failed if it does not start."""
    port = free_port()
    command = contender.command(port, folder, connections)
    log_path = folder.with_suffix(".log")
    kept = {k: v for k, v in os.environ.items() if not re.match("HEADGATE_|BENCH_", k)}
    with log_path.open("wb") as log:
        started = subprocess.Popen(
            command.words,
            cwd=folder,
            env={**kept, **command.variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if started.poll() is None and time.monotonic() < until:
                    time.sleep(0.05)
                    continue
            said = log_path.read_text(errors="replace").strip()[-500:]
            raise Failed(f"it did not start: {said}")
        time.sleep(_ALL_SECONDS)
        yield Running(started.pid, port)
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        log_path.unlink(missing_ok=True)


def several(count: int) -> str:
    """How a contender with so many processes is called."""
    return "one process" if count == 1 else f"{count} processes"


def contenders(processes: tuple[int, ...]) -> tuple[Contender, ...]:
    """All, those that can with each of these numbers of processes; nginx and multer as it comes
    are there once."""
    found = []
    for count in processes:
        how = several(count)
        found += [
            Contender(f"Headgate, {how}", headgate((f"receiver.processes={count}",))),
            Contender(f"multer, same work, {how}", multer("same", count)),
            Contender(f"FastAPI, same work, {how}", fastapi(count)),
            Contender(f"Flask on gunicorn, same work, {how}", flask(count)),
        ]
    return (
        *found,
        Contender("multer as it comes", multer("plain")),
        Contender("nginx, raw body", nginx, raw=True),
    )
