"""Quantities with their units, read and written. Pure.

A number without a unit is refused where a unit belongs: it is unclear whether ``keep_done = 1``
was meant as a day or a second. Decimal prefixes (kB, MB) are powers of 1000 and binary ones (KiB,
MiB) powers of 1024, as IEC 80000-13 has them. ``b`` alone is refused: bit is spelled out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_PREFIX = {
    "": 1,
    "K": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "KI": 1024,
    "MI": 1024**2,
    "GI": 1024**3,
    "TI": 1024**4,
}
_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_NUMBER = r"(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?)"
_SIZE = re.compile(rf"{_NUMBER}\s*(?P<prefix>[kKMGT]?i?)B")
_RATE = re.compile(rf"{_NUMBER}\s*(?P<prefix>[kKMGT]?i?)(?P<unit>B|bit)/(?P<per>s|sec|min|h)")
_DURATION = re.compile(rf"{_NUMBER}\s*(?P<unit>[a-z]+)")
_PERCENT = re.compile(rf"{_NUMBER}\s*%")
_BARE = re.compile(r"\d+(?:\.\d+)?")


class UnitError(ValueError):
    """A quantity that cannot be read; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Percent:
    """A share of something, 0 to 100, kept exactly."""

    hundredths: int  # of a percent: 20 % is 2000

    def of(self, whole: int) -> int:
        """The share of ``whole``, rounded down: a limit is never rounded up."""
        return whole * self.hundredths // 10_000

    def __str__(self) -> str:
        return f"{_trim(Fraction(self.hundredths, 100))}%"


def _trim(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


def _bare(text: str, example: str) -> None:
    if _BARE.fullmatch(text):
        raise UnitError(f"{text!r} has no unit; write it as {example}")


def parse_size(text: str) -> int:
    """Bytes of ``"20MiB"``, ``"500 MB"`` or ``"0B"``."""
    text = text.strip()
    _bare(text, f'"{text}MB" or "{text}MiB"')
    match = _SIZE.fullmatch(text)
    if match is None or match["prefix"] == "i":
        if re.fullmatch(r"[\d.]+\s*[kKMGT]?i?b", text):
            raise UnitError(
                f"{text!r}: is that bits or bytes? Sizes are bytes: write B, as in 20MB"
            )
        raise UnitError(f"{text!r} is not a size; write it like 20MiB or 500MB")
    return int(Fraction(match["number"]) * _PREFIX[match["prefix"].upper()])


def parse_rate(text: str) -> int:
    """Bytes a second, rounded down, of ``"12000MB/min"``, ``"40 MB/s"`` or ``"100Mbit/s"``."""
    text = text.strip()
    _bare(text, f'"{text}MB/s" or "{text}Mbit/s"')
    match = _RATE.fullmatch(text)
    if match is None or match["prefix"] == "i":
        if re.fullmatch(r"[\d.]+\s*[kKMGT]?i?b(ps|pm|/(s|sec|min|h))", text) or re.fullmatch(
            r"[\d.]+\s*[kmgt]i?bp[sm]", text, re.IGNORECASE
        ):
            raise UnitError(
                f"{text!r}: is that bits or bytes, a second or a minute? "
                "Write MB/s, MB/min (bytes) or Mbit/s (bits)"
            )
        raise UnitError(f"{text!r} is not a rate; write it like 12000MB/min, 40MB/s or 100Mbit/s")
    amount = Fraction(match["number"]) * _PREFIX[match["prefix"].upper()]
    if match["unit"] == "bit":
        amount /= 8
    return int(amount / _SECONDS[match["per"]])


def parse_duration(text: str) -> int:
    """Whole seconds of ``"5min"``, ``"90s"``, ``"36h"``, ``"2d"`` or ``"1w"``."""
    text = text.strip()
    _bare(text, f'"{text}s", "{text}min", "{text}h" or "{text}d"')
    match = _DURATION.fullmatch(text)
    if match is None or match["unit"] not in _SECONDS:
        hint = ' ("m" could be a month: write min)' if text.endswith("m") else ""
        raise UnitError(f"{text!r} is not a duration; write it like 90s, 5min, 36h or 2d{hint}")
    seconds = Fraction(match["number"]) * _SECONDS[match["unit"]]
    if seconds.denominator != 1:
        raise UnitError(f"{text!r} is not a whole number of seconds")
    return int(seconds)


def parse_percent(text: str) -> Percent:
    """``"20%"``, from 0 % to 100 %, in steps of a hundredth."""
    text = text.strip()
    _bare(text, _percentages(text))
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a percentage; write it like 20%")
    hundredths = Fraction(match["number"]) * 100
    if hundredths.denominator != 1:
        raise UnitError(f"{text!r} is finer than a hundredth of a percent")
    if hundredths > 10_000:
        raise UnitError(f"{text!r} is too much; at most 100%")
    return Percent(int(hundredths))


def _percentages(text: str) -> str:
    """What a number without a unit may have meant."""
    if _BARE.fullmatch(text) and 0 < (share := Fraction(text) * 100) <= 100:
        return f'"{_trim(share)}%" or "{text}%", whichever you mean'
    return f'"{text}%"'


def of_disk(room: int | Percent, disk: int) -> int:
    """Bytes of a setting that is a size, or a share of the disk."""
    return room.of(disk) if isinstance(room, Percent) else room


def parse_room(text: str) -> int | Percent:
    """A size, or a percentage of a disk."""
    return parse_percent(text) if text.strip().endswith("%") else parse_size(text)


def _scaled(value: int, units: tuple[tuple[str, int], ...]) -> str:
    for unit, size in units:
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}{units[-1][0]}"


def format_rate(rate: int) -> str:
    """Exactly, so that ``parse_rate(format_rate(n)) == n``."""
    return _scaled(rate, (("GB/s", 10**9), ("MB/s", 10**6), ("kB/s", 1000), ("B/s", 1)))


def format_duration(seconds: int) -> str:
    """Exactly, so that ``parse_duration(format_duration(n)) == n``."""
    return _scaled(seconds, (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)))


def human_size(size: float) -> str:
    """A size for people, with three digits: ``12.3 MB``."""
    sign, size = ("-", -size) if size < 0 else ("", size)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or (unit == "B" and size < 1000):
            break
        size /= 1000
    else:
        unit = "TB"
    digits = 0 if unit == "B" or size >= 99.95 else 1
    return f"{sign}{size:.{digits}f} {unit}"


def human_duration(seconds: float) -> str:
    """A duration for people, in two units at most: ``2 h 5 min``."""
    left = round(seconds)
    if left < 0:
        return f"-{human_duration(-left)}"
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def counted(number: int, noun: str, then: tuple[str, str] = ("", "")) -> str:
    """``1 image``, ``2,345 images``; ``then``: what follows one, and more of them, as in
    ``1 image is``, ``2 images are``."""
    one, more = then
    words = f"1 {noun} {one}" if number == 1 else f"{number:,} {noun}s {more}"
    return words.rstrip()
