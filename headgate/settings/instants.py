"""Points in time as people write them on the command line. Pure.

A date or a time without a zone is this machine's local time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from headgate.settings.units import UnitError, parse_duration

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DAYS_AGO = {"today": 0, "yesterday": 1}


def read_instant(text: str, now: datetime, *, end: bool = False) -> datetime:
    """``2026-11-23T16:04:05Z``, ``2026-11-23 16:04``, ``2026-11-23``, ``today``, ``yesterday``,
    ``now``, or how long ago: ``2h``. Of a day its first instant, or with ``end`` the first one of
    the next day. UnitError for anything else.
    """
    text = text.strip()
    if text == "now":
        return now
    if text in _DAYS_AGO:
        text = f"{now.astimezone() - timedelta(days=_DAYS_AGO[text]):%Y-%m-%d}"
    try:
        at = datetime.fromisoformat(text)
        if end and _DATE.fullmatch(text):
            at += timedelta(days=1)
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (UnitError, OverflowError):
        raise UnitError(
            f"{text!r} is not a time; write it like 2026-11-23, 2026-11-23T16:04:05Z, yesterday or "
            "2h (ago)"
        ) from None


def rfc3339(at: datetime) -> str:
    """An instant in UTC as RFC 3339 has it, for documents that programs read."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
