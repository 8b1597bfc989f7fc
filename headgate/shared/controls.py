"""What people set for the whole site, a limit or a pause, and the timetable: the newest of each is
kept in Redis, and each gateway takes it over."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from headgate.host.foreign_json import read_json
from headgate.shared.connection import connect, disconnect, troubles
from headgate.shared.keys import key

NEWER = """
local function newest(held, offered)
  local controls = redis.call('GET', held)
  if offered ~= '' then
    local mine, theirs = cjson.decode(offered), controls and cjson.decode(controls)
    if not theirs or mine.version > theirs.version
        or (mine.version == theirs.version and mine.gateway > theirs.gateway) then
      controls = offered
      redis.call('SET', held, controls)
    end
  end
  return controls or ''
end
"""
"""Keeps the newer of two, and returns it: a part of scripts, in Lua."""


class Record(StrEnum):
    """What has a version of its own; the value is a part of its key, which has no end."""

    LIMIT = "controls"  # or a pause
    TIMETABLE = "timetable"


Records = Mapping[Record, Any]
"""The newest of each that is known; None for none."""


def keys_of(site: str) -> list[str]:
    """Where the newest of a site are kept."""
    return [key(site, record) for record in Record]


def encode(mine: Records) -> list[str]:
    """As the script takes them; "" for none."""
    found = [mine.get(record) for record in Record]
    return ["" if one is None else json.dumps(dict(one)) for one in found]


def decode(texts: Sequence[Any]) -> dict[Record, Any]:
    """What the script returned. ValueError for what is no JSON."""
    return {
        record: read_json(str(text)) if text else None
        for record, text in zip(Record, texts, strict=True)
    }


def exchange(url: str, site: str, mine: Records, *, timeout_seconds: float) -> dict[Record, Any]:
    """Offer what this gateway knows; the newest of the site. SharedTrouble."""
    client = connect(url, timeout_seconds=timeout_seconds)
    try:
        with troubles(client):
            script = client.register_script(
                NEWER + "return {newest(KEYS[1], ARGV[1]), newest(KEYS[2], ARGV[2])}"
            )
            return decode(script(keys=keys_of(site), args=encode(mine)))
    finally:
        disconnect(client)
