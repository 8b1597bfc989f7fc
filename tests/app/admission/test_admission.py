"""What stands before an upload: rates, the site's intake, room that is promised once, the latch."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission import checks, rate_limits
from app.admission.admission import Gate
from app.admission.disk_breaker import PASSES, Latch
from app.admission.rate_limits import Intake, Rates
from app.admission.reservations import Reservations
from app.refusals import Refused
from headgate.spool.disk.room import ATTRIBUTE_BYTES, BLOCK, SPARE_BYTES, Receiving, on_disk
from headgate.spool.disk.room import FreeSpace as Free
from headgate.spool.disk.room import admission as would_admit
from headgate.spool.errors import DiskError
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool
from tests.support.wait import join, wait_until


def refused(rule: Callable[[], object]) -> Refused | None:
    try:
        rule()
    except Refused as why:
        return why
    return None


def code_of(rule: Callable[[], object]) -> str:
    why = refused(rule)
    return "" if why is None else why.refusal.code


class Seconds:
    """A monotonic clock that is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- one device


def once(rates: Rates, device: str = "cam") -> str:
    def upload() -> None:
        with rates.hold(device):
            pass

    return code_of(upload)


def test_a_device_sends_so_often_and_no_more() -> None:
    clock = Seconds()
    limited = Rates(3, 0, clock)
    assert [once(limited) for _ in range(4)] == ["", "", "", "too_many_requests"]
    assert once(limited, "other") == ""
    clock.now += 0.4  # one request and a fifth
    assert [once(limited) for _ in range(2)] == ["", "too_many_requests"]
    clock.now += 3600  # nothing is saved up beyond a second
    assert [once(limited) for _ in range(4)] == ["", "", "", "too_many_requests"]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.integers(1, 5))
def test_in_no_window_more_than_the_rate_and_what_was_saved_up(
    pauses: list[float], rate: int
) -> None:
    clock = Seconds()
    limited = Rates(rate, 0, clock)
    let_in = []
    for pause in pauses:
        clock.now += pause
        if once(limited) == "":
            let_in.append(clock.now)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            seconds = let_in[last] - begin
            assert last - first + 1 <= rate * seconds + rate + 1e-6


def test_it_is_told_when_to_come_back() -> None:
    limited = Rates(1, 0, Seconds())
    once(limited)
    why = refused(lambda: limited.hold("cam").__enter__())
    assert why is not None
    assert why.retry_after == 1
    assert why.facts["limit"] == 1


def test_a_device_sends_so_much_at_once() -> None:
    limited = Rates(0, 2, Seconds())
    with limited.hold("cam"):
        with pytest.raises(ValueError), limited.hold("cam"):
            assert once(limited) == "too_many_at_once"
            assert once(limited, "other") == ""
            raise ValueError
        assert once(limited) == ""
    assert [once(limited) for _ in range(5)] == [""] * 5


def test_devices_at_rest_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "DEVICES", 16)  # all of them are every device's places
    clock = Seconds()
    limited = Rates(1, 1, clock)
    with limited.hold("busy"):
        for number in range(15):
            assert once(limited, f"cam-{number}") == ""
            assert once(limited, f"cam-{number}") == "too_many_requests"
        # No place is at rest: it is let in, and not counted.
        assert [once(limited, "one more") for _ in range(3)] == [""] * 3
        clock.now += 2
        assert once(limited, "one more") == ""
        assert once(limited, "one more") == "too_many_requests"
        assert once(limited, "busy") == "too_many_at_once"


# -- all of them


def test_the_site_takes_in_so_much() -> None:
    clock = Seconds()
    intake = Intake(100, clock)
    intake.take(60)
    intake.take(300)  # there was something left, so it may come
    why = refused(lambda: intake.take(1))
    assert why is not None
    assert why.refusal.code == "intake_spent"
    assert why.retry_after == 3
    assert intake.wait_seconds() == 3
    clock.now += 2.5
    assert code_of(lambda: intake.take(1)) == "intake_spent"
    clock.now += 0.2
    assert code_of(lambda: intake.take(1)) == ""


