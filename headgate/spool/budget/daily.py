"""The daily allowance: bytes that may leave on one local day of the wall clock. Pure.

The ledger keeps one record of the day that it charges. The day only moves forward, so a clock that
is stepped back goes on charging the day that it had reached, and earns nothing. Only when that day
has lasted for 24 hours of the machine being on does an earlier one count as a new day: otherwise
one moment of a clock set to 2099 would be the last day forever.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from headgate.spool.budget.slots import SECOND, DamagedSlots

_DAY = 24 * 3600 * SECOND
_RECORD = struct.Struct("<8sQQqI4x")
DAY_BYTES = _RECORD.size
_MAGIC = b"DAYSPENT"


@dataclass(frozen=True, slots=True)
class Day:
    """What was charged to one local day. ``spent``: nothing more, whatever was charged."""

    number: int  # date.toordinal()
    charged: int = 0
    began_at: int = 0  # ledger time, in nanoseconds
    spent: bool = False

    def encode(self) -> bytes:
        data = _RECORD.pack(_MAGIC, self.number << 1 | self.spent, self.charged, self.began_at, 0)
        return data[:-8] + struct.pack("<I4x", zlib.crc32(data[:-8]))

    @classmethod
    def decode(cls, data: bytes) -> Day:
        """The inverse; Damaged if it does not check."""
        if len(data) != DAY_BYTES:
            raise DamagedSlots("a short record of the day")
        magic, number, charged, began_at, crc = _RECORD.unpack(data)
        if magic != _MAGIC or crc != zlib.crc32(data[:-8]):
            raise DamagedSlots("the record of the day does not check")
        return cls(number >> 1, charged, began_at, bool(number & 1))

    def on(self, number: int, at: int) -> Day:
        """The day that counts when the wall clock shows day ``number``, at ledger time ``at``."""
        later = number > self.number
        if later or (number < self.number and at - self.began_at >= _DAY):
            return Day(number, 0, at)
        return self

    def left(self, allowance: int) -> int:
        """Bytes that may still be charged to it."""
        return 0 if self.spent else max(0, allowance - self.charged)


@dataclass(frozen=True, slots=True)
class Daily:
    """What may leave on one day; ``day`` numbers them, by the site's own clock."""

    allowance: float
    used: float  # of it, today
    day: Callable[[datetime], int]

    def __truediv__(self, size: float) -> Daily:
        return Daily(self.allowance / size, self.used / size, self.day)
