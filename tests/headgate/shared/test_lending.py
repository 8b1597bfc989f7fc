"""The uplink of a site, lent between its gateways: in any second at most the site's rate."""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from headgate.shared import lending
from headgate.shared.lending import Answer, Ask, Book, Borrower, Demand, divide, floor_of, rest_of

MS = 1_000_000
SECOND = 1000 * MS
PACERS_LAG = SECOND // 4  # a quarter of a second after an adoption all pacers have the new rate
RATE, FLOOR, GATEWAYS = 1_000_000, 100_000, 4
WANT = lending.WANT_SECONDS
FLOODED = Demand(10**12, 0, 3600)


@dataclass
class Clock:
    """A clock that is off by ``drift`` parts in a million, and by ``offset`` nanoseconds."""

    drift: int = 0
    offset: int = 0

    def shows(self, at: int) -> int:
        return at + at * self.drift // 1_000_000 + self.offset

    def shows_at_last(self, shown: int) -> int:
        """The first true instant at which it shows that or more, or one a bit later."""
        return (shown - self.offset) * 1_000_000 // (1_000_000 + self.drift) + 1


@dataclass
class Used:
    """What one gateway may have sent: a rate above the floor between two true instants."""

    since: int
    until: int
    rate: int


@dataclass
class Gateway:
    name: str
    clock: Clock
    borrower: Borrower = field(default_factory=Borrower)
    demand: Demand = FLOODED
    boots: int = 0
    adopted_at: int = 0  # true
    running: bool = True
    turn: int = 0  # of what it has asked; answers to earlier asks are not waited for any more
    there: int = 5 * MS
    back: int = 5 * MS
    loses: str = ""  # "answers" or "asks"
    used: list[Used] = field(default_factory=list)

    def most_in_second_until(self, at: int) -> int:
        return max(
            (u.rate for u in self.used if u.until > at - SECOND and u.since <= at), default=0
        )