def test_what_never_came_is_given_back() -> None:
    intake = Intake(100, Seconds())
    intake.take(500)
    intake.give_back(450, 500)
    assert intake.wait_seconds() == 0


def test_no_bound_is_none() -> None:
    intake = Intake(0, Seconds())
    for _ in range(3):
        intake.take(10**12)
    assert intake.wait_seconds() == 0


# -- room


def test_reservations_end_however_the_block_ends() -> None:
    held = Reservations()
    with held.hold(10, lambda size, images: None):
        with pytest.raises(ValueError), held.hold(5, lambda size, images: None):
            assert (held.size, held.images) == (on_disk(10) + on_disk(5), 2)
            raise ValueError
        assert (held.size, held.images) == (on_disk(10), 1)
    assert (held.size, held.images) == (0, 0)

    def deny(_size: int, _images: int) -> None:
        raise Refused("disk_full", missing=1)

    with pytest.raises(Refused), held.hold(10, deny):
        pass
    assert (held.size, held.images) == (0, 0)


@given(st.integers(1, 100_000), st.lists(st.integers(1, 30_000)))
def test_what_is_written_is_reserved_no_longer(size: int, pieces: list[int]) -> None:
    held = Reservations()
    with held.hold(size, lambda *_: None) as reserved:
        reserved.made()
        assert held.images == 0
        written = 0
        for piece in pieces:
            with reserved.writing(piece):
                written += piece
            # The file system counts every block that has a byte in it; together never too little.
            counted = -(-written // BLOCK) * BLOCK
            assert held.size >= 0
            assert held.size + counted >= min(on_disk(size), counted)
            if written <= size:
                assert held.size + counted >= on_disk(size)
                assert held.size + counted <= on_disk(size) + BLOCK
    assert (held.size, held.images) == (0, 0)


def test_a_write_that_fails_leaves_its_bytes_reserved() -> None:
    held = Reservations()
    with held.hold(100_000, lambda *_: None) as reserved:
        with pytest.raises(OSError), reserved.writing(50_000):
            raise OSError
        assert held.size == on_disk(100_000)
    assert held.size == 0


def test_nobody_is_refused_for_bytes_that_are_counted_twice() -> None:
    """While a piece is written the disk may count it already, and the reservation still does."""
    held, room = Reservations(), 2 * on_disk(40_000)
    used, writing, asked = [0], threading.Event(), threading.Event()

    def admit(reserved: int, _images: int) -> None:
        missing = reserved + used[0] + on_disk(40_000) - room
        if missing > 0:
            asked.set()
            raise Refused("disk_full", missing=missing)

    def upload() -> None:
        with held.hold(40_000, admit) as reserved:
            with reserved.writing(40_000):
                used[0] += 40_960
                writing.set()
                asked.wait(60)
            asked.wait(60)

    first = threading.Thread(target=upload)
    first.start()
    assert writing.wait(60)
    with held.hold(40_000, admit):
        assert asked.is_set()
        with pytest.raises(Refused):  # this one there really is no room for
            held.hold(40_000, admit)
    join(first)


def test_an_image_takes_whole_blocks_and_one_for_its_attributes() -> None:
    assert on_disk(1) == BLOCK + ATTRIBUTE_BYTES
    assert on_disk(BLOCK) == BLOCK + ATTRIBUTE_BYTES
    assert on_disk(BLOCK + 1) == 2 * BLOCK + ATTRIBUTE_BYTES


def test_two_are_never_promised_the_same_bytes() -> None:
    held, let_in = Reservations(), []
    disk = Free(SPARE_BYTES + 3 * on_disk(30), 0, 10**6)

    def admit(size: int, images: int) -> None:
        checks.admitted(would_admit(30, disk, Receiving(size, images)))

    both, inside = threading.Barrier(8), threading.Event()

    def upload() -> None:
        both.wait(60)
        try:
            with held.hold(30, admit):
                let_in.append(1)
                inside.wait(60)
        except Refused:
            refused_.append(1)
            if len(refused_) == 5:
                inside.set()

    refused_: list[int] = []
    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    assert (len(let_in), len(refused_)) == (3, 5)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    disk = os.statvfs(tmp_path)
    missing = (disk.f_blocks - disk.f_bavail) * disk.f_frsize
    link = f"{missing // 100}B/s"  # about a hundred seconds for all that is used
    opened = open_spool(
        tmp_path, Clock(), spool__keep_free="100%", uplink__link=link, uplink__share="100%"
    )
    yield opened
    opened.close()


def test_no_room_says_when_runs_will_have_made_some(spool: Spool) -> None:
    gate = Gate(spool, chance=lambda: 0.5)
    why = refused(lambda: gate.check_open(1000))
    assert why is not None
    assert (why.refusal.code, why.retry_after) == ("disk_full", 30)  # no run: nothing to go by
    assert isinstance(spool.now, Clock)
    at = spool.now.at
    spool.site.save_run(
        Run(
            "r1",
            at,
            at,
            trigger="cron",
            confirmed_at=at,
            outcome=Outcome.DONE,
            exit_code=0,
            images=1,
            attempts=1,
        )
    )
    why = refused(lambda: gate.check_open(1000))
    assert why is not None
    seconds = int(why.facts["missing"]) / spool.uplink.cap().for_images
    assert 10 < seconds < 3600
    assert why.retry_after == math.ceil(seconds)
    assert gate.reservations.size == 0


def test_stopping_it_takes_nothing(spool: Spool) -> None:
    gate = Gate(spool, stopping=lambda: True)
    assert code_of(lambda: gate.check_open(1)) == "stopping"


# -- the latch


class Disk:
    """A probe that answers from a list, then passes; ``probed`` says how often it was asked."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.probed = 0

    def __call__(self) -> None:
        self.probed += 1
        code = self.answers.pop(0) if self.answers else 0
        if code:
            raise DiskError(OSError(code, os.strerror(code)), "probing")


def trouble(code: int = errno.EIO) -> DiskError:
    return DiskError(OSError(code, os.strerror(code)), "writing an image")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.admission.disk_breaker.PROBE_SECONDS", 0.01)


def wait_until_open(latch: Latch, opened: threading.Event) -> None:
    assert opened.wait(60)
    assert latch.trouble() is None


@pytest.mark.usefixtures("quick")
def test_the_latch_opens_when_probes_have_passed_in_a_row() -> None:
    disk, opened = Disk(0, 0, errno.EIO, 0, errno.ENOSPC), threading.Event()
    latch = Latch(disk, opened.set)
    assert latch.trouble() is None
    assert disk.probed == 0
    latch.trip(trouble())
    assert latch.trouble() is not None
    wait_until_open(latch, opened)
    assert disk.probed == 5 + PASSES  # two passes, and one, did not count


@pytest.mark.usefixtures("quick")
def test_the_latch_says_what_the_last_probe_said() -> None:
    told, latch_told = threading.Event(), threading.Event()
    disk = Disk(errno.ENOSPC)

    def probe() -> None:
        if disk.probed == 1:
            told.set()
            latch_told.wait(60)
        disk()

    latch = Latch(probe)
    latch.trip(trouble())
    first = latch.trouble()
    assert first is not None
    assert not first.full
    assert told.wait(60)
    now = latch.trouble()
    assert now is not None
    assert now.full
    latch_told.set()


@pytest.mark.usefixtures("quick")
def test_an_upload_that_fails_while_probes_pass_begins_the_count_anew() -> None:
    opened, again = threading.Event(), threading.Event()
    disk = Disk()

    def probe() -> None:
        disk()
        if disk.probed == PASSES:  # the last one that was needed
            latch.trip(trouble())
            again.set()

    latch = Latch(probe, opened.set)
    latch.trip(trouble())
    assert again.wait(60)
    wait_until_open(latch, opened)
    assert disk.probed == 2 * PASSES


@pytest.mark.usefixtures("quick")
def test_no_request_waits_for_a_disk_that_hangs() -> None:
    hangs, probing = threading.Event(), threading.Event()

    def probe() -> None:
        probing.set()
        hangs.wait(60)

    latch = Latch(probe)
    latch.trip(trouble())
    assert probing.wait(60)
    assert latch.trouble() is not None  # at once
    latch.trip(trouble())
    hangs.set()
    wait_until(lambda: latch.trouble() is None, "the latch is open again")
