"""A disk that uploads fill and runs empty, again and again, as a user without root's privileges.

Root may use blocks that nobody else gets, and is held by no mode and no quota: what works for root
says little of a service. HEADGATE_TEST_FILLS is the number of rounds (a campaign has 200).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.receiver import HEADGATE, Receiver, as_user, environment
from tests.support.s3_server import strict_place
from tests.support.small_disk import disk, image, leave_free

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("HEADGATE_TEST_FILLS"),
        reason="HEADGATE_TEST_FILLS is not set: a round takes seconds, and this needs root",
    ),
]

ROUNDS = int(os.environ.get("HEADGATE_TEST_FILLS", "3"))
SOMEBODY = 61005
"""A user with no name, no group and no privilege."""
SETTINGS = {
    "spool.keep_free": "1MB", "receiver.max_image": "250kB", "uplink.link": "1GB/s",
    "uplink.share": "100%", "uplink.interval": "1min", "receiver.device_rate": "0",
    "receiver.device_parallel": "0",
}  # fmt: skip
ROOM = 12_000_000
"""Bytes that the disk has for all of the spool."""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents anybody may pass: pytest's own are their user's alone."""
    with tempfile.TemporaryDirectory(prefix="headgate-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize(("kind", "megabytes"), [("ext4", 96), ("xfs", 320)])
def test_a_disk_is_filled_and_drained_again_and_again(
    open_folder: Path,
    tmp_path: Path,
    kind: str,
    megabytes: int,
    record_property: Callable[[str, int], None],
) -> None:
    """Each round: images until one is refused, then a run; nothing is lost, left or sent twice, and
    each run makes room for an image at least: it drops no more copies than that needs."""
    with disk(open_folder, megabytes, kind=kind) as point, strict_place(tmp_path) as s3:
        os.chown(point, SOMEBODY, SOMEBODY)
        leave_free(point, ROOM)
        receiver = Receiver(point)
        receiver.log = tmp_path / "receiver.log"
        receiver.user = SOMEBODY
        receiver.flags |= SETTINGS | {
            "s3.bucket": s3.bucket, "s3.endpoint_url": s3.url, "s3.region": "us-east-1",
        }  # fmt: skip
        receiver.start()
        try:
            taken: list[int] = []
            sent: set[str] = set()
            for turn in range(ROUNDS):
                count = 0
                while receiver.post_raw(body := image(turn * 1000 + count)).status == 201:
                    sent.add(hashlib.sha256(body).hexdigest())
                    count += 1
                refused = receiver.post_raw(body)
                assert (refused.status, refused.code) == (507, "disk_full"), turn
                assert receiver.get("/readyz").status == 507, turn
                drained = headgate(receiver.flags, "drain")
                assert drained.returncode == 0, (turn, drained.stdout, drained.stderr)
                assert receiver.get("/readyz").status == 200, (turn, drained.stdout)
                taken.append(count)
            verified = headgate(receiver.flags, "verify")
            assert verified.returncode == 0, verified.stdout
            held = [s3.read(key) for key in s3.names() if not key.endswith(".headgate-probe")]
            assert sorted(hashlib.sha256(one).hexdigest() for one in held) == sorted(sent)
            assert min(taken) > 0
            assert not [one for one in receiver.events if one["level"] == "error"]
            record_property("fillings", ROUNDS)
            record_property("images", sum(taken))
            print(
                f"{kind}: {ROUNDS} rounds, {sum(taken)} images, {min(taken)} to {max(taken)} each"
            )
        finally:
            receiver.stop()


def headgate(flags: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command with these settings, by the same user."""
    sets = [word for name, value in flags.items() for word in ("--set", f"{name}={value}")]
    return subprocess.run(
        [*as_user(SOMEBODY), sys.executable, "-c", HEADGATE, *sets, *arguments], cwd=ROOT,
        capture_output=True, text=True, env=environment() | {"HOME": "/nonexistent"}, timeout=600,
    )  # fmt: skip
