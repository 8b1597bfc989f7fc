"""What a wish for a drain may say, by HTTP or through the queue. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.settings import units
from headgate.spool.image import names

FIELDS = ("max_time", "max_bytes", "device")
_MOST_SECONDS = 86400


class BadJob(Exception):
    """It cannot be used; the sentence says why."""


def asked_for(document: Mapping[str, Any]) -> dict[str, Any]:
    """As fields of ``Job``: ``max_time`` ("2min"), ``max_bytes`` ("500MB"), ``device``, each of
    which may be left out. BadJob for anything else: a wish is not half fulfilled."""
    if unknown := [name for name in document if name not in FIELDS]:
        raise BadJob(f"{unknown[0][:40]!r} is none of {', '.join(FIELDS)}")
    found: dict[str, Any] = {}
    try:
        if "max_time" in document:
            found["max_seconds"] = units.parse_duration(_text(document, "max_time"))
            if not 0 < found["max_seconds"] <= _MOST_SECONDS:
                raise BadJob("max_time is not from 1s to 1d")
        if "max_bytes" in document:
            found["max_bytes"] = units.parse_size(_text(document, "max_bytes"))
            if not 0 < found["max_bytes"] < 2**62:
                raise BadJob("max_bytes is no size that can be sent")
    except units.UnitError as error:
        raise BadJob(str(error)[:200]) from None
    if "device" in document:
        found["device"] = _text(document, "device")
        if not names.DEVICE.fullmatch(found["device"]):
            raise BadJob("device is no name of a device")
    return found


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or len(value) > 100:
        raise BadJob(f'{name} is no text, as in {{"max_time": "2min"}}')
    return value
