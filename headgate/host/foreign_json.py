"""JSON that another program wrote: a document, or a ValueError, whatever the bytes are. Pure."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """What the text says; ValueError for anything that is not JSON, also for lists in lists so
    deep that the standard library gives up with another error."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that the text is; None for anything else."""
    try:
        found = read_json(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
