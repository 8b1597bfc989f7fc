"""A disk that is full: all say the same of it, and what makes room still works (R22)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spool.room import SPARE_BYTES
from tests.app.live import ROOT, Receiver, environment, running
from tests.app.test_room import disk, image, leave_free

pytestmark = pytest.mark.root

HEADGATE = "from uploader.cli import main; main()"


def headgate(flags: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command with these settings, in a process of its own."""
    sets = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
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
            assert asked.wrong() == ["disk-full", "uploads-refused"]
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
