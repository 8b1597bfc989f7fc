"""The owner's site for real, in small or whole: ``python -m bench.headline [--minutes 10]``.

Cameras post to a receiver, cron's own line starts the runs (each interval, by sh, in cron's bare
environment), and a genuine S3 server (SeaweedFS, which ``.ci/seaweedfs/start`` installs) takes the
images. At the end everything that was acknowledged has to be in the bucket with its digest. What
each second held is read from the ledger, to which it is charged before it leaves.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from bench.receive.images import Image, stamp
from bench.rounds import Failed
from bench.simulate.plot import Line, chart
from dev.children import BIN, Child, ChildDied, wait_until_it_listens
from dev.machine import machine
from headgate.host.addresses import free_port
from headgate.settings.units import human_size
from headgate.spool.budget.ledger import LedgerState

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "scale"
BUCKET = "headline"
_LINK_MB, _SHARE = 12_000, 20  # a minute, percent
_IMAGES, _IMAGE_BYTES, _CAMERAS = 2000, 250_000, 200
_SENDERS = 16
_POST_SECONDS = 60.0
_SETTINGS = """\
[site]
name = "headline"
[spool]
path = "spool"
keep_free = "100MB"
[receiver]
bind = "127.0.0.1:{port}"
[uplink]
link = "{link}kB/min"
share = "{share}%"
interval = "{interval}min"
[s3]
bucket = "{bucket}"
endpoint_url = "{endpoint}"
[log]
file = "drain.log"
"""


@dataclass(slots=True)
class Cameras:
    """Posts images at even distances; what was acknowledged, and when it had been posted."""

    port: int
    per_minute: float
    image: Image
    sent: dict[str, int] = field(default_factory=dict)  # SHA-256 -> size
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def post_until(self, ends_at: float, began_at: float) -> None:
        """For one thread: the next image that is due, again and again."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_POST_SECONDS)
        with contextlib.closing(connection):
            while True:
                with self._lock:
                    number = next(self._numbers)
                due = began_at + number * 60 / self.per_minute
                if due >= ends_at:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                self._post(connection, number)

    def _post(self, connection: http.client.HTTPConnection, number: int) -> None:
        body = self.image.before + stamp(number) + self.image.after
        headers = {"Content-Type": "image/jpeg", "X-Device": f"cam-{number % _CAMERAS:04}"}
        while True:
            began = time.monotonic()
            connection.request("POST", "/images", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status in (200, 201):
                break
            self.refused += 1
            time.sleep(1)  # a camera tries again
        with self._lock:
            self.sent[self.image.sha256(number)] = len(body)
            self.seconds.append(time.monotonic() - began)


class Cron:
    """Starts what stands in cron's line, as cron does, whenever a whole interval begins."""

    def __init__(self, line: str, home: Path, minutes: int) -> None:
        self._command = line.split(maxsplit=5)[5].partition("\n")[0].replace("\\%", "%")
        self._environment = {
            "HOME": str(home), "LOGNAME": "headline", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin",
        }  # fmt: skip
        self._seconds = minutes * 60
        self._runs: list[subprocess.Popen[bytes]] = []
        self._next = time.time() // self._seconds * self._seconds + self._seconds

    def tick(self) -> None:
        """Called now and then."""
        if time.time() >= self._next:
            self._next += self._seconds
            self.start()

    def start(self) -> None:
        """A run, now."""
        self._runs.append(
            subprocess.Popen(["/bin/sh", "-c", self._command], env=self._environment, cwd="/")
        )

    @property
    def started(self) -> int:
        return len(self._runs)

    def finish(self) -> None:
        """Wait until no run is under way."""
        for run in self._runs:
            run.wait(600)


@dataclass(slots=True)
class Watcher:
    """What each second held, by the ledger's own time, and what waited."""

    state: Path
    charges: dict[int, int] = field(default_factory=dict)
    waiting: list[tuple[float, float]] = field(default_factory=list)

    def look(self, at: float, waiting_bytes: int) -> None:
        """Often enough: the ledger's ring holds one interval."""
        self.waiting.append((at / 60, waiting_bytes / 1e6))
        for slot, charged in LedgerState.decode(
            (self.state / "ledger").read_bytes()
        ).charges.items():
            self.charges[slot] = max(charged, self.charges.get(slot, 0))

    def by_second(self) -> list[int]:
        """From the first second that was charged to the last."""
        if not self.charges:
            return []
        return [self.charges.get(at, 0) for at in range(min(self.charges), max(self.charges) + 1)]


def play(chosen: argparse.Namespace) -> Iterator[str]:
    """Play it, and say what happened; Failed if an image is missing or a second above the cap."""
    per_minute = _IMAGES * chosen.scale
    link = round(_LINK_MB * 1000 * chosen.scale)
    cap = link * 1000 * _SHARE // 100 // 60
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_below())))
        server = stack.enter_context(_genuine(folder / "s3"))
        client = boto3.client(
            "s3",
            endpoint_url=server["HEADGATE_TEST_S3_ENDPOINT"],
            aws_access_key_id=server["HEADGATE_TEST_S3_ACCESS_KEY"],
            aws_secret_access_key=server["HEADGATE_TEST_S3_SECRET_KEY"],
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        port = free_port()
        config = folder / "headgate.toml"
        config.write_text(
            _SETTINGS.format(
                port=port,
                link=link,
                share=_SHARE,
                interval=chosen.interval,
                bucket=BUCKET,
                endpoint=server["HEADGATE_TEST_S3_ENDPOINT"],
            )
        )
        credentials = folder / ".aws" / "credentials"
        credentials.parent.mkdir()
        credentials.write_text(
            f"[default]\naws_access_key_id = {server['HEADGATE_TEST_S3_ACCESS_KEY']}\n"
            f"aws_secret_access_key = {server['HEADGATE_TEST_S3_SECRET_KEY']}\n"
        )
        environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
        receiver = Child(
            "receiver", [str(BIN / "headgate-receiver"), "-q", "--config", str(config)], environment
        )
        stack.callback(receiver.stop, 30)
        wait_until_it_listens(receiver, "127.0.0.1", port)
        shown = _headgate(config, environment, "cron", "show")
        cron = Cron(_line(shown), folder, chosen.interval)
        cameras = Cameras(port, per_minute, Image.of(_IMAGE_BYTES))
        watcher = Watcher(folder / "spool" / "state")
        began = time.monotonic()
        ends = began + chosen.minutes * 60
        threads = [
            threading.Thread(target=cameras.post_until, args=(ends, began), daemon=True)
            for _ in range(_SENDERS)
        ]
        for thread in threads:
            thread.start()
        received, uploaded = 0, 0

        def look() -> None:
            receiver.require()
            told = sum(cameras.sent.values()) - _stored(folder / "spool")
            watcher.look(time.monotonic() - began, max(0, told))

        while any(thread.is_alive() for thread in threads):
            cron.tick()
            look()
            time.sleep(1)
        for _ in range(20 * chosen.interval):  # the runs after the last image
            if not list((folder / "spool" / "new").rglob("*.jpg")):
                break
            cron.tick()
            look()
            time.sleep(1)
        else:
            cron.start()
        cron.finish()
        look()
        took = time.monotonic() - began
        missing = _missing(client, cameras.sent)
        _headgate(config, environment, "verify")
        received, uploaded = len(cameras.sent), len(cameras.sent) - len(missing)
        seconds = watcher.by_second()
        cameras.seconds.sort()
        yield f"{machine()}; {chosen.minutes} minutes, scale {chosen.scale:g}"
        yield ""
        yield "| | measured |"
        yield "|---|---|"
        yield f"| images acknowledged | {received:,} ({human_size(sum(cameras.sent.values()))}) |"
        yield f"| of them in the bucket, with their SHA-256 | {uploaded:,} |"
        yield f"| refusals, tried again | {cameras.refused:,} |"
        yield (
            f"| answer to a post | median {_part(cameras.seconds, 0.5):.0f} ms, 99 % "
            f"{_part(cameras.seconds, 0.99):.0f} ms |"
        )
        yield f"| runs that cron's line started | {cron.started} |"
        yield f"| most bytes of a second | {max(seconds, default=0):,} of {cap:,} |"
        yield f"| until no image waited | {took / 60:.1f} min |"
        _plots(chosen.out, seconds, cap, watcher)
        if missing:
            raise Failed(f"{len(missing)} images that were acknowledged are not in the bucket")
        if max(seconds, default=0) > cap:
            raise Failed("a second held more than the cap")


def _below() -> Path:
    below = ROOT / "var"  # not /tmp, which may be memory
    below.mkdir(exist_ok=True)
    return below


def _s3_port() -> int:
    """A port for SeaweedFS, which listens on the three after it as well, and 10,000 above all four
    for its other protocol."""
    return next(
        port
        for port in (free_port() for _ in range(1000))
        if port < 55_000
        and all(_is_free(port + more + n) for more in (0, 10_000) for n in range(4))
    )


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _genuine(folder: Path) -> Iterator[Mapping[str, str]]:
    """SeaweedFS on loopback, and the variables that lead to it."""
    environment = {**os.environ, "WEED_PORT": str(_s3_port())}
    ran = subprocess.run(
        [".ci/seaweedfs/start", str(folder)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise Failed("SeaweedFS does not start; what .ci/seaweedfs/start said is above")
    try:
        yield dict(line.split("=", 1) for line in ran.stdout.splitlines())
    finally:
        subprocess.run([".ci/seaweedfs/stop", str(folder)], cwd=ROOT, check=False)


def _headgate(config: Path, environment: Mapping[str, str], *words: str) -> str:
    ran = subprocess.run(
        [str(BIN / "headgate"), "--config", str(config), *words], env=dict(environment), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise Failed(f"headgate {' '.join(words)}: {ran.stderr or ran.stdout}")
    return ran.stdout


def _line(shown: str) -> str:
    """Cron's line for the runs: the first that is no comment."""
    return next(line for line in shown.splitlines() if line and not line.startswith("#"))


def _stored(spool: Path) -> int:
    """Bytes that left new/ for done/."""
    return sum(path.stat().st_size for path in (spool / "done").rglob("*.jpg"))


def _missing(client: Any, sent: Mapping[str, int]) -> set[str]:
    """The images whose SHA-256 no object has, by what the server itself reports or holds."""
    found: set[str] = set()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for one in page.get("Contents", ()):
            head = client.head_object(Bucket=BUCKET, Key=one["Key"], ChecksumMode="ENABLED")
            told = head.get("ChecksumSHA256", "")
            digest = base64.b64decode(told).hex() if told else head["Metadata"].get("sha256", "")
            if one["Size"] == sent.get(digest):
                found.add(digest)
    return set(sent) - found


def _part(seconds: Sequence[float], part: float) -> float:
    return seconds[min(len(seconds) - 1, int(part * len(seconds)))] * 1000 if seconds else 0.0


def _plots(out: Path, seconds: Sequence[int], cap: int, watcher: Watcher) -> None:
    out.mkdir(parents=True, exist_ok=True)
    ends = len(seconds) / 60
    sent = [(at / 60, size * 60 / 1e6) for at, size in enumerate(seconds)]
    limit = [(0.0, cap * 60 / 1e6), (ends, cap * 60 / 1e6)]
    lines = [Line("sent in a second", sent), Line("the cap", limit, dashed=True)]
    svg = chart("What left, second by second (measured)", "minutes", "MB a minute", lines)
    (out / "headline-sent.svg").write_text(svg, encoding="utf-8")
    svg = chart("What waited (measured)", "minutes", "MB", [Line("waiting", watcher.waiting)])
    (out / "headline-waiting.svg").write_text(svg, encoding="utf-8")


def main(words: list[str]) -> int:
    """Print the table and write the plots."""
    parser = argparse.ArgumentParser(prog="python -m bench.headline")
    parser.add_argument("--minutes", type=int, default=10, help="how long cameras post")
    parser.add_argument("--interval", type=int, default=1, help="minutes from run to run")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the owner's site")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the plots")
    chosen = parser.parse_args(words)
    try:
        for line in play(chosen):
            print(line, flush=True)
    except (Failed, ChildDied) as failure:
        print(f"headline: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
