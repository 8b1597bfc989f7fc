"""Asking the lender: one script, carried out by Redis as a whole, by Redis's clock."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, cast

from headgate.shared import controls, lending
from headgate.shared.connection import SharedTrouble, connect, disconnect, troubles
from headgate.shared.controls import Records
from headgate.shared.day_book import DayBook
from headgate.shared.keys import key
from headgate.shared.lending import Answer, Ask, Why

TIMEOUT_SECONDS = 0.5
_KEPT_MS = 2 * lending.REMEMBERED_MS
_TERMS = (
    f"local TERMS = {{length = {lending.LENGTH_MS}, leaving = {lending.LEAVING_MS}, "
    f"remembered = {lending.REMEMBERED_MS}, want = {lending.WANT_SECONDS}, "
    f"most = {lending.MOST_BYTES}}}\n"
)
# All of the book is in one key: an eviction or a lost key takes all of it, and then Redis counts
# as just started. The controls have a key of their own, which only a newer version replaces.
_CALL = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + quotient(tonumber(time[2]), 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local kept = redis.call('GET', KEYS[1])
local book, answer = ask(kept and cjson.decode(kept) or nil, now, server, cjson.decode(ARGV[1]))
redis.call('SET', KEYS[1], cjson.encode(book), 'PX', {_KEPT_MS})
return {{answer, newest(KEYS[2], ARGV[2]), newest(KEYS[3], ARGV[3])}}
"""


@cache
def script() -> str:
    """The lender's functions and their terms, in Lua."""
    return _TERMS + (files("headgate.shared") / "lending.lua").read_text(encoding="utf-8")


def encode(asked: Ask) -> str:
    """As the script takes it."""
    demand = asked.demand.bounded()
    return json.dumps(
        {
            "gateway": asked.gateway,
            "holder": asked.holder,
            "rate": asked.rate,
            "floor": asked.floor,
            "gateways": asked.gateways,
            "waiting": demand.waiting_bytes,
            "urgent": demand.urgent_bytes,
            "oldest": demand.oldest_seconds,
            "server": asked.server,
            "held": asked.held,
            "stepped": asked.stepped,
            "leaving": asked.leaving,
        }
    )


def decode(told: list[Any]) -> Answer:
    """What the script answered."""
    server, now, number, lent, why, namesake, known, rate = told[:8]
    return Answer(
        str(server),
        int(now),
        int(number),
        int(lent),
        Why(why),
        bool(namesake),
        int(known),
        int(rate),
    )


class Lender:
    """The lender of one site. ``ask`` waits for as long as ``TIMEOUT_SECONDS`` for each step."""

    def __init__(self, url: str, site: str) -> None:
        self._client = connect(url, timeout_seconds=TIMEOUT_SECONDS)
        self._script = self._client.register_script(script() + controls.NEWER + _CALL)
        self.days = DayBook(self._client, site)
        self._keys = [key(site, "lending"), *controls.keys_of(site)]

    def ask(self, asked: Ask, mine: Records | None = None) -> tuple[Answer, Records]:
        """The lender's answer, and the newest of what people set; ``mine`` are the newest that
        this gateway knows. SharedTrouble for whatever goes wrong."""
        with troubles(self._client):
            args = [encode(asked), *controls.encode(mine or {})]
            told = cast("list[Any]", self._script(keys=self._keys, args=args))
            try:
                return decode(told[0]), controls.decode(told[1:])
            except (IndexError, TypeError, KeyError, ValueError) as error:
                raise SharedTrouble("Redis: an answer that is none of the lender's") from error

    def close(self) -> None:
        """Give the connection up."""
        disconnect(self._client)
