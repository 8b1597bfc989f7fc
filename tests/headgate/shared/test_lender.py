"""The lender in Redis: the script does what the pure module does, and survives a real server."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from headgate.shared import lender, lending
from headgate.shared.connection import SharedTrouble, connect
from headgate.shared.controls import Record
from headgate.shared.keys import key
from headgate.shared.lender import Lender
from headgate.shared.lending import Ask, Book, Demand, Why
from tests.support.queueing import Redis, needs_redis

pytestmark = needs_redis

STEP = """
local book, answer = ask(ARGV[1] ~= '' and cjson.decode(ARGV[1]) or nil, tonumber(ARGV[2]), ARGV[3],
  cjson.decode(ARGV[4]))
return {cjson.encode(book), answer}
"""


def as_json(book: Book) -> dict[str, Any]:
    return {
        "server": book.server,
        "quiet": book.quiet_until,
        "number": book.number,
        "entries": {
            holder: {
                "gateway": one.gateway,
                "seen": one.seen,
                "rate": one.rate,
                "floor": one.floor,
                "gateways": one.gateways,
                "waiting": one.demand.waiting_bytes,
                "urgent": one.demand.urgent_bytes,
                "oldest": one.demand.oldest_seconds,
                "lent": [[x.number, x.rate, x.until] for x in one.lent] or {},
            }
            for holder, one in book.entries.items()
        }
        or {},
    }


def test_the_script_does_what_the_module_does(tmp_path: Path) -> None:
    """Three thousand asks in a row, of gateways, clocks and servers that change at random."""
    chance = random.Random(7)
    redis = Redis(tmp_path).start()
    try:
        client = connect(redis.url, timeout_seconds=20)
        step = client.register_script(lender.script() + STEP)
        book, kept, now, server = Book(), "", 1_796_000_000_000, "a"
        lent = 0
        for _ in range(3000):
            now += chance.choice([0, 1, 300, 1400, 1400, 6999, 7000, 3_600_000, -5000])
            server = chance.choice([server] * 80 + ["a", "b"])
            name = f"gw{chance.randrange(5)}"
            asked = Ask(
                name,
                f"{name}.{chance.choice([0, 0, 0, 1])}",
                chance.choice([0, 999, 10**6, 10**6, 10**6, 10**12]),
                chance.choice([0, 7, 10**5, 10**5]),
                chance.choice([1, 5, 5, 5]),
                Demand(*(chance.choice([0, 1, 10**6, 10**14]) for _ in range(3))),
                chance.choice([server, server, server, "b", ""]),
                max(0, book.number - chance.choice([0, 1, 5, 10**6])),
                chance.random() < 0.02,
                chance.random() < 0.1,
            )
            kept, told = step(args=[kept, now, server, lender.encode(asked)])
            book, answer = lending.ask(book, now, server, asked)
            assert lender.decode(told) == answer
            assert json.loads(kept) == as_json(book)
            lent += answer.lent > 0
        assert lent > 500
    finally:
        redis.stop()


def test_a_gateway_asks_a_real_redis(tmp_path: Path) -> None:
    """It lends nothing at first; and a server that is gone is a sentence, not a wait."""
    redis = Redis(tmp_path).start()
    one = Lender(redis.url, "north")
    asked = Ask("gw1", "a", 1000, 100, 2, Demand(10**6))
    first, _ = one.ask(asked)
    assert (first.lent, first.why, first.known, first.rate) == (0, Why.JUST_STARTED, 1, 1000)
    with redis.client() as client:
        assert client.pttl(key("north", "lending")) > lending.REMEMBERED_MS
        book = json.loads(client.get(key("north", "lending")))
        client.set(key("north", "lending"), json.dumps({**book, "quiet": 0}))
    limit, timetable = {"version": 2, "gateway": "gw1"}, {"version": 1, "gateway": "gw2"}
    second, newest = one.ask(asked, {Record.LIMIT: limit})
    assert (second.lent, newest) == (800, {Record.LIMIT: limit, Record.TIMETABLE: None})
    older = {"version": 1, "gateway": "gw2"}
    _, newest = one.ask(asked, {Record.LIMIT: older, Record.TIMETABLE: timetable})
    assert newest == {Record.LIMIT: limit, Record.TIMETABLE: timetable}
    redis.stop()
    with pytest.raises(SharedTrouble, match="Redis: "):
        one.ask(asked)
    redis.start()  # it has its data, and another run
    third, _ = one.ask(asked)
    assert (third.lent, third.why) == (0, Why.JUST_STARTED)
    one.close()
    redis.stop()