class World:
    """A lender and gateways in true time, in nanoseconds. The oracle adds up what all may send in
    the second that ends now, each time when one may send more."""

    def __init__(
        self, gateways: int = GATEWAYS, drift: Callable[[int], int] = lambda _n: 0
    ) -> None:
        self.now = 10 * SECOND
        self.chance: random.Random | None = None  # then demands come and go
        self.count = gateways
        self.lender = Clock(drift(-1), 1_796_000_000 * SECOND)
        self.book, self.saved, self.runs = Book(), Book(), 1
        self.stopped: list[Callable[[], None]] | None = None  # asks that wait for Redis to go on
        self.gateways = [
            Gateway(f"gw{n}", Clock(drift(n), n * 77 * SECOND)) for n in range(gateways)
        ]
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        for n, gateway in enumerate(self.gateways):
            self.at(self.now + n * 333 * MS, lambda gateway=gateway: self.tick(gateway))  # type: ignore[misc]

    def at(self, when: int, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def run_for(self, span: int) -> None:
        end = self.now + span
        while self.events and self.events[0][0] <= end:
            self.now, _, what = heapq.heappop(self.events)
            what()
        self.now = end
        self.check()

    def lent(self) -> int:
        """What all may use at this instant, above their floors."""
        return sum(
            u.rate for gateway in self.gateways for u in gateway.used[-1:] if u.until > self.now
        )

    # -- asking

    def tick(self, gateway: Gateway) -> None:
        """Ask, give up after half a second, and again 1.4 s later."""
        if self.chance and self.chance.random() < 0.4:
            gateway.demand = FLOODED if self.chance.random() < 0.4 else Demand()
        if gateway.running:
            self.ask(gateway)
        answered_in = min(gateway.there + gateway.back, SECOND // 2)
        self.at(self.now + answered_in + lending.ASK_EVERY_MS * MS, lambda: self.tick(gateway))

    def ask(self, gateway: Gateway, *, leaving: bool = False) -> None:
        before = gateway.clock.shows(self.now)
        settled = self.now - gateway.adopted_at >= lending.SETTLED_MS * MS
        known = gateway.borrower
        asked = Ask(
            gateway.name,
            f"{gateway.name}.{gateway.boots}",
            RATE,
            FLOOR,
            self.count,
            Demand() if leaving else gateway.demand,
            known.server,
            known.number if settled or leaving else 0,
            known.stepped,
            leaving,
        )
        gateway.turn += 1
        turn, back, loses = gateway.turn, gateway.back, gateway.loses
        if leaving:
            gateway.running = False
            gateway.borrower = known.left()
            self.adopted(gateway)

        def executed() -> None:
            if self.stopped is not None:
                self.stopped.append(executed)
                return
            shown = self.lender.shows(self.now) // MS
            self.book, answer = lending.ask(self.book, shown, f"run{self.runs}", asked)
            if loses != "answers":
                self.at(
                    self.now + back, lambda: self.answered(gateway, asked, turn, before, answer)
                )

        if loses != "asks":
            self.at(self.now + gateway.there, executed)
        self.at(self.now + SECOND // 2, lambda: self.give_up(gateway, turn))

    @staticmethod
    def give_up(gateway: Gateway, turn: int) -> None:
        if gateway.turn == turn:
            gateway.turn += 1

    def answered(
        self, gateway: Gateway, asked: Ask, turn: int, before: int, answer: Answer
    ) -> None:
        if turn != gateway.turn or not gateway.running:
            return  # it closed that connection
        known = gateway.borrower
        after = gateway.clock.shows(self.now)
        gateway.borrower = known.answered(asked, before, after, answer)
        if gateway.borrower.ends_at != known.ends_at:
            self.adopted(gateway)

    def adopted(self, gateway: Gateway) -> None:
        """It sends by what it holds now; for a moment some of its pacers do by what it held."""
        if gateway.used:
            last = gateway.used[-1]
            last.until = min(last.until, self.now + PACERS_LAG)
        gateway.used = [u for u in gateway.used if u.until > self.now - 2 * SECOND]
        gateway.adopted_at = self.now
        ends = gateway.clock.shows_at_last(gateway.borrower.ends_at)
        if ends > self.now:
            gateway.used.append(Used(self.now, ends, gateway.borrower.lent))
        self.check()

    def check(self) -> None:
        lent = sum(gateway.most_in_second_until(self.now) for gateway in self.gateways)
        total = lent + self.count * FLOOR
        assert total <= RATE, f"{total} bytes in one second of at most {RATE}"


class Lending(RuleBasedStateMachine):
    """All gateways ask again and again, while asks, answers, clocks and programs go wrong."""

    @initialize(
        drifts=st.lists(st.sampled_from([-500, 0, 500]), min_size=5, max_size=5),
        seed=st.integers(0, 10**6),
    )
    def begin(self, drifts: list[int], seed: int) -> None:
        self.world = World(drift=lambda n: drifts[n])
        self.world.chance = random.Random(seed)
        self.world.run_for(20 * SECOND)  # they have watched the lender for long enough, and borrow

    gateways = st.integers(0, GATEWAYS - 1)

    @rule(
        n=gateways,
        there=st.sampled_from([0, 5, 100, 240, 400, 3000, 9000]),
        back=st.sampled_from([0, 5, 100, 400]),
        loses=st.sampled_from(["", "", "answers", "asks"]),
    )
    def network(self, n: int, there: int, back: int, loses: str) -> None:
        gateway = self.world.gateways[n]
        gateway.there, gateway.back, gateway.loses = there * MS, back * MS, loses

    @rule()
    def network_is_well(self) -> None:
        for gateway in self.world.gateways:
            gateway.there, gateway.back, gateway.loses = 5 * MS, 5 * MS, ""

    @rule(span=st.sampled_from([200, 1400, 5000, 20_000]))
    def time_passes(self, span: int) -> None:
        self.world.run_for(span * MS)

    @rule(n=gateways, away=st.sampled_from([100, 1000, 5000]))
    def leaves(self, n: int, away: int) -> None:
        gateway = self.world.gateways[n]
        if gateway.running:
            self.world.ask(gateway, leaving=True)
            self.world.at(self.world.now + away * MS, lambda: setattr(gateway, "running", True))

    @rule()
    def redis_saves(self) -> None:
        self.world.saved = self.world.book

    @rule(data=st.sampled_from(["all", "old", "none"]))
    def redis_restarts(self, data: str) -> None:
        world = self.world
        world.book = {"all": world.book, "old": world.saved, "none": Book()}[data]
        world.runs += 1
        world.stopped = None

    @rule()
    def redis_stops(self) -> None:
        self.world.stopped = self.world.stopped or []

    @rule(backwards=st.booleans())
    def redis_goes_on(self, backwards: bool) -> None:
        """What was sent to it is carried out now, from many connections, in any order."""
        waiting, self.world.stopped = self.world.stopped or [], None
        for executed in reversed(waiting) if backwards else waiting:
            executed()

    @rule(seconds=st.sampled_from([-3600, -5, 3, 3600]))
    def redis_clock_is_stepped(self, seconds: int) -> None:
        self.world.lender.offset += seconds * SECOND

    @rule(n=gateways)
    def gateway_boots(self, n: int) -> None:
        gateway = self.world.gateways[n]
        gateway.turn += 1
        gateway.boots += 1
        gateway.clock.offset -= gateway.clock.shows(self.world.now)
        gateway.borrower = Borrower()
        self.world.adopted(gateway)


class TestLending(Lending.TestCase):
    settings = settings(
        max_examples=int(os.environ.get("HEADGATE_TEST_LENDING", "60")),
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# -- one of each kind, and what is lent when all is well


def well(gateways: int = GATEWAYS) -> World:
    """All have borrowed for a while."""
    world = World(gateways)
    world.run_for(20 * SECOND)
    return world


def test_all_of_the_rest_is_lent_in_equal_parts_while_all_are_flooded() -> None:
    world = well()
    rest = rest_of(RATE, FLOOR, GATEWAYS)
    assert rest - GATEWAYS <= world.lent() <= rest
    assert {gateway.borrower.lent for gateway in world.gateways} == {rest // GATEWAYS}


def test_a_flooded_gateway_gets_what_the_others_leave_and_they_get_it_back() -> None:
    world = well()
    rest = rest_of(RATE, FLOOR, GATEWAYS)
    flooded, *others = world.gateways
    for gateway in others:
        gateway.demand = Demand()
    world.run_for(6 * SECOND)
    assert flooded.borrower.lent == rest
    others[0].demand = Demand(WANT * 300_000, 0, 10)
    world.run_for(6 * SECOND)
    assert (others[0].borrower.lent, flooded.borrower.lent) == (200_000, rest - 200_000)
    flooded.demand = Demand()
    world.run_for(6 * SECOND)
    assert others[0].borrower.lent == rest


def test_an_ended_run_leaves_its_lease_to_others_within_seconds() -> None:
    world = well()
    world.ask(world.gateways[0], leaving=True)
    world.run_for(5 * SECOND)
    rest = rest_of(RATE, FLOOR, GATEWAYS)
    assert world.lent() >= rest - GATEWAYS


def test_a_late_goodbye_does_not_end_what_was_lent_after_it() -> None:
    """A stopped Redis finds both in its buffers, and takes them in any order."""
    world = well()
    one, *others = world.gateways
    one.there = 3 * SECOND
    world.ask(one, leaving=True)
    one.there, one.running = 5 * MS, True
    world.ask(one)
    world.run_for(3500 * MS)
    for gateway in others:
        gateway.demand = FLOODED
    one.loses = "asks"  # it uses its lease to the end, and the others get what it seems to leave
    world.run_for(15 * SECOND)


def test_a_gateway_without_an_answer_uses_its_lease_to_its_end_and_not_longer() -> None:
    for there in (0, 240 * MS):  # slow, but in time: a lease counts from before it was asked for
        world = well()
        one = world.gateways[0]
        one.there, one.back = there, 240 * MS - there
        world.run_for(5 * SECOND)
        one.loses = "asks"
        assert one.borrower.lent
        world.run_for(15 * SECOND)
        assert one.used[-1].until < world.now
        assert world.lent() >= rest_of(RATE, FLOOR, GATEWAYS) - GATEWAYS


def test_a_borrower_counts_from_before_it_asked() -> None:
    held = Borrower(server="run1", watched_from=-(10**12), ahead=10**12)
    asked = Ask("gw1", "a", RATE, FLOOR, GATEWAYS, server="run1")
    before, after = 5 * SECOND, 5 * SECOND + 200 * MS
    answer = Answer("run1", 1_000_000 + 5100, 7, 1000)
    known = held.answered(asked, before, after, answer)
    assert (known.number, known.lent) == (7, 1000)
    assert known.ends_at == before + lending.USE_MS * MS
    assert lending.USE_MS + lending.APART_MS + lending.UNSEEN_MS < lending.LENGTH_MS
    late = before + lending.ANSWER_MS * MS + 1
    assert held.answered(asked, before, late, answer) == held


@pytest.mark.parametrize("data", ["all", "none"])
def test_a_redis_that_has_just_started_lends_nothing_for_one_length(data: str) -> None:
    world = well()
    book = world.book if data == "all" else Book()
    asked = Ask("gw9", "new", RATE, FLOOR, GATEWAYS, FLOODED, server="run1")
    at = world.lender.shows(world.now) // MS
    for later in (0, 3000, lending.LENGTH_MS - 1):
        book, answer = lending.ask(book, at + later, "run2", asked)
        assert (answer.lent, answer.why) == (0, lending.Why.JUST_STARTED)
    book, answer = lending.ask(book, at + lending.LENGTH_MS, "run2", asked)
    assert answer.lent


def test_a_clock_that_is_stepped_forward_ends_no_lease_early() -> None:
    """Who has watched it notices; who has not must first watch for as long as a lease."""
    for new in (False, True):
        world = well()
        one, *others = world.gateways
        for gateway in others:
            gateway.demand = Demand()
            gateway.running = not new
        world.run_for(10 * SECOND)
        assert one.borrower.lent == rest_of(RATE, FLOOR, GATEWAYS)
        one.loses = "asks"
        world.lender.offset += 3600 * SECOND
        for gateway in others:
            gateway.demand, gateway.running = FLOODED, True
            if new:
                gateway.borrower = Borrower()
        world.run_for(20 * SECOND)
        assert world.lent() >= rest_of(RATE, FLOOR, GATEWAYS) - GATEWAYS


def test_a_clock_that_is_stepped_back_holds_nothing_up_for_longer_than_a_length() -> None:
    world = well()
    world.lender.offset -= 3600 * SECOND
    world.gateways[0].running = False
    world.run_for(12 * SECOND)
    assert world.lent() >= rest_of(RATE, FLOOR, GATEWAYS) - GATEWAYS


def test_a_lower_rate_counts_as_the_higher_one_until_it_is_confirmed() -> None:
    world = well()
    one, two, *others = world.gateways
    for gateway in (two, *others):
        gateway.demand = Demand()
    world.run_for(10 * SECOND)
    two.demand = FLOODED
    one.loses = "answers"  # it never learns that it gets less
    world.run_for(10 * SECOND)


def test_more_gateways_than_the_settings_say_do_not_pass_the_rate() -> None:
    world = World(GATEWAYS + 1)
    world.count = GATEWAYS
    book = Book()
    at = world.lender.shows(world.now) // MS
    for later in range(0, 30_000, 1000):
        for n in range(GATEWAYS + 1):
            asked = Ask(f"gw{n}", f"{n}", RATE, FLOOR, GATEWAYS, FLOODED)
            book, answer = lending.ask(book, at + later, "run1", asked)
    assert answer.known == GATEWAYS + 1
    entries = book.entries.values()
    assert sum(entry.counted + FLOOR for entry in entries) <= RATE


def test_two_machines_of_one_name_are_told_and_both_are_counted() -> None:
    book, _ = lending.ask(Book(), 10_000, "run1", Ask("gw1", "a", RATE, FLOOR, 2))
    book, answer = lending.ask(book, 11_000, "run1", Ask("gw1", "b", RATE, FLOOR, 2))
    assert (answer.namesake, answer.known) == (True, 2)
    book, answer = lending.ask(book, 30_000, "run1", Ask("gw1", "b", RATE, FLOOR, 2))
    assert (answer.namesake, answer.known) == (False, 1)  # the same machine, after it booted


@given(
    rest=st.integers(0, 10**9),
    floor=st.integers(0, 10**6),
    demands=st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.builds(Demand, st.integers(0, 10**10), st.integers(0, 10**10), st.integers(0, 10**6)),
    ),
)
@settings(max_examples=200, deadline=None)
def test_a_division_gives_all_and_no_more_and_is_fair(
    rest: int, floor: int, demands: dict[str, Demand]
) -> None:
    shares = divide(rest, demands, floor)
    assert shares.keys() == demands.keys()
    assert all(share >= 0 for share in shares.values())
    busy = [name for name, demand in demands.items() if demand.waiting_bytes]
    assert sum(shares.values()) == (rest if busy else 0)
    for one, other in itertools.permutations(demands, 2):
        if not demands[one].urgent_bytes and not demands[other].urgent_bytes:
            # Who gets less got all that it wants, or there was an odd byte.
            assert shares[one] + 1 >= min(shares[other], demands[one].wants(floor)[1])


def test_urgent_images_are_thought_of_first() -> None:
    shares = divide(100, {"a": Demand(10**9), "b": Demand(10**9, 10**9), "c": Demand()})
    assert shares == {"a": 0, "b": 100, "c": 0}


def test_a_lower_limit_lowers_what_is_lent_at_once() -> None:
    known = Borrower(lent=600, ends_at=10, rest=1000)
    assert [known.lent_at(9, rest) for rest in (2000, 1000, 500, 0)] == [600, 600, 300, 0]
    assert known.lent_at(10, 1000) == 0
    assert Borrower().lent_at(0, 0) == 0


def test_floors_never_pass_the_rate() -> None:
    assert [floor_of(rate, 100, 4) for rate in (0, 3, 399, 400, 10**6)] == [0, 0, 99, 100, 100]
    assert [rest_of(rate, 100, 4) for rate in (0, 400, 1000)] == [0, 0, 600]
