"""Commands with their real output: run in a folder of their own, beside a receiver and a stand-in.

Only names are changed in what they say: the folder, the port, the bucket, and instants; and what is
said of this machine's own disk is left out. A block stays as it is while only numbers differ.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.children import BIN, Child, wait_until_it_listens
from dev.stand_in import BUCKET, StandIn, environment
from headgate.host.addresses import free_port

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "photos" / "china.jpg"
JQ = " | jq"
SECONDS = 300

SESSIONS: Mapping[str, Sequence[str]] = {
    "protocol-answer": (
        'curl -H "Authorization: Bearer $TOKEN" -F image=@picture.jpg -F sequence=4711 '
        f"http://gateway:8080/uploadImage{JQ}",
    ),
    "protocol-refusal": (
        f'curl -H "Authorization: Bearer $TOKEN" -F note=hello http://gateway:8080/uploadImage{JQ}',
    ),
    "protocol-gaps": (
        'curl -H "Authorization: Bearer $TOKEN" http://gateway:8080/devices/cam-07/gaps' + JQ,
    ),
    "devices": ("headgate device add cam-{101..300} --out tokens.csv",),
    "operate": ("headgate drain", "headgate status"),
    "run": ("make run",),
    "demo": ("make demo",),
}

SETTINGS = """\
[site]
name = "north"
[spool]
path = "spool"
keep_free = "100MB"
[receiver]
bind = "127.0.0.1:{port}"
auth = "token"
"""


def session(name: str) -> str:
    """One console session as a page shows it, in a block of its own."""
    lines = ["```console"]
    for command in SESSIONS[name]:
        said = _make(command) if command.startswith("make ") else gateway().run(command)
        lines += [f"$ {command}", said.rstrip(), ""]
    lines[-1] = "```"
    return "\n".join(lines)


def shape(block: str) -> str:
    """What of a block has to stay as it is: all but numbers, sizes, the blanks beside them, and
    what is expected of the disk, which is said once a whole minute has passed."""
    block = re.sub(r"(?m)^disk .*\n", "", block)
    plain = re.sub(r"\d[\d.,:]*( [kMGT]?B\b)?", "0", block)
    return re.sub(r" +", " ", plain)


class Gateway:
    """A site of one camera that has sent three numbered images, and missed one between them."""

    def __init__(self) -> None:
        below = ROOT / "var"  # not /tmp, which may be memory
        below.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="docs-", dir=below))
        atexit.register(self.close)
        self.port = free_port()
        config = self.folder / "headgate.toml"
        config.write_text(SETTINGS.format(port=self.port))
        shutil.copy(PICTURE, self.folder / "picture.jpg")
        self._stand_in = StandIn(self.folder / "s3")
        clean = environment("AWS_", "HEADGATE_")
        self._environment = {
            **clean,
            **self._stand_in.variables(),
            "PATH": f"{BIN}:{clean['PATH']}",
            "HEADGATE_CONFIG": str(config),
            "NO_COLOR": "1",
            "NO_PROXY": "*",
        }
        receiver = {**self._environment, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        self._receiver = Child(
            "receiver", [str(BIN / "headgate-receiver"), "-q"], receiver, quiet=True
        )
        self._stand_in.wait()
        wait_until_it_listens(self._receiver, "127.0.0.1", self.port)
        made = json.loads(self._bash("headgate device add cam-07 --json"))
        self._environment["TOKEN"] = made[0]["token"]
        for number in (4708, 4709):
            (self.folder / "other.jpg").write_bytes(PICTURE.read_bytes() + b"%d" % number)
            self.run(
                'curl -H "Authorization: Bearer $TOKEN" -F image=@other.jpg '
                f"-F sequence={number} http://gateway:8080/uploadImage"
            )

    def run(self, command: str) -> str:
        """What the command says, on both of its outputs."""
        plain = command.removesuffix(JQ)
        said = self._bash(plain.replace("curl ", "curl -s ").replace("gateway:8080", self._address))
        if plain != command:
            said = json.dumps(json.loads(said), indent=2, ensure_ascii=False)
        return self._named(said)

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _bash(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"headgate: {command} ended with {done.returncode}: {done.stdout}")
        return done.stdout

    def _named(self, text: str) -> str:
        for pattern, shown in (
            (re.escape(str(self.folder)), "/var/lib/headgate"),
            (BUCKET, "north-pictures"),
            (r"\b\d{8}T\d{6}\.\d{6}Z", "20261123T160405.123456Z"),
            (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-23T16:04:05.123456Z"),
        ):
            text = re.sub(pattern, shown, text)
        return _plain(text)

    def close(self) -> None:
        """End what was started, and leave nothing."""
        for child in (self._receiver, self._stand_in.child):
            child.stop(20)
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def gateway() -> Gateway:
    """The one gateway of this program, started when it is first asked for."""
    return Gateway()


def _make(command: str) -> str:
    """What a target of the Makefile says on its first output, run in a folder of its own."""
    target = command.split()[1]
    below = ROOT / "var"
    below.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="docs-", dir=below) as name:
        here = Path(name) / "headgate"
        here.mkdir()
        for kept in ("docs", "dev", "headgate", "app", "uploader"):
            (here / kept).symlink_to(ROOT / kept)
        program = subprocess.Popen(
            [sys.executable, "-m", f"dev.{target}"], cwd=here, text=True,
            env={
                **environment("AWS_", "HEADGATE_"),
                "HEADGATE_RECEIVER_BIND": "127.0.0.1:0",
                "PYTHONPATH": str(here),
            },
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if target == "run":
            said = _until(program, "Ctrl-C ends all of it.")
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=120)
        else:
            said = program.communicate(timeout=SECONDS)[0]
        if program.returncode:
            raise SystemExit(f"headgate: {command} ended with {program.returncode}: {said}")
        said, home = _plain(said), os.path.realpath(name)
        said = said.replace(home, "/home/you")
        said = said.replace(f"{ROOT}/", "")
        return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", said)


def _plain(text: str) -> str:
    """The output without the warnings about the disk on which the docs are made."""
    lines = text.split("\n")
    return "\n".join(line for line in lines if not re.search(r"spool.unsafe|^warning  ", line))


def _until(program: subprocess.Popen[str], last: str) -> str:
    """What the program says up to a line with this in it."""
    assert program.stdout is not None
    said, until = "", time.monotonic() + SECONDS
    for line in program.stdout:
        said += line
        if last in line or time.monotonic() > until:
            break
    return said
