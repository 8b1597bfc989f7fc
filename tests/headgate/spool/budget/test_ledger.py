"""The ledger over kills, reboots, power cuts and damage: what may leave, seen from outside."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.budget import ledger
from headgate.spool.budget.daily import DAY_BYTES
from headgate.spool.budget.ledger import Ledger
from headgate.spool.budget.slots import HEADER_BYTES, RECORD_BYTES, SECOND
from headgate.spool.errors import DiskError
from tests.support.machine import INTERVAL, MEMORY, Machine
from tests.support.spooling import Crash, Disk

RATE = 1000


@dataclass
class Left:
    """Bytes that may have left, some time between two moments of ``Machine.on``."""

    opening: int
    slot: int
    since: int
    until: int
    size: int


class World:
    """A machine, its ledger's file, and what the promise says about the bytes that left."""

    def __init__(self, folder: Path) -> None:
        self.machine, self.path = Machine(), folder / "ledger"
        self.interval = INTERVAL
        self.left: list[Left] = []
        self.opening = 0
        self.lost_at: int | None = None
        self.shortest = 0
        ledger.create(self.path, self.interval, self.machine.boot, spent=False, now=self.machine.at)
        self.open()

    def open(self) -> None:
        self.machine.jumps = []
        gone = not self.path.exists()
        self.ledger = Ledger(self.path, self.interval, self.machine.boottime, self.machine.boot)
        assert bool(self.ledger.warning) == gone
        self.opening += 1
        if gone:
            self.lost_at, self.shortest = self.machine.on, self.interval
        self.shortest = min(self.shortest, self.interval)
        self.synced = self.path.read_bytes()

    # -- what may happen

    def wait(self, nanoseconds: int) -> None:
        self.machine.passes(nanoseconds)

    def charge(self, wanted: int) -> None:
        grant = self.ledger.charge(wanted, RATE)
        self.synced = self.path.read_bytes()
        if grant is not None:
            now, on = self.machine.at, self.machine.on
            assert self.lost_at is None or on >= self.lost_at + self.shortest * SECOND
            assert 0 < grant.size <= min(wanted, RATE // 4)
            assert now < grant.void_at <= now + SECOND
            until = on + grant.void_at - now
            self.left.append(Left(self.opening, grant.void_at, on, until, grant.size))

    def burst(self) -> None:
        for _ in range(6):
            self.charge(RATE)

    def slow_disk(self, nanoseconds: int) -> None:
        self.machine.jumps = [0, nanoseconds]
        self.charge(RATE)

    def kill(self) -> None:
        self.ledger.close()
        self.open()

    def kill_while_charging(self, call: int, when: str) -> None:
        with Disk(nth=call, crash=when)(), pytest.raises(Crash):
            while True:
                self.machine.passes(SECOND)
                self.ledger.charge(RATE, RATE)
        self.kill()

    def error_while_charging(self, call: int) -> None:
        with Disk(nth=call)(), pytest.raises(DiskError):
            while True:
                self.machine.passes(SECOND)
                self.ledger.charge(RATE, RATE)

    def power_cut(self, at: int, call: int, unflushed_lost: bool) -> None:
        with Disk(nth=call, crash="before")(), pytest.raises(Crash):
            while True:
                self.machine.passes(SECOND)
                self.ledger.charge(RATE, RATE)
        self.ledger.close()
        if unflushed_lost:
            self.path.write_bytes(self.synced)
        for one in self.left:
            one.until = min(one.until, self.machine.on)  # nothing leaves a machine that is off
        self.machine.reboot(at)
        self.open()

    def reboot(self, at: int) -> None:
        self.ledger.close()
        for one in self.left:
            one.until = min(one.until, self.machine.on)
        self.machine.reboot(at)
        self.open()

    def other_interval(self, interval: int) -> None:
        self.interval = interval
        self.kill()

    def lose_the_file(self) -> None:
        self.path.unlink()
        self.kill()

    # -- what must hold

    def check(self) -> None:
        by_slot: dict[tuple[int, int], int] = {}
        for one in self.left:
            by_slot[one.opening, one.slot] = by_slot.get((one.opening, one.slot), 0) + one.size
        assert all(size <= RATE for size in by_slot.values())
        for opening in {one.opening for one in self.left}:
            before = [one.until for one in self.left if one.opening < opening]
            first = min(one.since for one in self.left if one.opening == opening)
            assert not before or first >= max(before) + SECOND


NANOSECONDS = st.integers(0, 3 * SECOND) | st.sampled_from([1, SECOND - 1, SECOND, 90 * SECOND])
BOOTED_AT = st.integers(0, 40 * SECOND) | st.integers(0, 10**4)
EVENTS = st.one_of(
    st.tuples(st.just("wait"), NANOSECONDS),
    st.tuples(st.just("charge"), st.integers(1, 2 * RATE)),
    st.tuples(st.just("burst")),
    st.tuples(st.just("slow_disk"), NANOSECONDS),
    st.tuples(st.just("kill")),
    st.tuples(st.just("reboot"), BOOTED_AT),
    st.tuples(
        st.just("kill_while_charging"),
        st.sampled_from([1, 2, 3]),
        st.sampled_from(["before", "after"]),
    ),
    st.tuples(st.just("error_while_charging"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("power_cut"), BOOTED_AT, st.sampled_from([1, 2, 3]), st.booleans()),
    st.tuples(st.just("other_interval"), st.sampled_from([60, 120, 300])),
)


def play(events: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder))
        try:
            for word, *values in events:
                getattr(world, str(word))(*values)
                world.burst()
            world.check()
        finally:
            world.ledger.close()


@settings(deadline=None, max_examples=400)
@given(st.lists(EVENTS, max_size=30))
def test_no_second_holds_more_than_the_rate_whatever_happens(
    events: list[tuple[object, ...]],
) -> None:
    play(events)


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENTS, max_size=10), st.lists(EVENTS, max_size=30))
def test_after_the_ring_was_lost_nothing_leaves_for_an_interval_of_being_on(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    play([*before, ("lose_the_file",), *after])


# -- one thing at a time


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(ledger, "boot_id", lambda: made.boot)
    return made


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder) / "ledger"


