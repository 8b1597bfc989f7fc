"""``make run`` as its user meets it: one image's whole road, and nothing left behind afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.environment import PYTHON_PATH
from tests.support.paths import ROOT
from tests.support.wait import SECONDS, wait_until


def until(ask: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """The first answer that is true."""
    return wait_until(ask, what, seconds)


class Run:
    """``python -m dev.run`` in a folder of its own, with a free port."""

    def __init__(self, folder: Path, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.output = folder / "output"
        unset = ("HEADGATE_", "AWS_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
        environment |= {
            "PYTHONPATH": PYTHON_PATH,
            "HEADGATE_RECEIVER_BIND": "127.0.0.1:0",
            **variables,
        }
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dev.run"],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def greeting(self, pattern: str) -> str:
        def found() -> str:
            match = re.search(pattern, self.said)
            assert match or self.process.poll() is None, self.said
            return match[1] if match else ""

        return str(until(found, pattern))

    @property
    def port(self) -> int:
        return int(self.greeting(r"page +http://127\.0\.0\.1:(\d+)/"))

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def post(self) -> Any:
        """Post the photograph with the very curl that was printed (or as it would)."""
        curl = shlex.split(self.greeting(r"(curl .*)"))
        if not shutil.which("curl"):
            field, _, photograph = curl[2].partition("=@")
            with open(self.folder / photograph, "rb") as file:
                return requests.post(curl[3], files={field: file}, timeout=SECONDS).json()
        ran = subprocess.run([*curl, "-sS"], capture_output=True, cwd=self.folder, check=True)
        return json.loads(ran.stdout)

    def children(self) -> list[int]:
        """Everything that was started, and what that started."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(path.name)] = parent_of(int(path.name))
        found, new = [], [self.process.pid]
        while new:
            new = [pid for pid, parent in parents.items() if parent in new]
            found += new
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def run(**variables: str) -> Run:
        started.append(Run(tmp_path / "checkout", **variables))
        return started[-1]

    yield run
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def uploaded(run: Run, image: str) -> Any:
    receipt = run.ask(f"/images/{image}")
    return receipt if receipt.get("state") == "uploaded" else None


def test_an_image_s_whole_road_twice_and_a_drain_by_hand(start: Callable[..., Run]) -> None:
    run = start()
    receipt = run.post()
    photograph = (ROOT / "docs" / "photos" / "china.jpg").read_bytes()
    assert receipt["sha256"] == hashlib.sha256(photograph).hexdigest()
    there = until(lambda: uploaded(run, receipt["id"]), "upload")
    assert there["safe_to_erase"] is True
    spool = run.folder / "var" / "spool"
    (done,) = (path for path in (spool / "done").rglob("*") if path.is_file())
    assert done.read_bytes() == photograph
    assert not any(path.is_file() for path in (spool / "new").rglob("*"))
    assert "stand-in" in run.said
    children = run.children()
    assert len(children) >= 3  # the stand-in, the receiver and what serves for it
    assert run.end(signal.SIGINT) == 0
    assert [pid for pid in children if alive(pid)] == []
    assert "Traceback" not in run.said

    again = start()  # the receipt, the local copy and the object are all still there
    assert uploaded(again, receipt["id"])
    # The image, and what the first run found out about the server with.
    until(lambda: "2 objects" in again.said, "the stand-in's first line")
    other = (ROOT / "docs" / "photos" / "rocket.jpg").read_bytes()
    sent = {"data": other, "headers": {"Content-Type": "image/jpeg"}, "timeout": SECONDS}
    image = requests.post(f"http://127.0.0.1:{again.port}/images", **sent).json()["id"]
    by_hand = drain_by_hand(again)
    assert by_hand.returncode == 0, by_hand.stderr
    assert "stand-in" in by_hand.stdout
    assert again.ask(f"/images/{image}")["safe_to_erase"]
    assert again.end(signal.SIGTERM) == 0
    alone = drain_by_hand(again)
    assert (alone.returncode, "no bucket is set" in alone.stderr) == (2, True)


