"""What a run uploads or sets aside is announced to the other gateways of the site, and that never
holds the run up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from headgate.shared.connection import SharedTrouble
from headgate.spool.elsewhere import Elsewhere
from headgate.spool.image.image import Receipt, Sent, State
from tests.support.spooling import open_spool, put
from uploader.run import announced


class Heard:
    """In place of the other gateways."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.away = False

    def say(self, receipts: Sequence[Receipt]) -> None:
        if self.away:
            raise SharedTrouble("Redis: away")
        self.receipts += receipts


def test_a_run_announces_what_became_of_images(tmp_path: Path) -> None:
    spool, heard = open_spool(tmp_path), Heard()
    images = [put(spool, b"%d" % number).receipt.id for number in range(4)]
    spool.elsewhere = cast("Elsewhere", heard)
    items = {item.id: item for item in spool.catalog.after(0, 10)}
    with spool.hold_drain_lock("a test", 0) as lock:
        with announced.mover(spool, lock) as mover:
            proof = Sent("bucket", "key", "etag")
            mover.finish([(items[one], proof) for one in images[:2]], spool.now())
            mover.set_aside(items[images[2]], "too large", spool.now())
        states = {one.id: one.state for one in heard.receipts}
        assert states == dict(zip(images, [State.UPLOADED] * 2 + [State.SET_ASIDE], strict=False))
        heard.away = True
        with announced.mover(spool, lock) as mover:
            mover.finish([(items[images[3]], proof)], spool.now())
    receipt = spool.receipt(images[3])
    assert receipt is not None and receipt.safe_to_erase
    spool.elsewhere = None
    spool.close()
