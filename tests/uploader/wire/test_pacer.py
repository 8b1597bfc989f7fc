"""The pacer: no second above the rate over all connections, in any order of events."""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.budget import ledger, slots
from headgate.spool.budget.ledger import Grant, Ledger
from headgate.spool.budget.slots import SECOND, Header
from headgate.spool.errors import DiskError
from headgate.spool.site.outcome import Ending, Outcome
from tests.support.spooling import Disk
from tests.support.wait import join, spend, wait_until
from uploader.wire.pacer import Closed, Pacer, Permitted

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
INTERVAL = 60
BOOT = bytes(16)


@dataclass
class Piece:
    """What left: some time between its grant and the return of its write."""

    size: int  # permitted
    since: int
    until: int
    written: int


class Line:
    """A clock, and writes that return when their time has come: what other threads would do.

    It stands in for the pacer's condition, so that waiting moves the clock instead of the test.
    """

    def __init__(self, at: int = 7 * SECOND) -> None:
        self.at = at
        self.returns: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    def now(self) -> int:
        return self.at

    def later(self, after: int, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self.returns, (self.at + after, self._number, do))

    def move(self, until: int) -> None:
        while self.returns and self.returns[0][0] <= until:
            at, _, do = heapq.heappop(self.returns)
            self.at = max(self.at, at)
            do()
        self.at = max(self.at, until)

    def wait(self, seconds: float) -> None:
        until = self.at + round(seconds * SECOND)
        if self.returns and self.returns[0][0] < until:
            until = self.returns[0][0]  # notified, or not: asking again early does no harm
        self.move(until)

    def notify_all(self) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class World:
    line: Line
    path: Path
    ledger: Ledger
    pacer: Pacer
    pieces: list[Piece]
    rate: int

    def take(self, wanted: int) -> Grant:
        grant = self.pacer.take(wanted)
        assert 1 <= grant.size <= wanted
        return grant

    def send(self, wanted: int, takes: int, written_share: int) -> None:
        """One write: it returns after ``takes``, with that part (of 100) of the piece written."""
        grant = self.take(wanted)
        piece = Piece(grant.size, self.line.at, self.line.at + takes, 0)
        piece.written = grant.size * written_share // 100
        self.pieces.append(piece)

        def returned() -> None:
            piece.until = self.line.at
            self.pacer.wrote(grant, piece.written)

        self.line.later(takes, returned)

    def finish(self) -> None:
        self.line.move(self.line.at + 100 * SECOND)

    def worst_second(self, since: int = 0) -> int:
        """The most that may have left in any one second that begins after ``since``.

        The sum only grows when a window's start reaches back to a write's return.
        """
        pieces = [piece for piece in self.pieces if piece.until >= since]
        starts = {piece.until for piece in pieces} | {since}
        return max(
            sum(p.written for p in pieces if p.until >= start and p.since < start + SECOND)
            for start in starts
        )

    def charged(self) -> dict[int, int]:
        """By second of ledger time, read from the file as the format says."""
        data = self.path.read_bytes()
        return slots.decode_ring(data[4096:], Header.decode(data[:64]).slots)


def world_in(folder: Path, rate: int, line: Line | None = None) -> World:
    line = line or Line()
    path = folder / "ledger"
    ledger.create(path, INTERVAL, BOOT, spent=False, now=line.at)
    book = Ledger(path, INTERVAL, line.now, BOOT)
    world = World(line, path, book, None, [], rate)  # type: ignore[arg-type]
    world.pacer = Pacer(book, lambda: Permitted(world.rate), line.now)
    world.pacer._changed = line  # type: ignore[assignment]
    return world


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        made = world_in(Path(folder), 1_000_000)
        yield made
        made.ledger.close()