def drain_by_hand(run: Run) -> subprocess.CompletedProcess[str]:
    """``make drain`` beside it."""
    unset = ("HEADGATE_", "AWS_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    return subprocess.run(
        [sys.executable, "-m", "dev.drain"], cwd=run.folder, text=True, capture_output=True,
        env={**kept, "PYTHONPATH": PYTHON_PATH}, check=False, timeout=SECONDS,
    )  # fmt: skip


@pytest.mark.slow
def test_a_second_ctrl_c_ends_an_upload_that_goes_on_for_ever(start: Callable[..., Run]) -> None:
    run = start()
    head = b"POST /images HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: image/jpeg\r\n" % run.port
    with socket.create_connection(("127.0.0.1", run.port)) as slow:
        slow.sendall(head + b"Content-Length: 999\r\nExpect: 100-continue\r\n\r\n")
        assert b"100" in slow.recv(100)  # its body is waited for, so the receiver knows of it
        slow.sendall(b"\xff\xd8")
        children = run.children()
        run.process.send_signal(signal.SIGINT)
        run.greeting("(ending)")
        time.sleep(1)
        run.process.send_signal(signal.SIGTERM)  # as when the terminal closes: not impatience
        time.sleep(0.5)
        assert run.process.poll() is None
        assert run.end(signal.SIGINT) == 1
    until(lambda: not [pid for pid in children if alive(pid)], "end of the children")


def test_what_was_started_ends_with_a_killed_parent(start: Callable[..., Run]) -> None:
    run = start()
    assert run.port
    children = run.children()
    run.end(signal.SIGKILL)
    until(lambda: not [pid for pid in children if alive(pid)], "end of the children")


@pytest.mark.slow
def test_when_the_receiver_dies_all_of_it_ends_and_says_so(start: Callable[..., Run]) -> None:
    run = start()
    assert run.port
    children = run.children()
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    (receiver,) = (
        pid
        for pid, command in commands.items()
        if b"headgate-receiver" in command and parent_of(pid) == run.process.pid
    )
    os.kill(receiver, signal.SIGKILL)
    assert run.process.wait(SECONDS) == 1
    assert "receiver ended by signal 9" in run.said
    assert [pid for pid in children if alive(pid)] == []


def test_a_taken_port_names_its_fix(start: Callable[..., Run]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(HEADGATE_RECEIVER_BIND=f"127.0.0.1:{port}")
        assert run.process.wait(SECONDS) == 1
    assert f"HEADGATE_RECEIVER_BIND=127.0.0.1:{port + 1} make run" in run.said
    assert not (run.folder / "var" / "spool").exists()


def test_another_spool_and_a_bucket_of_one_s_own_are_honoured(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start(
        HEADGATE_SPOOL_PATH=str(tmp_path / "elsewhere"),
        HEADGATE_S3_BUCKET="pictures",
        HEADGATE_S3_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ACCESS_KEY_ID="nobody",
        AWS_SECRET_ACCESS_KEY="nothing",
    )
    assert run.greeting(r"bucket +(.*)") == "pictures"
    assert run.greeting(r"spool +(.*)") == str(tmp_path / "elsewhere")
    assert not (run.folder / "var").exists()
    receipt = run.post()
    assert run.ask(f"/images/{receipt['id']}")["state"] in ("waiting", "sending")
    assert run.end() == 0


def test_wrong_settings_are_all_named(start: Callable[..., Run]) -> None:
    run = start(HEADGATE_UPLINK_SHARE="200%", HEADGATE_UPLINK_LINK="fast")
    assert run.process.wait(SECONDS) == 2
    assert "uplink.share" in run.said
    assert "uplink.link" in run.said


@pytest.mark.slow
def test_a_demo_fills_the_wall_of_the_site_that_runs(start: Callable[..., Run]) -> None:
    run = start()
    port = run.port
    command = [sys.executable, "-m", "dev.demo", "--seconds", "2"]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    told = subprocess.run(
        command, cwd=run.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"watch it at http://127.0.0.1:{port}/" in told.stdout
    assert "every image arrived once" in told.stdout
    assert {device["device"] for device in run.ask("/status.json")["devices"]} >= {
        f"cam-{number:02}" for number in range(1, 21)
    }
