"""One allowance of a day for all gateways of a site: what they may charge never adds up to more."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from headgate.shared import allowance, day_book
from headgate.shared.allowance import Answer, Ask, Book, Holder, Shares
from headgate.shared.connection import connect
from tests.support.queueing import Redis, needs_redis

GATEWAYS, DAILY = 3, 1000
SHARES = Shares.of(DAILY, 100, 10, GATEWAYS)
TODAY = 739_000


@dataclass
class Gateway:
    """One gateway: what is on its disk, and what it has charged to each day."""

    name: str
    holder: Holder = field(default_factory=Holder)
    day: int = TODAY  # by its own clock
    charged: dict[int, int] = field(default_factory=dict)
    server: int = 0  # that its network leads to

    def used(self, day: int) -> int:
        return self.charged.get(day, 0)

    def above(self, day: int) -> int:
        return max(0, self.used(day) - SHARES.floor)

    def may(self, day: int) -> int:
        return SHARES.floor + self.holder.of(day) - self.used(day)


@dataclass
class Server:
    """A Redis, which may be restarted with or without its data."""

    run: int = 1
    book: Book = field(default_factory=Book)
    saved: Book = field(default_factory=Book)


class World:
    """The oracle adds up what all gateways have charged and may charge, of each day."""

    def __init__(self) -> None:
        self.servers = [Server(1), Server(2)]
        self.gateways = [Gateway(f"gw{n}") for n in range(GATEWAYS)]
        self.runs, self.born = 2, 0
        self.under_way: list[tuple[Gateway, Ask, Server]] = []  # not carried out yet
        self.answers: list[tuple[Gateway, Ask, Answer]] = []  # not heard yet

    def question(self, gateway: Gateway, want: int) -> Ask:
        gateway.holder = gateway.holder.asks(gateway.day, gateway.above(gateway.day))
        holder = gateway.holder
        return Ask(
            gateway.name, f"spool-{gateway.name}", GATEWAYS, SHARES, holder.book, holder.left,
            holder.turn, gateway.day, holder.held, want,
        )  # fmt: skip

    def carry_out(self, asked: Ask, server: Server) -> Answer:
        self.born += 1
        server.book, answer = allowance.ask(server.book, f"run{server.run}", self.born, asked)
        return answer

    def ask(self, gateway: Gateway, more: int) -> Answer:
        """Ask, and be answered at once."""
        asked = self.question(gateway, gateway.above(gateway.day) + more)
        answer = self.carry_out(asked, self.servers[gateway.server])
        self.hears(gateway, asked, answer)
        return answer

    def hears(self, gateway: Gateway, asked: Ask, answer: Answer) -> None:
        gateway.holder = gateway.holder.answered(asked, answer)
        self.check()

    def charge(self, gateway: Gateway, most: int = DAILY) -> int:
        size = min(most, max(0, gateway.may(gateway.day)))
        gateway.charged[gateway.day] = gateway.used(gateway.day) + size
        return size

    def give_back(self, gateway: Gateway) -> None:
        day = gateway.day
        gateway.holder = gateway.holder.gives_back(day, gateway.above(day))

    def restart(self, server: Server, data: str) -> None:
        self.runs += 1
        server.run = self.runs
        server.book = {"all": server.book, "old": server.saved, "none": Book()}[data]

    def check(self) -> None:
        days = {day for one in self.gateways for day in (*one.charged, *one.holder.held, one.day)}
        for day in days:
            total = sum(
                max(one.used(day), SHARES.floor + one.holder.of(day)) for one in self.gateways
            )
            assert total <= DAILY, f"{total} bytes may leave on day {day} of at most {DAILY}"

    def settle(self) -> None:
        for _ in range(2):  # to hear of the book, and to tell it
            for gateway in self.gateways:
                self.ask(gateway, 0)


class Days(RuleBasedStateMachine):
    """Asks and answers are lost, late and out of order; servers are two, restart and lose data;
    gateways meet either, have other days, give back, and lose what Redis told them."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.world.settle()

    gateways = st.integers(0, GATEWAYS - 1)
    servers = st.integers(0, 1)

    @rule(seed=st.integers(0, 10**6), steps=st.sampled_from([20, 60]))
    def busy(self, seed: int, steps: int) -> None:
        """Asks and answers of all gateways, in any order, while they charge and give back."""
        world, chance = self.world, random.Random(seed)
        for _ in range(steps):
            gateway, server = chance.choice(world.gateways), chance.choice(world.servers)
            match chance.randrange(9):
                case 0 | 1:
                    want = gateway.above(gateway.day) + chance.choice([0, 50, 200, 5000])
                    world.under_way.append((gateway, world.question(gateway, want), server))
                case 2 | 3 if waiting := world.under_way:
                    one, asked, to = waiting.pop(chance.randrange(len(waiting)))
                    world.answers.append((one, asked, world.carry_out(asked, to)))
                case 4 | 5 if heard := world.answers:
                    world.hears(*heard.pop(chance.randrange(len(heard))))
                case 6:
                    world.ask(gateway, chance.choice([0, 50, 5000]))
                case 7:
                    world.charge(gateway, chance.choice([10, 200, DAILY]))
                case 8 if chance.random() < 0.3:
                    world.give_back(gateway)
            world.check()

    @rule(n=gateways, more=st.sampled_from([0, 1, 50, 200, 5000]))
    def asks(self, n: int, more: int) -> None:
        self.world.ask(self.world.gateways[n], more)

    @rule(n=gateways, server=servers)
    def meets(self, n: int, server: int) -> None:
        self.world.gateways[n].server = server

    @rule(server=servers)
    def all_meet_one(self, server: int) -> None:
        for gateway in self.world.gateways:
            gateway.server = server
        self.world.settle()

    @rule(n=servers)
    def saves(self, n: int) -> None:
        self.world.servers[n].saved = self.world.servers[n].book

    @rule(n=servers, data=st.sampled_from(["all", "old", "none"]))
    def restarts(self, n: int, data: str) -> None:
        self.world.restart(self.world.servers[n], data)

    @rule(n=servers)
    def loses_its_key(self, n: int) -> None:
        self.world.servers[n].book = Book()  # evicted, or flushed: the same run goes on

    @rule(n=servers)
    def is_copied_to_the_other(self, n: int) -> None:
        self.world.servers[1 - n].book = self.world.servers[n].book

    @rule(n=gateways, days=st.sampled_from([1, 1, 2, -1]))
    def day_changes(self, n: int, days: int) -> None:
        gateway = self.world.gateways[n]
        gateway.day = max(TODAY, gateway.day + days)
        self.world.check()


