"""What the processes of one receiver allow together is what one of them would allow alone."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.admission import checks
from app.admission.admission import Gate
from app.admission.disk_breaker import Latch
from app.admission.rate_limits import Intake, Rates, give_back_intake
from app.admission.reservations import Reservations
from app.http.metrics import Metrics
from app.refusals import Refused
from headgate.host.board import DEVICE_UPLOADS, Board, Part
from headgate.spool.disk.room import SPARE_BYTES, FreeSpace, Receiving, admission, on_disk
from headgate.spool.errors import DiskError
from tests.support.spooling import open_spool
from tests.support.wait import join, wait_until


@pytest.fixture
def board() -> Board:
    return Board.shared(2)


def code_of(rule: Callable[[], object]) -> str:
    try:
        rule()
    except Refused as why:
        return why.refusal.code
    return ""


def test_a_device_sends_so_often_to_all_together(board: Board) -> None:
    here, there = (Rates(3, 0, lambda: 1000.0, board.of(number)) for number in range(2))

    def once(rates: Rates) -> str:
        return code_of(lambda: rates.hold("cam").__enter__())

    assert [once(here), once(there), once(here), once(there)] == ["", "", "", "too_many_requests"]


def test_a_device_sends_so_much_at_once_to_all_together(board: Board) -> None:
    here, there = (Rates(0, 2, lambda: 1000.0, board.of(number)) for number in range(2))
    with here.hold("cam"):
        with there.hold("cam"):
            assert code_of(lambda: here.hold("cam").__enter__()) == "too_many_at_once"
            assert code_of(lambda: there.hold("cam").__enter__()) == "too_many_at_once"
        (place,) = (at for at, uploads in enumerate(board.all(DEVICE_UPLOADS)[0]) if uploads)
        board.all(DEVICE_UPLOADS)[1][place] = 1
        assert code_of(lambda: here.hold("cam").__enter__()) == "too_many_at_once"
        board.clear(1)  # it was killed in the middle of its upload
        with here.hold("cam"):
            pass


def test_the_site_takes_in_so_much_by_all_together(board: Board) -> None:
    here, there = (Intake(100, lambda: 1000.0, board.of(number)) for number in range(2))
    here.take(60)
    there.take(300)
    assert here.wait_seconds() == there.wait_seconds() == 3
    give_back_intake(board.of(0), 1)  # it was killed
    assert here.wait_seconds() == 0


def test_two_processes_are_never_promised_the_same_bytes(board: Board) -> None:
    held = [Reservations(board.of(number)) for number in range(2)]
    disk = FreeSpace(SPARE_BYTES + 10 * on_disk(30), 0, 10**6)
    everyone, inside, taken, refused = threading.Barrier(16), threading.Event(), [], []

    def admit(size: int, images: int) -> None:
        checks.admitted(admission(30, disk, Receiving(size, images)))

    def upload(reservations: Reservations) -> None:
        everyone.wait(60)
        try:
            with reservations.hold(30, admit):
                taken.append(1)
                inside.wait(60)
        except Refused:
            refused.append(1)

    threads = [threading.Thread(target=upload, args=(held[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(taken) + len(refused) == 16, "each was let in or refused")
    assert (len(taken), len(refused)) == (10, 6)
    board.clear(1)  # its promises are free at once
    assert held[0].images == held[0].size // on_disk(30)
    inside.set()
    join(*threads)


def test_while_one_looks_at_the_disk_the_other_waits(board: Board) -> None:
    here, there = board.of(0), board.of(1)

    def admit(_size: int, _images: int) -> None:
        assert not there.lock(Part.ROOM).try_enter()

    with Reservations(here).hold(30, admit):
        assert there.lock(Part.ROOM).try_enter()


def test_the_trouble_of_one_closes_all_and_ends_with_it(board: Board) -> None:
    hangs = threading.Event()
    here, there = (Latch(hangs.wait, board=board.of(number)) for number in range(2))
    trouble = DiskError(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "writing an image")
    there.trip(trouble)
    seen = here.trouble()
    assert seen is not None
    assert (str(seen), seen.full, seen.doing) == (str(trouble), True, "writing an image")
    board.clear(1)
    assert here.trouble() is None
    there.trip(DiskError(OSError(errno.EIO, "x" * 5000), "writing an image"))
    assert "writing an image" in str(here.trouble())
    hangs.set()


def test_metrics_are_totals_and_outlive_their_process(tmp_path: Path, board: Board) -> None:
    spools = [open_spool(tmp_path, board=board.of(number)) for number in range(2)]
    try:
        here, there = (Metrics(spool, Gate(spool)) for spool in spools)
        here.refused("disk_full")
        there.refused("disk_full")
        for seconds in (0.004, 0.02):
            here.acknowledged(seconds)
            there.acknowledged(seconds + 100)
        board.clear(1)
        found = {
            (sample.name, sample.labels.get("reason") or sample.labels.get("le")): sample.value
            for family in text_string_to_metric_families(here.exposition().decode())
            for sample in family.samples
        }
        assert found["headgate_refused_total", "disk_full"] == 2
        assert found["headgate_refused_total", "internal"] == 0
        name = "headgate_upload_duration_seconds"
        assert found[f"{name}_bucket", "0.005"] == 1
        assert found[f"{name}_bucket", "0.025"] == found[f"{name}_bucket", "60.0"] == 2
        assert found[f"{name}_bucket", "+Inf"] == found[f"{name}_count", None] == 4
        assert found[f"{name}_sum", None] == pytest.approx(200.048)
    finally:
        for spool in spools:
            spool.close()
