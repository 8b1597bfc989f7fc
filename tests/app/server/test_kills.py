"""Kills of the receiver's processes, under load: nothing that was acknowledged is lost (R1)."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.load import Load, assert_none_lost
from tests.support.receiver import await_processes, running, serving_processes
from tests.support.wait import wait_for_exit

Photo = Callable[[], bytes]
Record = Callable[[str, int], None]
KILLS = int(os.environ.get("HEADGATE_TEST_RECEIVER_KILLS", "2"))
SETTINGS = {"receiver__device_rate": "0", "spool__keep_free": "0B"}


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2,
                                       pytest.param(4, marks=pytest.mark.slow)])  # fmt: skip
def test_kills_under_load_lose_nothing_that_was_acknowledged(
    own: Path, photo: Photo, processes: int, record_property: Record
) -> None:
    with running(own, receiver__processes=str(processes), **SETTINGS) as receiver:
        await_processes(receiver, processes)
        clients = Load(receiver, photo, 3 * processes)
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
    assert_none_lost(receiver, clients.acked)
    record_property("kills", KILLS)
    record_property("images acknowledged", len(clients.acked))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_kills_of_the_supervisor_lose_nothing_that_was_acknowledged(
    own: Path, photo: Photo, processes: int, record_property: Record
) -> None:
    """Its processes end with it; whoever starts it again finds all that they acknowledged."""
    with running(own, receiver__processes=str(processes), **SETTINGS) as receiver:
        port = receiver.port
        receiver.flags["receiver.bind"] = f"127.0.0.1:{port}"  # where the clients go on sending
        clients = Load(receiver, photo, 3 * processes)
        try:
            for _ in range(KILLS):
                clients.more(10)
                assert receiver.process is not None
                receiver.process.kill()
                wait_for_exit(receiver.process, "the supervisor is gone")
                receiver.start()
            clients.more(10)
        finally:
            clients.stop()
        assert receiver.half_received() == []
        assert receiver.stop() == 0
        assert "Traceback" not in receiver.log.read_text()
    assert_none_lost(receiver, clients.acked)
    record_property("kills", KILLS)
    record_property("images acknowledged", len(clients.acked))