def opened(path: Path, machine: Machine, interval: int = INTERVAL) -> Ledger:
    return Ledger(path, interval, machine.boottime, machine.boot)


def fresh(path: Path, machine: Machine) -> Ledger:
    ledger.create(path, INTERVAL, machine.boot, spent=False, now=machine.at)
    return opened(path, machine)


def used(path: Path, interval: int, machine: Machine) -> int:
    return ledger.read_use(path, interval, machine.boottime).interval


def spend(one: Ledger, machine: Machine, sizes: list[int]) -> None:
    """Charge these in seconds of their own, the last of them now."""
    for number, size in enumerate(sizes):
        machine.passes(SECOND if number else 0)
        grant = one.charge(size, RATE)
        assert grant is not None and grant.size == size


def test_a_fresh_spool_may_send_at_once(path: Path, machine: Machine) -> None:
    one = fresh(path, machine)
    assert (one.warning, one.wait_seconds(), one.blocked_seconds) == ("", 0, 0)
    assert one.charge(10, RATE) is not None
    one.close()


def test_a_charge_is_on_disk_before_its_bytes_may_leave(path: Path, machine: Machine) -> None:
    one = fresh(path, machine)
    with Disk()() as disk:
        assert one.charge(10, RATE) is not None
    assert [name for name, _ in disk.calls] == ["pwrite", "pwrite", "fdatasync"]
    with Disk(nth=3, crash="before")(), pytest.raises(Crash):
        one.charge(7, RATE)
    one.close()
    assert used(path, INTERVAL, machine) == 17


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_charge_that_cannot_be_written_grants_nothing_and_is_never_tried_for_free(
    path: Path, machine: Machine, call: int
) -> None:
    one = fresh(path, machine)
    with Disk(nth=call)(), pytest.raises(DiskError):
        one.charge(250, RATE)
    sizes = []
    while (grant := one.charge(250, RATE)) is not None:
        sizes.append(grant.size)
    assert sum(sizes) == 750  # what failed may yet be on the disk
    one.close()


