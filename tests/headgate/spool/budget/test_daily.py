"""The daily allowance: kills, damage, and a wall clock that is set to anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.budget import ledger
from headgate.spool.budget.daily import DAY_BYTES, Day
from headgate.spool.budget.ledger import Ledger
from headgate.spool.budget.slots import SECOND, DamagedSlots
from tests.support.machine import INTERVAL, MEMORY, Machine
from tests.support.spooling import Crash, Disk

RATE = 1000
ALLOWANCE = 2500
HOUR = 3600 * SECOND


@dataclass
class Wall:
    """What day the calendar on the wall shows."""

    day: int = 739_000

    def __call__(self) -> int:
        return self.day


@dataclass
class Kit:
    path: Path
    machine: Machine
    wall: Wall

    def open(self) -> Ledger:
        return Ledger(
            self.path, INTERVAL, self.machine.boottime, self.machine.boot,
            allowance=ALLOWANCE, today=self.wall,
        )  # fmt: skip

    def spend(self, book: Ledger, seconds: int = 20) -> int:
        """Charge all that may leave in so many seconds."""
        total = 0
        for _ in range(seconds):
            while (grant := book.charge(RATE, RATE)) is not None:
                total += grant.size
            self.machine.passes(SECOND)
        return total


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    machine, wall = Machine(), Wall()
    monkeypatch.setattr(ledger, "boot_id", lambda: machine.boot)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "ledger"
        ledger.create(path, INTERVAL, machine.boot, spent=False, now=machine.at, day=wall.day)
        yield Kit(path, machine, wall)


def test_a_day_carries_its_allowance_and_the_next_day_another(kit: Kit) -> None:
    book = kit.open()
    assert kit.spend(book) == ALLOWANCE
    assert book.day_spent
    assert kit.spend(book) == 0
    kit.wall.day += 1
    assert not book.day_spent
    assert kit.spend(book) == ALLOWANCE
    book.close()


def test_kills_and_reboots_earn_nothing(kit: Kit) -> None:
    total = 0
    for number in range(12):
        book = kit.open()
        total += kit.spend(book, 3) if number % 3 else 0
        if number % 3 == 0:
            with Disk(nth=1 + number % 4, crash="before")(), pytest.raises(Crash):
                while True:
                    kit.machine.passes(SECOND)
                    if book.charge(100, RATE) is None:
                        raise Crash
        book.close()
        if number % 4 == 3:
            kit.machine.reboot(5 * SECOND)
    assert 0 < total <= ALLOWANCE
    use = ledger.read_use(kit.path, INTERVAL, kit.machine.boottime, kit.wall)
    assert total <= use.day <= ALLOWANCE


@pytest.mark.parametrize("harm", ["deleted", "flipped", "cut"])
def test_a_ledger_that_was_harmed_counts_as_spent_for_the_day(kit: Kit, harm: str) -> None:
    book = kit.open()
    kit.spend(book, 2)
    book.close()
    data = bytearray(kit.path.read_bytes())
    data[1024 + 20] ^= 1
    match harm:
        case "deleted":
            kit.path.unlink()
        case "flipped":
            kit.path.write_bytes(data)
        case "cut":
            kit.path.write_bytes(data[:1030])
    book = kit.open()
    assert "the daily allowance for this day" in book.warning
    kit.machine.passes(2 * INTERVAL * SECOND)
    assert book.day_spent and kit.spend(book) == 0
    assert ledger.read_use(kit.path, INTERVAL, kit.machine.boottime, kit.wall).day_spent
    book.close()
    book = kit.open()  # and stays so over a restart
    assert book.day_spent
    kit.wall.day += 1
    assert kit.spend(book) == ALLOWANCE
    book.close()


def test_a_clock_that_is_set_back_earns_no_second_allowance(kit: Kit) -> None:
    book = kit.open()
    assert kit.spend(book) == ALLOWANCE
    for step in (-1, -3, -400, 0, -1, 0):
        kit.wall.day = 739_000 + step
        assert kit.spend(book) == 0
    kit.wall.day = 739_001
    assert kit.spend(book) == ALLOWANCE
    kit.wall.day = 739_000
    assert kit.spend(book) == 0
    kit.wall.day = 739_001
    assert kit.spend(book) == 0
    book.close()


def test_a_moment_in_the_far_future_is_not_the_last_day_for_ever(kit: Kit) -> None:
    kit.wall.day = 800_000
    book = kit.open()
    assert kit.spend(book) == ALLOWANCE
    kit.wall.day = 739_000
    assert kit.spend(book) == 0
    kit.machine.passes(23 * HOUR)
    assert kit.spend(book) == 0
    kit.machine.passes(HOUR)
    assert kit.spend(book) == ALLOWANCE
    kit.wall.day = 739_001
    assert kit.spend(book) == ALLOWANCE
    book.close()


def test_a_charge_that_only_the_day_bounds_is_no_more_than_is_left(kit: Kit) -> None:
    book = kit.open()
    sizes = []
    for _ in range(12):
        grant = book.charge(249, RATE)
        sizes.append(0 if grant is None else grant.size)
        kit.machine.passes(SECOND)
    assert sizes == [249] * 10 + [10, 0]
    book.close()


def test_what_is_left_over_of_a_grant_pays_for_the_next_one_on_the_same_day(kit: Kit) -> None:
    book = kit.open()
    assert book.left_today == ALLOWANCE
    left = 0
    while (grant := book.charge(250, RATE)) is not None or not book.day_spent:
        if grant is not None:
            left += grant.size // 2  # and its second ends
            book.left_over(grant.size - grant.size // 2)
        kit.machine.passes(SECOND)
        assert left + (book.left_today or 0) == ALLOWANCE
        use = ledger.read_use(kit.path, INTERVAL, kit.machine.boottime, kit.wall)
        assert left <= use.day <= ALLOWANCE  # after a kill nothing that left is missing
        if book.left_today and book.left_today < 4:
            break
    assert left >= ALLOWANCE - 4
    book.close()


def test_what_is_left_over_at_the_end_of_a_run_is_there_for_the_next_one(kit: Kit) -> None:
    for _ in range(10):
        book = kit.open()
        grant = book.charge(250, RATE)
        assert grant is not None
        book.left_over(200)
        book.close()
        kit.machine.passes(2 * SECOND)
    book = kit.open()
    assert book.left_today == ALLOWANCE - 10 * 50
    book.charge(250, RATE)
    os.close(book._fd)  # killed: what may have left stays charged
    book = kit.open()
    assert book.left_today == ALLOWANCE - 10 * 50 - 250
    book.close()


def test_what_is_left_over_on_one_day_does_not_count_on_the_next(kit: Kit) -> None:
    book = kit.open()
    book.charge(250, RATE)
    book.left_over(200)
    assert book.left_today == ALLOWANCE - 50
    kit.wall.day += 1
    assert book.left_today == ALLOWANCE
    assert kit.spend(book) == ALLOWANCE
    book.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.integers(738_990, 739_010)),
        st.tuples(st.just("wait"), st.integers(0, 30)),  # hours
        st.tuples(st.just("kill"), st.just(0)),
        st.tuples(st.just("reboot"), st.integers(0, 100)),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_no_day_that_the_wall_reached_first_carries_more_than_its_allowance(
    steps: list[tuple[str, int]],
) -> None:
    """An oracle of its own: a fresh allowance needs a later date than any before it, or 24 hours of
    being on since the last one began."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        machine, wall = Machine(), Wall()
        kit = Kit(Path(folder) / "ledger", machine, wall)
        ledger.create(kit.path, INTERVAL, machine.boot, spent=False, now=machine.at, day=wall.day)
        book = kit.open()
        day, began, spent = wall.day, machine.on, 0
        for word, value in steps:
            match word:
                case "clock":
                    wall.day = value
                case "wait":
                    machine.passes(value * HOUR)
                case "kill" | "reboot":
                    book.close()
                    if word == "reboot":
                        machine.reboot(value * SECOND)
                    book = kit.open()
            for _ in range(4):
                grant = book.charge(RATE, RATE)
                size = 0 if grant is None else grant.size
                # Ledger time is never ahead of that, give or take what a start adds.
                old_enough = machine.on - began >= 24 * HOUR - 1000 * SECOND
                if size and (wall.day > day or (wall.day < day and old_enough)):
                    day, began, spent = wall.day, machine.on, 0
                spent += size
                assert spent <= ALLOWANCE
                machine.passes(SECOND)
        book.close()


DAY = st.builds(
    Day,
    number=st.integers(0, 2**62),
    charged=st.integers(0, 2**64 - 1),
    began_at=st.integers(-(2**63), 2**63 - 1),
    spent=st.booleans(),
)


@given(DAY, st.integers(0, DAY_BYTES - 5), st.integers(1, 255))
def test_a_record_reads_back_and_no_changed_byte_goes_unseen(day: Day, at: int, flip: int) -> None:
    data = bytearray(day.encode())
    assert Day.decode(bytes(data)) == day
    data[at] ^= flip
    with pytest.raises(DamagedSlots):
        Day.decode(bytes(data))
    with pytest.raises(DamagedSlots):
        Day.decode(day.encode()[:-1])


def test_what_is_left_of_a_day_is_never_negative_and_a_spent_one_has_nothing() -> None:
    assert Day(5, charged=700).left(600) == 0
    assert Day(5, spent=True).left(600) == 0


def test_an_earlier_day_counts_after_24_hours_and_not_before() -> None:
    day = Day(9, charged=7, began_at=100)
    assert day.on(8, 100 + 24 * HOUR - 1) is day
    assert day.on(8, 100 + 24 * HOUR) == Day(8, 0, 100 + 24 * HOUR)