class TestDays(Days.TestCase):
    settings = settings(
        max_examples=60, stateful_step_count=30, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# -- one of each kind, and what is used when all is well


def test_one_gateway_gets_all_but_the_floors_of_the_others() -> None:
    world = World()
    one = world.gateways[0]
    assert world.ask(one, 5000) == Answer("run1.1", 1, 0, 0, GATEWAYS)
    assert world.ask(one, 5000).missing == GATEWAYS - 1, "it told the book; the others did not"
    assert world.charge(one) == SHARES.floor
    world.settle()
    total = SHARES.floor
    while (answer := world.ask(one, 100)).held:
        if not (sent := world.charge(one)):
            break
        total += sent
    assert (total, answer.free) == (DAILY - (GATEWAYS - 1) * SHARES.floor, 0)
    assert sum(world.charge(other) for other in world.gateways[1:]) + total == DAILY
    one.day += 1
    assert world.ask(one, 100).held == 100


def test_what_is_given_back_is_for_the_others() -> None:
    world = World()
    world.settle()
    one, two = world.gateways[:2]
    assert world.ask(one, 5000).held == SHARES.pool and world.ask(two, 5000).held == 0
    world.charge(one, 150)
    world.give_back(one)
    assert one.holder.of(TODAY) == 50, "the floor comes last"
    world.ask(one, 0)
    assert world.ask(two, 5000).held == SHARES.pool - 50


@pytest.mark.parametrize("data", ["all", "old", "none"])
def test_after_a_restart_nothing_is_given_until_all_have_said_what_they_hold(data: str) -> None:
    world = World()
    world.settle()
    one, two, three = world.gateways
    world.servers[0].saved = world.servers[0].book
    world.ask(one, 500)
    world.restart(world.servers[0], data)
    for _ in range(3):
        assert world.ask(two, 5000).held == world.ask(three, 5000).held == 0
    assert world.ask(one, 0).missing == 1 and world.ask(one, 0).missing == 0
    assert world.ask(two, 5000).held == SHARES.pool - 500


def test_an_answer_that_was_lost_is_made_good_by_the_next() -> None:
    world = World()
    world.settle()
    one, two = world.gateways[:2]
    world.carry_out(world.question(one, 300), world.servers[0])
    assert world.ask(two, 5000).held == SHARES.pool - 300
    assert world.ask(one, 0).held == 0 and world.ask(two, 5000).held == SHARES.pool


def test_a_late_ask_and_a_late_answer_change_nothing() -> None:
    world = World()
    world.settle()
    one, two = world.gateways[:2]
    late = world.question(one, 300)  # it says that it holds nothing
    world.ask(one, 200)
    world.carry_out(late, world.servers[0])
    assert world.ask(two, 5000).held == SHARES.pool - 200
    world.give_back(two)
    asked = world.question(two, 500)
    answer = world.carry_out(asked, world.servers[0])
    world.ask(two, 0)  # what it says now is that it holds nothing
    world.ask(one, 5000)
    world.hears(two, asked, answer)
    assert two.holder.of(TODAY) == 0


def test_a_book_that_a_gateway_has_left_is_none_any_more() -> None:
    """Two servers live at once: what the old one answers late, or still lends, is not taken."""
    world = World()
    world.settle()
    one, two, three = world.gateways
    asked = world.question(one, 500)
    answer = world.carry_out(asked, world.servers[0])
    for gateway in world.gateways:
        gateway.server = 1
    world.settle()
    assert world.ask(two, 5000).held == SHARES.pool
    world.hears(one, asked, answer)
    one.server = 0
    for _ in range(3):
        assert world.ask(one, 5000).missing, "the others have left it, too"
    assert one.holder.of(TODAY) == three.holder.of(TODAY) == 0


@pytest.mark.parametrize("loss", ["restart", "key"])
def test_what_was_said_to_another_book_does_not_count(loss: str) -> None:
    """An ask reaches a book that has just begun, by a proxy; the gateway took more since."""
    world = World()
    world.settle()
    one, two, three = world.gateways
    late = world.question(one, 0)
    world.ask(one, 500)
    if loss == "restart":
        world.restart(world.servers[0], "none")
    else:
        world.servers[0].book = Book()
    world.carry_out(late, world.servers[0])
    for _ in range(3):
        world.ask(two, 5000)
        world.ask(three, 5000)
    assert world.ask(three, 5000).missing == 1
    assert two.holder.of(TODAY) == three.holder.of(TODAY) == 0


def test_a_memory_that_was_lost_holds_what_was_charged() -> None:
    world = World()
    world.settle()
    one, two = world.gateways[:2]
    world.ask(one, 300)
    world.charge(one)
    one.holder = Holder()
    for _ in range(3):
        world.ask(one, 0)
    assert one.holder.of(TODAY) == 300 and world.ask(two, 5000).held == SHARES.pool - 300


def test_more_gateways_than_the_settings_say_and_other_settings() -> None:
    """One too many has a floor, too; where settings differ, the lowest pool counts."""
    world = World()
    world.gateways.append(Gateway("gw9"))
    world.settle()
    assert world.ask(world.gateways[0], 5000).held == SHARES.pool - SHARES.floor
    world = World()
    world.settle()
    one, two = world.gateways[:2]
    asked = replace(world.question(two, 0), shares=Shares(SHARES.floor, 5))
    world.hears(two, asked, world.carry_out(asked, world.servers[0]))
    assert world.ask(one, 5000).held == 5


@given(st.integers(0, 10**13), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 100))
def test_floors_and_pool_are_the_allowance(day: int, rate: int, floor: int, gateways: int) -> None:
    shares = Shares.of(day, rate, floor, gateways)
    assert shares.pool >= 0 <= shares.floor
    assert gateways * shares.floor + shares.pool == day