def test_a_grant_is_void_when_the_disk_took_longer_than_its_second(
    path: Path, machine: Machine
) -> None:
    one = fresh(path, machine)
    machine.jumps = [0, SECOND + SECOND // 2]
    grant = one.charge(100, RATE)
    assert grant is not None and grant.void_at > machine.at
    assert used(path, INTERVAL, machine) == 200  # both stay charged
    assert used(path, 1, machine) == 100
    one.close()


def test_charges_survive_being_opened_again(path: Path, machine: Machine) -> None:
    one = fresh(path, machine)
    spend(one, machine, [10, 20, 30])
    one.close()
    for _ in range(3):
        again = opened(path, machine)
        assert again.warning == ""
        again.close()
    assert used(path, INTERVAL, machine) == 60
    assert used(path, 2, machine) == 50
    machine.passes((INTERVAL - 2) * SECOND)
    assert used(path, INTERVAL, machine) == 50


def test_a_ring_goes_round(path: Path, machine: Machine) -> None:
    one = fresh(path, machine)
    spend(one, machine, [1] * (3 * INTERVAL))
    one.close()
    again = opened(path, machine)
    assert again.warning == ""
    again.close()
    assert used(path, INTERVAL, machine) == INTERVAL


def test_the_next_run_starts_a_second_after_the_last_one_could_have_sent(
    path: Path, machine: Machine
) -> None:
    one = fresh(path, machine)
    machine.passes(SECOND // 4)
    spend(one, machine, [10])
    one.close()
    again = opened(path, machine)
    assert again.wait_seconds() == 1.75
    machine.passes(SECOND * 7 // 4 - 1)
    assert again.charge(10, RATE) is None
    machine.passes(1)
    assert again.charge(10, RATE) is not None
    again.close()


@pytest.mark.parametrize("interval", [60, 30 * 60, 86400])
def test_another_interval_keeps_the_charges(path: Path, machine: Machine, interval: int) -> None:
    one = fresh(path, machine)
    spend(one, machine, [10] * 60)
    one.close()
    other = opened(path, machine, interval)
    assert other.warning == "" and other.wait_seconds() > 1
    other.close()
    assert used(path, interval, machine) == 600
    back = opened(path, machine)
    assert back.warning == ""
    back.close()
    assert used(path, INTERVAL, machine) == 600


def test_a_clock_that_ran_backwards_goes_on_from_the_last_charge(
    path: Path, machine: Machine
) -> None:
    one = fresh(path, machine)
    spend(one, machine, [10, 10, 10])
    one.close()
    machine.at -= 40 * SECOND
    again = opened(path, machine)
    assert again.warning == "" and again.wait_seconds() == 1
    assert used(path, INTERVAL, machine) == 30
    again.close()


def test_other_bytes_in_the_ring_are_never_read_as_less_spent(path: Path, machine: Machine) -> None:
    one = fresh(path, machine)
    spend(one, machine, [250, 1, 2, 3, 250])
    one.close()
    whole = path.read_bytes()
    same = opened(path, machine)
    wait, before = same.wait_seconds(), used(path, INTERVAL, machine)
    assert same.warning == "" and wait > 1 and before == 506
    same.close()

    def reads(data: bytes | None) -> str:
        """The warning; if there is none, it read the same."""
        if data is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(data)
        seen = used(path, INTERVAL, machine)
        damaged = ledger.damage(path)
        found = opened(path, machine)
        if found.warning:
            assert damaged
            assert found.wait_seconds() >= INTERVAL and found.blocked_seconds >= INTERVAL
            assert found.charge(1, RATE) is None
        else:
            assert (found.wait_seconds(), seen, damaged) == (wait, before, "")
        found.close()
        return found.warning

    ring = 4096
    copies = [range(at, at + HEADER_BYTES) for at in (0, 512)]
    day = range(1024, 1024 + DAY_BYTES - 4)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 0xFF if at % 2 else 1 << at % 8
        warning = reads(bytes(data))
        padding = at < ring and at not in day
        padding = padding or (at >= ring and (at - ring) % RECORD_BYTES >= RECORD_BYTES - 4)
        assert bool(warning) == (not padding)
        if at in copies[0] and at - copies[0].start < HEADER_BYTES - 4:
            data[copies[1].start] ^= 1  # and the other header as well
            assert reads(bytes(data))
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        assert reads(whole[:size])
        assert reads(whole[:size].ljust(len(whole), b"\0")) or whole[size:].strip(b"\0") == b""
    for data in (None, b"", whole + b"\0", whole * 2, bytes(len(whole))):
        assert reads(data)
    for sector in range(ring, len(whole), 512):
        wiped = whole[:sector] + bytes(len(whole[sector : sector + 512])) + whole[sector + 512 :]
        assert reads(wiped)


def test_a_ring_that_counts_as_spent_stays_so_until_its_interval_is_over(
    path: Path, machine: Machine
) -> None:
    first = opened(path, machine)
    assert "is missing" in first.warning and "nothing leaves for one interval" in first.warning
    first.close()
    machine.passes(20 * SECOND)
    again = opened(path, machine)
    assert (again.warning, again.blocked_seconds, again.wait_seconds()) == ("", 41, 41)
    assert again.charge(1, RATE) is None
    again.close()
    machine.reboot(3600 * SECOND)  # being switched off, or on without a run, earns nothing
    again = opened(path, machine)
    assert (again.warning, again.wait_seconds()) == ("", 61)
    machine.passes(61 * SECOND - 1)
    assert again.charge(1, RATE) is None
    machine.passes(1)
    assert again.charge(1, RATE) is not None
    again.close()
