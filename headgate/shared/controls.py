"""What people set for the whole site, a limit or a pause: the newest of it is kept in Redis, and
each gateway takes it over."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def controls_key(site: str) -> str:
    """Where the newest of a site are kept; it has no end."""
    return key(site, "controls")


def encode(controls: Mapping[str, Any] | None) -> str:
    """As the script takes them; "" for none."""
    return "" if controls is None else json.dumps(dict(controls))


def decode(text: str) -> Any:
    """What the script returned; None for none. ValueError for what is no JSON."""
    return read_json(text) if text else None


def exchange(url: str, site: str, mine: Mapping[str, Any] | None, *, timeout_seconds: float) -> Any:
    """Offer what this gateway knows; the newest of the site. SharedTrouble."""
    client = connect(url, timeout_seconds=timeout_seconds)
    try:
        with troubles(client):
            script = client.register_script(NEWER + "return newest(KEYS[1], ARGV[1])")
            return decode(str(script(keys=[controls_key(site)], args=[encode(mine)])))
    finally:
        disconnect(client)