def test_what_is_on_disk_is_read_again() -> None:
    holder = Holder("run1.5", ("run0.1",), 7, {TODAY: 5, TODAY + 1: 0})
    assert Holder.decode(json.loads(json.dumps(holder.encode()))) == holder
    assert Holder.decode(None) == Holder()


STEP = """
local book, answer = ask(ARGV[1] ~= '' and cjson.decode(ARGV[1]) or nil, ARGV[2], ARGV[3],
  cjson.decode(ARGV[4]))
return {cjson.encode(book), answer}
"""


def as_json(book: Book) -> dict[str, Any]:
    def held(of: Mapping[int, int]) -> Any:
        return [[day, size] for day, size in sorted(of.items())] or {}

    return {
        "name": book.name,
        "server": book.server,
        "entries": {
            holder: {
                "gateway": one.gateway, "turn": one.turn, "told": one.told,
                "gateways": one.gateways, "floor": one.shares.floor, "pool": one.shares.pool,
                "held": held(one.held),
            }
            for holder, one in book.entries.items()
        },
    }  # fmt: skip


@needs_redis
def test_the_script_does_what_the_module_does(tmp_path: Path) -> None:
    """Two thousand asks in a row, of gateways, days, books and servers that change at random."""
    chance = random.Random(7)
    redis = Redis(tmp_path).start()
    try:
        step = connect(redis.url, timeout_seconds=60).register_script(day_book.script() + STEP)
        book, kept, server, gave = Book(), "", "a", 0
        for born in range(2000):
            server = chance.choice([server] * 200 + ["a", "b"])
            name = f"gw{chance.randrange(4)}"
            day = TODAY + chance.choice([0, 0, 0, 1])
            held = {one: chance.choice([0, 0, 10, 300]) for one in (day, TODAY + 5)}
            asked = Ask(
                name, f"{name}.{chance.choice([0, 0, 0, 1])}", chance.choice([3, 3, 3, 4]),
                chance.choice([SHARES, SHARES, Shares(50, 2000)]),
                chance.choice([book.name, book.name, book.name, "", "c.1"]),
                chance.choice([(), (), ("c.1",), ("c.1", book.name if born % 50 == 0 else "d")]),
                born - chance.choice([0, 0, 0, 30]), day, held, chance.choice([0, 20, 400]),
            )  # fmt: skip
            kept, told = step(args=[kept, server, born, day_book.encode(asked)])
            book, answer = allowance.ask(book, server, born, asked)
            assert day_book.decode(told) == answer
            found = json.loads(kept)
            for entry in found["entries"].values():
                entry["held"] = sorted(entry["held"]) or {}
            assert found == as_json(book)
            gave += answer.held > held[day]
        assert gave > 100
    finally:
        redis.stop()
