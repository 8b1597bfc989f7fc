"""Power cuts on a real ext4 and xfs: shut down under load, as if the power had gone.

FS_IOC_SHUTDOWN without flushing the log drops what was not on disk at that instant; the file
system is mounted again, its journal replayed, and every image that was acknowledged must be there.
Blind to a disk that lies about a flush.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from headgate.host.board import Board
from headgate.host.processes import end_with_parent
from headgate.monitor.collect import snapshot
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.spooling import images_below, open_spool, put
from tests.support.wait import kill, wait_until

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of linux/fs.h
NO_LOG_FLUSH = 2
CUTS = int(os.environ.get("HEADGATE_TEST_POWER_CUTS", "8"))
CUTS_A_DISK = 25
"""Then it would be full, and nothing acknowledged any more."""
THREADS = 8
PROCESSES = (1, 2, 4)
"""By how many images are received, from cut to cut."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_POWER_CUT") != "1",
        reason="HEADGATE_TEST_POWER_CUT=1 is not set: this mounts file systems of its own",
    ),
]


def receive(root: Path, seed: int, processes: int) -> None:
    """Accept images in threads of so many processes for ever, noting each acknowledgement outside
    the file system."""
    with contextlib.closing(open_spool(root)) as spool:
        spool.recover()
    board, parent = Board.shared(processes), os.getpid()
    for process in range(1, processes):
        if not os.fork():
            end_with_parent(parent, signal.SIGKILL)
            serve(root, seed, board.of(process))
    serve(root, seed, board.of(0))


def serve(root: Path, seed: int, board: Board) -> NoReturn:
    spool = open_spool(root, board=board)

    def work(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        while True:
            data = dice.randbytes(dice.randrange(1, 40_000))
            image = put(spool, data, device=f"cam-{number}").receipt.id
            # In one call: whole, and no other process's within it (PIPE_BUF, pipe(7)).
            os.write(1, f"{image} {hashlib.sha256(data).hexdigest()}\n".encode())

    for number in range(board.number, THREADS, board.processes):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    time.sleep(60)
    os._exit(1)


class Disk:
    """A file system in a file, on a loop device of its own."""

    def __init__(self, image: Path, mount: Path, kind: str) -> None:
        self.image, self.mount, self.kind = image, mount, kind
        self.device = ""
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(400 * 1024**2)
        make = {"ext4": ["mkfs.ext4", "-q", "-b", "4096"], "xfs": ["mkfs.xfs", "-q"]}[kind]
        subprocess.run([*make, str(image)], check=True, capture_output=True)

    def attach(self) -> None:
        found = subprocess.run(
            ["losetup", "--find", "--show", str(self.image)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.device = found.stdout.strip()
        subprocess.run(["mount", "-t", self.kind, self.device, str(self.mount)], check=True)

    def cut(self) -> None:
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def detach(self) -> None:
        unmount = ["umount", str(self.mount)]
        wait_until(
            lambda: subprocess.run(unmount, capture_output=True).returncode == 0,
            "the file system is let go",
        )
        subprocess.run(["losetup", "-d", self.device], check=True)
        self._await_release()

    def _await_release(self) -> None:
        """A copy of the mount in another namespace keeps the file system alive; mounted a second
        time beside that, it would be damaged by the test itself."""
        find = ["losetup", "-j", str(self.image)]
        wait_until(
            lambda: not subprocess.run(find, capture_output=True, timeout=60).stdout,
            f"nothing else holds {self.device}, mounted",
            every=0.1,
        )


@contextmanager
def attached(disk: Disk) -> Iterator[Disk]:
    disk.attach()
    try:
        yield disk
    finally:
        disk.detach()


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_every_acknowledged_image_survives_a_power_cut(
    tmp_path: Path, kind: str, record_property: Callable[[str, int], None]
) -> None:
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    images = 0
    for number, first in enumerate(range(0, CUTS, CUTS_A_DISK)):
        disk = Disk(tmp_path / f"disk-{number}", tmp_path / f"mount-{number}", kind)
        try:
            with attached(disk):
                pass
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no {kind} can be mounted from a file here: {error}")
        acked: dict[str, str] = {}
        for cut in range(first, min(first + CUTS_A_DISK, CUTS)):
            acked |= received_until_cut(disk, seed + cut, dice.random() * 0.4)
            assert_all_there(disk, acked, cut)
        disk.image.unlink()
        images += len(acked)
    print(f"{images} images acknowledged, {CUTS} cuts")
    record_property("cuts", CUTS)
    record_property("images acknowledged", images)
    assert images > CUTS * 10


def received_until_cut(disk: Disk, seed: int, seconds: float) -> dict[str, str]:
    """What was acknowledged, by id, until the power went so long after the first one; by one
    process, by two and by four in turn."""
    with attached(disk):
        program = subprocess.Popen(
            [sys.executable, __file__, str(disk.mount), str(seed), str(PROCESSES[seed % 3])],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        assert program.stdout is not None
        first = program.stdout.readline()
        time.sleep(seconds)
        disk.cut()
        time.sleep(0.02)
        rest, _ = kill(program)
    assert first, "nothing was acknowledged"
    # A line is whole or it was never acknowledged.
    lines = [first.strip(), *rest.split("\n")[:-1]]
    found = {}
    for line in lines:
        image, sha256 = line.split()
        found[image] = sha256
    return found


def assert_all_there(disk: Disk, acked: dict[str, str], cut: int) -> None:
    """Every image in its place with its bytes, and nothing wrong that repair does not mend."""
    with attached(disk):
        spool = open_spool(disk.mount)
        spool.recover()
        places = images_below(spool.path)
        for image, sha256 in acked.items():
            assert places.get(image) == ["new"], f"{image} is lost after cut {cut}"
            receipt = spool.receipt(image)
            assert receipt is not None, f"nobody knows of {image} after cut {cut}"
            data = spool.files.in_new(receipt.name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == sha256 == receipt.sha256
        found = verify.disagreements(spool, sleep=lambda _: None)
        assert {trouble.kind for trouble in found} <= {DisagreementKind.TOTALS}, found
        with spool.hold_drain_lock("a test", 5) as lock:
            verify.repair(spool, Mover(spool, lock), found)
        assert snapshot(spool).unaccounted == 0
        spool.close()


if __name__ == "__main__":
    receive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
