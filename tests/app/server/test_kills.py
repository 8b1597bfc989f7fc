"""Kills of the processes that serve, under load: nothing that was acknowledged is lost (R1)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot
from headgate.settings.load import load
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.receiver import Receiver, await_processes, head, running, serving_processes
from tests.support.spooling import images_below
from tests.support.wait import join, wait_until

Photo = Callable[[], bytes]
KILLS = int(os.environ.get("HEADGATE_TEST_RECEIVER_KILLS", "3"))


class Load:
    """Clients that post without a pause, each image until it is acknowledged."""

    def __init__(self, receiver: Receiver, photo: Photo, clients: int) -> None:
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


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2,
                                       pytest.param(4, marks=pytest.mark.slow)])  # fmt: skip
def test_kills_under_load_lose_nothing_that_was_acknowledged(
    own: Path, photo: Photo, processes: int
) -> None:
    settings = {"receiver__device_rate": "0", "spool__keep_free": "0B"}
    with running(own, receiver__processes=str(processes), **settings) as receiver:
        await_processes(receiver, processes)
        clients = Load(receiver, photo, 8)
        try:
            for _ in range(KILLS):
                clients.more(10)
                killed = random.choice(serving_processes(receiver))
                os.kill(killed, signal.SIGKILL)
                if processes > 1:
                    clients.more(10)  # of those that go on, perhaps
                await_processes(receiver, processes, without=killed)
            clients.more(10)
        finally:
            clients.stop()
        died = [event for event in receiver.events if event["event"] == "process.died"]
        assert len(died) == KILLS
        assert receiver.half_received() == []
        assert receiver.stop() == 0
        assert "Traceback" not in receiver.log.read_text()
    spool = Spool.open(load(None, {"spool.path": str(receiver.spool)}, {}))
    try:
        places = images_below(receiver.spool)
        for image, digest in clients.acked.items():
            receipt = spool.receipt(image)
            assert receipt is not None, image
            assert receipt.sha256 == digest
            assert places[image] == ["new"]
        assert snapshot(spool).unaccounted == 0
        assert list(verify.look(spool, deep=True)) == []
    finally:
        spool.close()
