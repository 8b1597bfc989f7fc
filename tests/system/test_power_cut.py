"""Power cuts on a real ext4 and xfs: shut down under load, as if the power had gone.

FS_IOC_SHUTDOWN without flushing the log drops what was not on disk at that instant; the file
system is mounted again, its journal replayed, and every image that was acknowledged must be there.
Blind to a disk that lies about a flush.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from headgate.host.board import Board
from headgate.host.processes import end_with_parent
from headgate.monitor.collect import snapshot
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.power_cut import Disk, Witness, attached, disks, marks, note_acked
from tests.support.spooling import images_below, open_spool, put
from tests.support.wait import kill, wait_until

CUTS = int(os.environ.get("HEADGATE_TEST_POWER_CUTS", "8"))
THREADS = 8
PROCESSES = (1, 2, 4)
"""By how many images are received, from cut to cut."""

pytestmark = marks


def receive(root: Path, seed: int, processes: int) -> None:
    """Accept images in threads of so many processes for ever; the witness keeps each
    acknowledgement outside the file system."""
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
            note_acked(image, hashlib.sha256(data).hexdigest())

    for number in range(board.number, THREADS, board.processes):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    time.sleep(60)
    os._exit(1)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_every_acknowledged_image_survives_a_power_cut(
    tmp_path: Path, kind: str, record_property: Callable[[str, int], None]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    images = 0
    for disk, cuts in disks(tmp_path, kind, CUTS):
        witness = Witness(tmp_path / f"acked-{cuts.start}")
        for cut in cuts:
            receive_until_cut(disk, witness, seed + cut, dice.random() * 0.4)
            assert_all_there(disk, witness.acked, cut)
        images += len(witness.acked)
    print(f"{images} images acknowledged, {CUTS} cuts")
    record_property("cuts", CUTS)
    record_property("images acknowledged", images)
    assert images > CUTS * 10


def receive_until_cut(disk: Disk, witness: Witness, seed: int, seconds: float) -> None:
    """Accept until the power goes, so long after the first acknowledgement; by one process, by two
    and by four in turn."""
    before = len(witness.acked)
    with attached(disk):
        program = witness.start(__file__, str(disk.mount), str(seed), str(PROCESSES[seed % 3]))
        wait_until(lambda: len(witness.acked) > before, "an image is acknowledged", process=program)
        time.sleep(seconds)
        disk.cut()
        time.sleep(0.02)
        kill(program)


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
