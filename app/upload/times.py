"""Times of capture, as cameras and their clients write them. Pure.

ISO 8601 (so RFC 3339), EXIF 2.3 with or without fractions and a zone (its ``OffsetTime``), RFC 1123
(as HTTP dates), seconds or milliseconds since 1970, and digits alone: ``20231114221320``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from headgate.settings.instants import read_mail_date

LONGEST = 40
UNSET_YEAR = 1980
"""A camera's clock that was never set says this year or one before it: 1970, 1980, or zeros."""

_ZONE = r"\s?(?P<zone>[Zz]|[+-]\d{2}:?\d{2})?"
_EXIF = re.compile(
    r"(?P<date>\d{4}[:/.]\d{1,2}[:/.]\d{1,2})[ T](?P<time>\d{1,2}:\d{2}:\d{2})"
    r"(?P<fraction>[.,]\d{1,9})?" + _ZONE,
    re.ASCII,
)
_COMPACT = re.compile(
    r"(?P<date>\d{8})[ T_-]?(?P<time>\d{6})(?P<fraction>\d{3})?" + _ZONE, re.ASCII
)
_EPOCH = re.compile(r"(\d{1,10}|\d{13}|\d{16})(\.\d{1,9})?", re.ASCII)
_BLANK = re.compile(r"[0:\s./TZ-]*")
_DIVISORS = {13: 1000, 16: 1_000_000}
"""By the number of digits: milliseconds and microseconds since 1970."""


@dataclass(frozen=True, slots=True)
class CaptureTime:
    """``text`` is what is kept: as it came where it is ISO 8601 or plain EXIF, else as ISO 8601.
    Empty for a clock that was never set."""

    text: str


def read(text: str) -> CaptureTime | None:
    """A time that is not empty; None if it is in no known notation."""
    if len(text) > LONGEST or not text.isascii():
        return None
    if _BLANK.fullmatch(text):
        return CaptureTime("")
    at = _iso(text)
    kept = text
    if at is None:
        found = _exif(text)
        if found is not None:
            at, as_it_came = found
            kept = text if as_it_came else at.isoformat()
    if at is None:
        at = _compact(text) or _epoch(text) or _http(text)
        kept = "" if at is None else _written(at)
    if at is None:
        return None
    return CaptureTime(kept if at.year > UNSET_YEAR else "")


def _written(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _iso(text: str) -> datetime | None:
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return None  # 20231114 is a date, and 1700000000 is none: both have rules of their own
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _exif(text: str) -> tuple[datetime, bool] | None:
    found = _EXIF.fullmatch(text)
    if found is None:
        return None
    year, month, day = (int(part) for part in re.split(r"[:/.]", found["date"]))
    hour, minute, second = (int(part) for part in found["time"].split(":"))
    plain = found["fraction"] is None and found["zone"] is None and ":" in found["date"]
    if year == 0:
        return datetime.min.replace(tzinfo=UTC), plain
    micros = _micros(found["fraction"])
    try:
        at = datetime(year, month, day, hour, minute, second, micros)  # noqa: DTZ001
    except ValueError:
        return None
    return _in_zone(at, found["zone"]), plain


def _compact(text: str) -> datetime | None:
    found = _COMPACT.fullmatch(text)
    if found is None and re.fullmatch(r"\d{8}", text, re.ASCII):
        found = _COMPACT.fullmatch(text + "000000")
    if found is None:
        return None
    try:
        at = datetime.strptime(found["date"] + found["time"], "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        return None
    micros = int(found["fraction"] or 0) * 1000
    return _in_zone(at.replace(microsecond=micros), found["zone"])


def _epoch(text: str) -> datetime | None:
    found = _EPOCH.fullmatch(text)
    if found is None:
        return None
    whole = int(found[1])
    divisor = _DIVISORS.get(len(found[1]), 1)
    seconds, rest = divmod(whole, divisor)
    micros = rest * (1_000_000 // divisor) + (_micros(found[2]) if divisor == 1 else 0)
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    except (OverflowError, ValueError, OSError):
        return None


def _http(text: str) -> datetime | None:
    if not re.search(r"[A-Za-z]{3}", text):
        return None
    return read_mail_date(text)


def _micros(fraction: str | None) -> int:
    return int((fraction or ".0")[1:7].ljust(6, "0"))


def _in_zone(at: datetime, zone: str | None) -> datetime:
    if not zone:
        return at
    if zone in "Zz":
        return at.replace(tzinfo=UTC)
    return datetime.fromisoformat(f"{at.isoformat()}{zone}")
