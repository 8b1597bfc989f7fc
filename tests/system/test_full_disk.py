"""A disk that is full: all say the same of it, and what makes room still works (R22)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headgate.spool.disk.room import SPARE_BYTES
from tests.support.http_server import Handler, serving
from tests.support.paths import ROOT
from tests.support.receiver import HEADGATE, Receiver, environment, running
from tests.support.s3_server import strict_place
from tests.support.small_disk import disk, image, leave_free
from tests.support.wait import wait_until

pytestmark = pytest.mark.root


def headgate(
    flags: dict[str, str], *arguments: str, config: str = ""
) -> subprocess.CompletedProcess[str]:
    """One command with these settings, in a process of its own."""
    sets = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
    if config:
        sets += ["--config", config]
    return subprocess.run(
        [sys.executable, "-c", HEADGATE, *sets, *arguments],
        capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120,
    )  # fmt: skip


class Asked:
    """Programs beside the receiver, each of which says whether images are taken."""

    def __init__(self, receiver: Receiver, folder: Path) -> None:
        self.textfile = folder / "headgate.prom"
        self.flags = {
            **receiver.flags,
            "receiver.bind": f"127.0.0.1:{receiver.port}",
            "metrics.textfile": str(self.textfile),
            "s3.bucket": "pictures",
            "s3.endpoint_url": "http://127.0.0.1:9",
        }

    def wrong(self) -> list[str]:
        said = headgate(self.flags, "watch", "--dry-run", "--json")
        codes = [alert["code"] for alert in json.loads(said.stdout)["wrong"]]
        return [code for code in codes if code in ("disk-full", "uploads-refused")]

    def status(self) -> str:
        return headgate(self.flags, "status").stdout

    def doctor(self) -> str:
        said = json.loads(headgate(self.flags, "doctor", "--json").stdout)
        return next(str(one["level"]) for one in said["findings"] if one["check"] == "room")

    def metric(self) -> str:
        headgate(self.flags, "drain")
        found = re.search(r"^headgate_accepting (\d)$", self.textfile.read_text(), re.MULTILINE)
        assert found is not None
        return found[1]


def test_no_room_is_said_alike_by_all_who_are_asked(tmp_path: Path) -> None:
    """Filled with images until they are refused: whatever tells of it tells the same, and within
    minutes by the alerts' clock it is told."""
    with disk(tmp_path, 121) as point:
        settings = {"spool__keep_free": "5%", "receiver__max_image": "250kB"}
        with running(point, **settings) as receiver:
            asked = Asked(receiver, tmp_path)
            answers = [receiver.post_raw(image(number)) for number in range(30)]
            assert {answer.status for answer in answers} == {201}
            ready = receiver.get("/limits").json
            assert ready["accepting"] is True
            floor = os.statvfs(point).f_blocks * os.statvfs(point).f_frsize // 20
            # More is free than the floor, and less than an image and the spool's own files need.
            filler = leave_free(point, floor + SPARE_BYTES // 2)
            refused = [receiver.post_raw(image(number)).status for number in range(100, 191)]
            assert refused == [507] * 91
            assert receiver.get("/readyz").status == 507
            limits = receiver.get("/limits").json
            assert (limits["accepting"], limits["reason"]) == (False, "disk_full")
            told = receiver.get("/status.json").json
            assert told["verdict"]["level"] == "bad"
            assert "The disk is full" in told["verdict"]["sentence"]
            assert told["admission"]["code"] == "disk_full"
            assert told["refused"][0]["code"] == "disk_full"
            assert told["refused"][0]["requests"] == 91
            assert "\nheadgate_accepting 0\n" in receiver.get("/metrics").body.decode()
            wait_until(  # the receiver writes its counts every two seconds
                lambda: asked.wrong() == ["disk-full", "uploads-refused"],
                "the refusals are in the catalog",
                detail=asked.wrong,
            )
            assert "The disk is full" in asked.status()
            assert asked.doctor() == "loses"
            assert asked.metric() == "0"
            filler.unlink()
            assert receiver.get("/limits").json["accepting"] is True
            assert "\nheadgate_accepting 1\n" in receiver.get("/metrics").body.decode()
            # The refusals are still news: they are told of as such, now that the disk is not full.
            assert asked.wrong() == ["uploads-refused"]
            assert asked.metric() == "1"
            told = receiver.get("/status.json").json
            said = [told["verdict"]["sentence"], *told["verdict"]["remarks"]]
            assert any("91 uploads were refused" in sentence for sentence in said)


@dataclass
class Hook:
    """An incoming webhook: what alerts said to it."""

    url: str = ""
    said: list[str] = field(default_factory=list)


@contextlib.contextmanager
def webhook() -> Iterator[Hook]:
    hook = Hook()

    class Hears(Handler):
        def do_POST(self) -> None:
            hook.said.append(json.loads(self.body())["text"])
            self.answer(200, b"ok")

    with serving(Hears) as port:
        hook.url = f"http://127.0.0.1:{port}/hook"
        yield hook


def fill_to_the_last_byte(point: Path) -> None:
    """Somebody else's file, then small ones where the last blocks are of no use to it."""
    other = point / "other"
    other.mkdir()
    for number in range(64):
        with contextlib.suppress(OSError), open(other / f"{number}", "wb", buffering=0) as file:
            size = 1 << 20 if number == 0 else 1
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:
                    if size == 1:
                        break
                    size = 4096 if size > 4096 else 1
            os.fsync(file.fileno())
        if os.statvfs(point).f_bfree == 0:
            break


def take_every_inode(point: Path) -> None:
    other = point / "other"
    other.mkdir()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (other / f"{number}").touch()


CASES = [
    pytest.param(
        lacks, receives, earlier, id=f"{lacks}, receiver {receives}, earlier run {earlier}",
        marks=[] if (lacks, receives, earlier) == ("bytes", True, False) else pytest.mark.slow,
    )
    for lacks in ("bytes", "inodes")
    for receives in (True, False)
    for earlier in (True, False)
]  # fmt: skip


@pytest.mark.parametrize(("lacks", "receives", "earlier"), CASES)
def test_with_nothing_free_alerts_leave_and_a_run_makes_room(
    tmp_path: Path, lacks: str, receives: bool, earlier: bool
) -> None:
    """40 images wait on a disk that somebody else fills to the last byte, or inode."""
    options = ("-N", "160") if lacks == "inodes" else ()
    settings = {
        "spool__keep_free": "0B", "receiver__max_image": "250kB", "uplink__link": "100MB/s",
        "uplink__interval": "1min", "receiver__device_rate": "0", "receiver__device_parallel": "0",
    }  # fmt: skip
    with disk(tmp_path, 64, *options) as point, strict_place(tmp_path) as s3, webhook() as hook:
        with running(point, **settings) as receiver:
            for number in range(40):
                assert receiver.post_raw(image(number)).status == 201
            flags = {
                **receiver.flags,
                "receiver.bind": f"127.0.0.1:{receiver.port}",
                "s3.bucket": s3.bucket,
                "s3.endpoint_url": s3.url,
                "s3.region": "us-east-1",
                "alerts.slack_webhook": hook.url,
            }
            if earlier:
                assert headgate(flags, "drain", "--max-bytes", "1MB").returncode == 0
            if not receives:
                receiver.stop()
            (take_every_inode if lacks == "inodes" else fill_to_the_last_byte)(point)
            said = os.statvfs(point)
            assert (said.f_favail if lacks == "inodes" else said.f_bavail) == 0

            listed = headgate(flags, "alert", "list")
            assert (listed.returncode, listed.stderr) == (0, "")
            watched = headgate(flags, "watch")
            assert (watched.returncode, watched.stderr) == (1, "")
            assert "disk-full" in watched.stdout
            assert any("The disk is full" in text for text in hook.said), hook.said
            found = json.loads(headgate(flags, "doctor", "--json").stdout)["findings"]
            room = "inodes" if lacks == "inodes" else "room"
            assert next(one["level"] for one in found if one["check"] == room) == "loses"
            status = headgate(flags, "status")
            assert (status.returncode, status.stderr) == (0, "")

            drained = headgate(flags, "drain")
            # Where it takes long it shows how far it is, in lines that begin with a bar.
            told = [line for line in drained.stderr.splitlines() if not line.startswith("[")]
            assert (drained.returncode, told) == (0, []), drained.stdout
            sent = {hashlib.sha256(image(number)).hexdigest() for number in range(40)}
            held = [s3.read(key) for key in s3.names() if not key.endswith(".headgate-probe")]
            assert {hashlib.sha256(body).hexdigest() for body in held} == sent
            verified = headgate(flags, "verify")
            assert verified.returncode == 0, verified.stdout
            if receives:  # copies have made way for images
                assert receiver.get("/readyz").status == 200
                assert receiver.post_raw(image(1000)).status == 201


def test_a_disk_that_is_not_mounted_is_missed_by_all(tmp_path: Path) -> None:
    """The disk is taken away, swapped for another, and brought back: what was acknowledged is
    there, and nothing was acknowledged into another place."""
    file = tmp_path / "headgate.toml"
    with disk(tmp_path, 64) as point:
        spool = point / "spool"
        file.write_text(
            f'[spool]\npath = "{spool}"\nkeep_free = "0B"\n[receiver]\nmax_image = "250kB"\n'
        )
        with_file = {"config": str(file)}
        flags = {
            "receiver.bind": "127.0.0.1:0",
            "receiver.max_image": "250kB",
            "s3.bucket": "pictures",
        }
        with started(file, flags) as receiver:
            assert receiver.post_raw(image(1)).status == 201
        subprocess.run(["umount", str(point)], check=True)
        try:
            for command in (("status",), ("drain", "--dry-run"), ("watch",), ("verify",)):
                said = headgate(flags, *command, **with_file)
                assert said.returncode == 1
                assert f"Mount {loop_of(point, said.stderr)}" in said.stderr
                assert "headgate spool adopt" in said.stderr
            assert "there was one" in headgate(flags, "doctor", **with_file).stdout
            with pytest.raises(AssertionError, match="there was one"), started(file, flags):
                pass
            assert list(point.iterdir()) == []
            subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
            try:
                with pytest.raises(AssertionError, match="there was one"), started(file, flags):
                    pass
            finally:
                subprocess.run(["umount", str(point)], check=True)
        finally:
            image_file = str(tmp_path / "disk.img")
            subprocess.run(["mount", "-o", "loop", image_file, str(point)], check=True)
        with started(file, flags) as receiver:
            assert receiver.post_raw(image(2)).status == 201
            assert len(list((spool / "new").rglob("*.jpg"))) == 2
        assert headgate(flags, "verify", **with_file).returncode == 0


@contextlib.contextmanager
def started(file: Path, flags: dict[str, str]) -> Iterator[Receiver]:
    """A receiver whose settings file names its spool."""
    receiver = Receiver(file.parent)
    receiver.flags = flags
    receiver.config = str(file)
    try:
        yield receiver.start()
    finally:
        receiver.stop()


def loop_of(point: Path, said: str) -> str:
    found = re.search(rf"/dev/loop\d+, which was mounted at {point}", said)
    assert found is not None, said
    return found[0]
