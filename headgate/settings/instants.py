"""Points in time as people write them on the command line, and as programs write them. Pure.

What people write without a zone is this machine's local time. What a program wrote is an instant or
none, never an exception: the standard library's readers raise four kinds of them.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

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


def read_rfc3339(text: object) -> datetime | None:
    """The instant that RFC 3339 or ISO 8601 text names, in UTC; None for anything else, also for a
    time without a zone and for one that UTC puts outside the years 1 to 9999."""
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        at = datetime.fromisoformat(text)  # type: ignore[arg-type]
        return at.astimezone(UTC) if at.tzinfo is not None else None
    return None


def read_mail_date(text: str) -> datetime | None:
    """A date as HTTP (RFC 9110, 5.6.7) and mail (RFC 5322, 3.3) have it, without a zone where it
    names none; None for anything else, also for a year or a zone that no date can have."""
    with contextlib.suppress(ValueError, OverflowError, TypeError, IndexError):
        return parsedate_to_datetime(text)
    return None


def read_http_date(text: str) -> datetime | None:
    """An HTTP date as an instant: it is always in UTC, whether it says so or not."""
    at = read_mail_date(text)
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
