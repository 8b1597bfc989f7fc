"""The book of a day's allowance in Redis: one script, carried out as a whole."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from headgate.shared.allowance import Answer, Ask
from headgate.shared.connection import Client, SharedTrouble, troubles
from headgate.shared.keys import key

_MOST_BYTES = 10**14
"""More is not told apart: sums stay exact in Lua, and in its JSON."""
# The whole book is in one key: if that is lost, all of it is, and another one begins.
_CALL = """
local time = redis.call('TIME')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local kept = redis.call('GET', KEYS[1])
local born = time[1] .. string.format('%06d', time[2])
local book, answer = ask(kept and cjson.decode(kept) or nil, server, born, cjson.decode(ARGV[1]))
redis.call('SET', KEYS[1], cjson.encode(book))
return answer
"""


@cache
def script() -> str:
    """The book's function, in Lua."""
    return (files("headgate.shared") / "allowance.lua").read_text(encoding="utf-8")


def encode(asked: Ask) -> str:
    """As the script takes it."""
    return json.dumps(
        {
            "gateway": asked.gateway,
            "holder": asked.holder,
            "gateways": asked.gateways,
            "floor": min(asked.shares.floor, _MOST_BYTES),
            "pool": min(asked.shares.pool, _MOST_BYTES),
            "book": asked.book,
            "left": dict.fromkeys(asked.left, True),
            "turn": asked.turn,
            "day": asked.day,
            "held": [[day, min(size, _MOST_BYTES)] for day, size in asked.held.items()],
            "want": min(asked.want, _MOST_BYTES),
        }
    )


def decode(told: list[Any]) -> Answer:
    """What the script answered."""
    book, turn, held, free, missing = told
    return Answer(str(book), int(turn), int(held), int(free), int(missing))


class DayBook:
    """The book of one site, asked over a connection that another part of it has."""

    def __init__(self, client: Client, site: str) -> None:
        self._client, self._keys = client, [key(site, "day")]
        self._script = client.register_script(script() + _CALL)

    def ask(self, asked: Ask) -> Answer:
        """The book's answer. SharedTrouble for whatever goes wrong."""
        with troubles(self._client):
            told = self._script(keys=self._keys, args=[encode(asked)])
            try:
                return decode(told)
            except (TypeError, ValueError) as error:
                raise SharedTrouble("Redis: an answer that is none of the book's") from error
