"""Clients that post to a receiver without a pause, and their witness: what was acknowledged."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import closing

from headgate.monitor.collect import snapshot
from headgate.settings.load import load
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.receiver import Receiver, head
from tests.support.spooling import images_below
from tests.support.wait import join, wait_until


class Load:
    """Each client posts an image again until it is acknowledged, then the next one. ``acked`` are
    ids and digests, as the answers had them."""

    def __init__(self, receiver: Receiver, photo: Callable[[], bytes], clients: int) -> None:
        self.acked: dict[str, str] = {}
        self.lost_answers = 0
        self._stop = threading.Event()
        self._receiver = receiver
        self._images = threading.Lock()
        self._photo = photo
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self, client: int) -> None:
        sequence = 0
        while not self._stop.is_set():
            sequence += 1
            with self._images:
                image = self._photo()
            answer = None
            while answer is None or answer.status not in (200, 201):
                top = head(
                    "POST", "/images", image, Content_Type="image/jpeg",
                    X_Device=f"cam-{client}", X_Sequence=str(sequence),
                )  # fmt: skip
                with contextlib.suppress(OSError):
                    answer = self._receiver.send(top, image)
                if answer is None:
                    self.lost_answers += 1
                    if self._stop.is_set():
                        return
            self.acked[answer.json["id"]] = answer.json["sha256"]

    def more(self, count: int) -> None:
        """Wait for so many more acknowledgements."""
        before = len(self.acked)
        wait_until(lambda: len(self.acked) >= before + count, "images are acknowledged")

    def stop(self) -> None:
        self._stop.set()
        join(*self._threads)


def assert_none_lost(receiver: Receiver, acked: dict[str, str]) -> None:
    """Each acknowledged image waits in new/, once, and nothing disagrees."""
    with closing(Spool.open(load(None, {"spool.path": str(receiver.spool)}, {}))) as spool:
        places = images_below(receiver.spool)
        for image, digest in acked.items():
            receipt = spool.receipt(image)
            assert receipt is not None, image
            assert receipt.sha256 == digest
            assert places[image] == ["new"]
        assert snapshot(spool).unaccounted == 0
        assert list(verify.look(spool, deep=True)) == []
