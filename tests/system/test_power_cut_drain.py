"""Power cuts on a real ext4 and xfs under a receiver and a run that sends, finishes and prunes.

The bucket, and a proxy that counts what left, are outside the file system that is shut down. After
each cut the bucket must hold all that the records call uploaded, the ledger must hold all that
left, and a further run must bring in the rest, each image once.
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
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from headgate.host.processes import end_with_parent
from headgate.monitor.collect import snapshot
from headgate.spool.budget.ledger import LedgerState
from headgate.spool.budget.uplink import Part
from headgate.spool.errors import DiskError
from headgate.spool.image.image import State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.power_cut import Disk, Witness, attached, disks, marks, note_acked
from tests.support.s3_server import Place, Proxy, looked_at, strict_place
from tests.support.spooling import open_spool, put
from tests.support.wait import kill, wait_until
from uploader.run.bounds import RunRequest
from uploader.run.start import run
from uploader.s3 import endpoint  # boto3, before any fork
from uploader.s3.probe import KEY

CUTS = int(os.environ.get("HEADGATE_TEST_POWER_CUTS", "2"))
THREADS = 3
BACKLOG = 40
"""Images that wait at most: they are accepted no faster than they are sent."""
SIZE_MAX = 40_000
PARALLEL = 3
FIRST_BYTES = SIZE_MAX * (PARALLEL + 2)
"""After so many the first images have arrived, whichever they were."""

pytestmark = marks


def flags(url: str, seed: int) -> dict[str, str]:
    """Settings of one cut; in every other one, a run prunes what the last one uploaded."""
    return {
        "spool__path": "spool", "s3__bucket": "test", "s3__endpoint_url": url,
        "s3__region": "us-east-1",
        "uplink__link": "1GB/s", "uplink__share": "100%", "uplink__interval": "1h",
        "uplink__parallel": str(PARALLEL), "uplink__batch_images": "10",
        "spool__keep_done": "0s" if seed % 2 else "1d",
    }  # fmt: skip


def work(root: Path, url: str, seed: int) -> NoReturn:
    """Accept images and send them, at the same time and for ever, in two processes."""
    assert endpoint.boto3
    with closing(open_spool(root, **flags(url, seed))) as spool:
        spool.recover()
    parent = os.getpid()
    if not os.fork():
        end_with_parent(parent, signal.SIGKILL)
        drain(root, url, seed)
    spool = open_spool(root, **flags(url, seed))

    def accept(number: int) -> None:
        dice = random.Random(seed * 1000 + number)
        while True:
            wait_until(
                lambda: spool.catalog.totals().waiting.images < BACKLOG, "a run sends what waits"
            )
            data = dice.randbytes(dice.randrange(1, SIZE_MAX))
            image = put(spool, data, device=f"cam-{number}").receipt.id
            note_acked(image, hashlib.sha256(data).hexdigest())

    for number in range(THREADS):
        threading.Thread(target=accept, args=(number,), daemon=True).start()
    time.sleep(300)
    os._exit(1)


def drain(root: Path, url: str, seed: int) -> NoReturn:
    os.dup2(2, 1)  # stdout is the witness's; runs write their log there
    with closing(open_spool(root, **flags(url, seed))) as spool:
        while True:
            with contextlib.suppress(DiskError):  # the disk is gone, or about to be
                run(spool, RunRequest(trigger="cron"))


class Bucket:
    """What the bucket holds: the digests of all objects of an image. An object is read once."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._read: dict[tuple[str, str], str] = {}

    def objects(self) -> dict[str, list[str]]:
        pages = self._place.client.get_paginator("list_objects_v2")
        found: dict[str, list[str]] = {}
        for page in pages.paginate(Bucket=self._place.bucket):
            for entry in page.get("Contents", []):
                key, etag = entry["Key"], entry["ETag"]
                if key.endswith(KEY):
                    continue
                if (key, etag) not in self._read:
                    self._read[key, etag] = hashlib.sha256(self._place.read(key)).hexdigest()
                image = key.rpartition("/")[2].removesuffix(".jpg")
                found.setdefault(image, []).append(self._read[key, etag])
        return found


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_power_cut_under_a_drain_loses_nothing_and_sends_nothing_twice(
    tmp_path: Path, kind: str, record_property: Callable[[str, int], None]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    images = stored = 0
    for disk, cuts in disks(tmp_path, kind, CUTS):
        witness = Witness(tmp_path / f"acked-{cuts.start}")
        with strict_place(tmp_path, bucket="test") as place, Proxy(place.url) as proxy:
            bucket = Bucket(place)
            for cut in cuts:
                before = len(bucket.objects())
                send_until_cut(disk, witness, proxy, seed + cut, dice)
                stored += len(bucket.objects()) - before
                with attached(disk):
                    assert_nothing_is_forgotten(disk, proxy.sent)
                    with closing(open_spool(disk.mount, **flags(proxy.url, seed + cut))) as spool:
                        spool.recover()
                        assert_uploaded_or_here(spool, witness.acked, bucket.objects())
                        assert_a_run_brings_all_in(spool, witness.acked, bucket)
        images += len(witness.acked)
    print(f"{CUTS} cuts, {images} images acknowledged, {stored} stored by runs that were cut")
    record_property("cuts", CUTS)
    record_property("images acknowledged", images)
    record_property("images sent by runs that were cut", stored)
    assert stored >= CUTS


def send_until_cut(
    disk: Disk, witness: Witness, proxy: Proxy, seed: int, dice: random.Random
) -> None:
    """Accept and send until the power goes: after so many bytes, and at any instant after that."""
    before = proxy.sent
    enough = before + FIRST_BYTES + dice.randrange(600_000)
    with attached(disk):
        with closing(open_spool(disk.mount, **flags(proxy.url, seed))) as spool:
            looked_at(spool)
        program = witness.start(__file__, str(disk.mount), proxy.url, str(seed))
        wait_until(lambda: proxy.sent >= enough, "a run sends", process=program)
        time.sleep(dice.random() * 0.2)
        disk.cut()
        time.sleep(0.02)
        kill(program)
        proxy.await_hung_up()


def assert_nothing_is_forgotten(disk: Disk, sent: int) -> None:
    """The ledgers are whole, and hold no less than what left."""
    charged = 0
    for part in Part:
        state = LedgerState.decode((disk.mount / "spool" / "state" / part).read_bytes())
        charged += sum(state.charges.values())
    assert charged >= sent, "bytes left whose charge is not on the disk"


def assert_uploaded_or_here(
    spool: Spool, acked: dict[str, str], objects: dict[str, list[str]]
) -> None:
    """Before anything is repaired: what is called uploaded is in the bucket, and all else lies
    here with its bytes. No image is in the bucket twice, or as something else."""
    for image, sha256 in acked.items():
        receipt = spool.receipt(image)
        assert receipt is not None, f"nobody knows of {image}"
        assert objects.get(image, [sha256]) == [sha256], f"{image} is not one object"
        if receipt.state is State.UPLOADED:
            assert image in objects, f"{image} is called uploaded; the bucket does not have it"
        else:
            copies = [place.read_bytes() for place in spool.files.places(receipt.name)]
            assert copies, f"{image} is lost: {receipt.state}"
            assert {hashlib.sha256(copy).hexdigest() for copy in copies} == {sha256}, image


def assert_a_run_brings_all_in(spool: Spool, acked: dict[str, str], bucket: Bucket) -> None:
    report = run(spool, RunRequest(until_empty=True))
    objects = bucket.objects()
    assert {image: [sha256] for image, sha256 in acked.items()}.items() <= objects.items(), report
    assert all(len(digests) == 1 for digests in objects.values())
    for image in acked:
        receipt = spool.receipt(image)
        assert receipt is not None and receipt.safe_to_erase, (image, receipt)
    found = verify.disagreements(spool, sleep=lambda _: None)
    assert {trouble.kind for trouble in found} <= {DisagreementKind.TOTALS}, found
    with spool.hold_drain_lock("a test", 5) as lock:
        verify.repair(spool, Mover(spool, lock), found)
    assert snapshot(spool).unaccounted == 0


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