WRITES = st.lists(
    st.tuples(
        st.integers(1, 200_000),  # wanted
        st.one_of(  # how long the write takes
            st.integers(0, SECOND // 20), st.integers(0, 3 * SECOND), st.just(0)
        ),
        st.one_of(st.just(100), st.integers(0, 100)),  # how much of it is written
        st.one_of(st.just(0), st.integers(0, 2 * SECOND)),  # a pause before it
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(WRITES, st.sampled_from([1, 900, 20_000, 1_000_000, 40_000_000]))
def test_no_second_is_above_the_rate_and_no_ledger_second_above_its_charge(
    writes: list[tuple[int, int, int, int]], rate: int
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = world_in(Path(folder), rate)
        by_second: dict[int, list[Piece]] = {}
        granted: dict[int, int] = {}
        for wanted, takes, written, pause in writes:
            world.line.move(world.line.at + pause)
            world.send(min(wanted, 50 * rate), takes, written)
            second = world.ledger.now() // SECOND
            by_second.setdefault(second, []).append(world.pieces[-1])
            granted[second] = world.charged()[second]
        world.finish()
        assert not world.pieces or world.worst_second() <= rate
        assert world.pacer.sent == sum(piece.written for piece in world.pieces)
        for second, pieces in by_second.items():
            assert sum(piece.written for piece in pieces) <= granted[second] <= rate
        world.ledger.close()


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5_000, 200_000, 1_000_000]),  # the rate from now on
        st.integers(1, 3 * SECOND),  # for so long
        st.integers(0, SECOND // 10),  # how long each write takes
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=40)
@given(CHANGES)
def test_no_second_is_above_the_highest_rate_that_was_in_force_in_it(
    changes: list[tuple[int, int, int]],
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = world_in(Path(folder), 100_000)
        history = [(0, 100_000)]
        for rate, lasts, takes in changes:
            until = world.line.at + lasts
            history.append((world.line.at, rate))
            world.rate = rate
            world.line.later(lasts, lambda: None)
            while world.line.at < until:
                # At no rate the wait lasts until there is one again: not in this test.
                if not world.rate:
                    world.line.move(until)
                    break
                world.send(world.pacer.max_piece, takes, 100)
        world.finish()

        def highest(start: int, end: int) -> int:
            """Of the rates in force then. The pacer may know of a change a quarter second late, and
            what it permitted before leaves until its write returns."""
            ends = [at for at, _ in history[1:]] + [2**63]
            known = zip(history, ends, strict=True)
            late = SECOND // 4 + max(takes for _, _, takes in changes)
            return max(r for (at, r), over in known if at < end and over + late > start)

        for start in {piece.until for piece in world.pieces}:
            end = start + SECOND
            inside = sum(p.written for p in world.pieces if p.until >= start and p.since < end)
            assert inside <= highest(start, end)
        world.ledger.close()


def test_what_a_write_left_over_never_adds_to_another_seconds_grant(world: World) -> None:
    world.line.move(world.line.at + SECOND * 9 // 10)
    late = world.take(20_000)  # of the first second's grant
    world.line.move(world.line.at + SECOND * 3 // 10)
    first = world.take(1)  # the next second has its own grant by now
    second = world.ledger.now() // SECOND
    world.pacer.wrote(late, 0)
    world.pacer.wrote(first, 1)
    left = 1
    while world.ledger.now() // SECOND == second:
        grant = world.pacer.take(2_000)
        if world.ledger.now() // SECOND == second:
            left += grant.size
            assert left <= world.charged()[second]
        world.pacer.wrote(grant, grant.size)


def test_the_whole_rate_is_used_when_there_is_enough_to_send(world: World) -> None:
    started = world.line.at
    while world.line.at < started + 10 * SECOND:
        world.send(world.pacer.max_piece, 1000, 100)
    world.finish()
    sent = sum(piece.written for piece in world.pieces if piece.since < started + 10 * SECOND)
    assert 10 * world.rate * 995 // 1000 < sent <= 10 * world.rate


def test_pieces_are_spread_over_the_second(world: World) -> None:
    started = world.line.at
    while world.line.at < started + 3 * SECOND:
        world.send(world.pacer.max_piece, 0, 100)
    tenths: dict[int, int] = {}
    for piece in world.pieces:
        if piece.since >= started + SECOND:
            tenth = piece.since // (SECOND // 10)
            tenths[tenth] = tenths.get(tenth, 0) + piece.size
    assert max(tenths.values()) <= world.rate // 5


def test_what_a_late_second_cost_is_caught_up_without_a_burst(world: World) -> None:
    started = world.line.at
    while world.line.at < started + 4 * SECOND:
        world.send(world.pacer.max_piece, 0, 100)
        if world.line.at - started > 2 * SECOND and world.pieces[-2].since < started + 2 * SECOND:
            world.line.move(world.line.at + SECOND // 5)  # a busy machine
    tenths: dict[int, int] = {}
    for piece in world.pieces:
        if piece.since >= started + SECOND:
            tenth = piece.since // (SECOND // 10)
            tenths[tenth] = tenths.get(tenth, 0) + piece.size
    assert max(tenths.values()) <= world.rate * 18 // 100
    third = [p.size for p in world.pieces if 2 * SECOND <= p.since - started < 3 * SECOND]
    assert sum(third) > world.rate * 99 // 100


def test_a_reason_closes_the_pacer_and_none_lets_it_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = Ending(Outcome.ALLOWANCE_SPENT, "it begins again tomorrow")
    said = [None, None, spent]
    world.pacer._blocked_reason = lambda: said.pop(0)
    monkeypatch.setattr(world.ledger, "charge", lambda wanted, rate: None)
    started = world.line.at
    with pytest.raises(Closed, match="daily allowance spent; it begins again tomorrow"):
        world.take(1)
    assert world.line.at >= started + SECOND  # the first two times a later second might have done
    assert world.pacer.closed is spent and not said


def test_the_day_is_charged_for_what_left_and_not_for_grants_that_were_not_used(
    tmp_path: Path,
) -> None:
    line, path, daily = Line(), tmp_path / "ledger", 400_000
    ledger.create(path, INTERVAL, BOOT, spent=False, now=line.at, day=7)
    book = Ledger(path, INTERVAL, line.now, BOOT, allowance=daily, today=lambda: 7)
    made = World(line, path, book, None, [], 1_000_000)  # type: ignore[arg-type]
    made.pacer = Pacer(book, lambda: Permitted(made.rate), line.now)
    made.pacer._changed = line  # type: ignore[assignment]
    for _ in range(150):  # each second ends with most of its grant unused
        made.send(2_000, 0, 100)
        made.finish()
        assert made.pacer.left_today == daily - made.pacer.sent
    assert made.pacer.sent == 300_000
    book.close()


def test_a_lower_rate_holds_from_the_next_second_on(world: World) -> None:
    def busy(seconds: int) -> None:
        until = world.line.at + seconds * SECOND
        while world.line.at < until:
            world.send(world.pacer.max_piece, 1000, 100)

    busy(3)
    world.rate = 100_000
    changed = world.line.at
    busy(5)
    assert world.pacer.rate == 100_000
    world.finish()
    assert world.worst_second(since=changed + SECOND) <= 100_000
    world.rate = 2_000_000
    busy(1)
    raised = world.line.at
    busy(3)
    assert sum(p.size for p in world.pieces if p.since >= raised) > 3 * 1_900_000
    assert world.pacer.max_piece == 2_000_000 // 400  # pieces follow the rate as well


def test_at_no_rate_nothing_leaves_until_there_is_one(world: World) -> None:
    world.rate = 0
    started = world.line.at
    world.line.later(30 * SECOND, lambda: setattr(world, "rate", 1_000_000))
    world.send(1, 0, 100)
    assert world.line.at >= started + 30 * SECOND


def test_a_run_after_a_killed_one_waits_for_the_ledger() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = world_in(Path(folder), 1_000_000)
        world.send(10_000, 0, 100)
        until = (world.line.at // SECOND + 1) * SECOND  # its second starts with the clock's here
        world.ledger.close()  # and nothing else, as a kill does
        book = Ledger(world.path, INTERVAL, world.line.now, BOOT)
        after = Pacer(book, lambda: Permitted(1_000_000), world.line.now)
        after._changed = world.line  # type: ignore[assignment]
        after.take(1)
        assert world.line.at >= until + SECOND
        book.close()


def test_a_ledger_that_cannot_be_written_permits_nothing(world: World) -> None:
    with Disk(nth=1)(), pytest.raises(DiskError):
        world.pacer.take(1)
    assert world.pacer.sent == 0


def test_pieces_grow_with_the_rate_within_bounds() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        sizes = []
        for number, rate in enumerate([1000, 1_000_000, 40_000_000, 10**10]):
            below = Path(folder) / str(number)
            below.mkdir()
            world = world_in(below, rate)
            sizes.append(world.pacer.max_piece)
            world.ledger.close()
        assert sizes == [2048, 2500, 65536, 256 * 1024]


# -- with real threads and the real clock


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Callable[[int], tuple[Pacer, Ledger]]]:
    books: list[Ledger] = []

    def make(rate: int) -> tuple[Pacer, Ledger]:
        path = tmp_path / "ledger"
        ledger.create(path, INTERVAL, BOOT, spent=False, now=ledger.boottime())
        books.append(Ledger(path, INTERVAL, boot=BOOT))
        return Pacer(books[-1], lambda: Permitted(rate)), books[-1]

    yield make
    for book in books:
        book.close()


def test_closing_ends_every_wait_with_its_reason(
    real: Callable[[int], tuple[Pacer, Ledger]],
) -> None:
    pacer, _ = real(0)
    said: list[str] = []

    def wait() -> None:
        try:
            pacer.take(1)
        except Closed as closed:
            said.append(str(closed))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    pacer.close(Ending(Outcome.TIME_SPENT))
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert said == ["time spent"] * 5
    with pytest.raises(Closed):
        pacer.take(1)


def test_threads_together_keep_to_the_rate(
    real: Callable[[int], tuple[Pacer, Ledger]],
) -> None:
    rate = 150_000
    pacer, _ = real(rate)
    pieces: list[Piece] = []

    def send(number: int) -> None:
        try:
            while True:
                # The grant is given somewhere between these two readings; the later is safe,
                # because the pacer's own is not after it.
                grant = pacer.take(1000 + 700 * number)
                piece = Piece(grant.size, ledger.boottime(), 0, grant.size - number % 2)
                spend(0.002 * number)
                piece.until = ledger.boottime()
                pacer.wrote(grant, piece.written)
                pieces.append(piece)
        except Closed:
            return

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    wait_until(lambda: pacer.sent > rate, "more than a second's worth has left")
    pacer.close(Ending(Outcome.STOPPED))
    for thread in threads:
        join(thread)
    assert pacer.sent == sum(piece.written for piece in pieces)
    worst = max(
        sum(p.written for p in pieces if p.until >= start and p.since < start + SECOND)
        for start in {piece.until for piece in pieces}
    )
    assert 0 < worst <= rate


def test_a_borrowed_rate_is_not_used_after_its_lease_ended(tmp_path: Path) -> None:
    """Nor for the rest of the quarter of a second in which a rate is not asked for again."""
    made = world_in(tmp_path, 1_000_000)
    ends_at = made.line.at + 3 * SECOND + SECOND // 9

    def rate() -> Permitted:
        if made.line.at < ends_at:
            return Permitted(1_000_000, ends_at)
        return Permitted(100_000)

    made.pacer = Pacer(made.ledger, rate, made.line.now)
    made.pacer._changed = made.line  # type: ignore[assignment]
    while made.line.at < ends_at + SECOND:
        made.send(made.pacer.max_piece, 1000, 100)
    made.finish()
    before = [piece for piece in made.pieces if piece.since < ends_at]
    assert sum(piece.written for piece in before) > 2_000_000
    # The second before its end was full: what the floor allows is used up already.
    assert not [p for p in made.pieces if ends_at <= p.since < ends_at + SECOND // 2]
    assert made.worst_second(since=ends_at + SECOND) <= 100_000
    made.ledger.close()
