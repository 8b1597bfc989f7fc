"""The arithmetic of the budget. Pure.

The promise: in any second never more than the rate, hence in any window of one interval never more
than rate x interval. Time is cut into slots of one second; a grant is charged to the slot in which
its bytes may leave, before the first of them does, and is void when the slot ends.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

SECOND = 1_000_000_000
"""Ledger time is in whole nanoseconds."""

_RECORD = struct.Struct("<QQQI4x")
RECORD_BYTES = _RECORD.size
_HEADER = struct.Struct("<8sIIQqQ16sI4x")
HEADER_BYTES = _HEADER.size
_MAGIC = b"HEADGATE"
_VERSION = 2
_SLICE = 256
_LEAST_SLICE = 1000


class DamagedSlots(ValueError):
    """A record of the ledger does not check; it must be taken for spent."""


@dataclass(frozen=True, slots=True)
class Header:
    """The ring's first record: which boot its time belongs to, and whether it is blocked."""

    slots: int
    sequence: int  # the newer of the two copies counts
    base: int  # ledger time = base + CLOCK_BOOTTIME, in nanoseconds
    blocked_until: int  # a slot; nothing leaves before it
    boot: bytes  # 16 bytes

    def encode(self) -> bytes:
        data = _HEADER.pack(
            _MAGIC,
            _VERSION,
            self.slots,
            self.sequence,
            self.base,
            self.blocked_until,
            self.boot,
            0,
        )
        return data[:-8] + struct.pack("<I4x", zlib.crc32(data[:-8]))

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """The inverse; Damaged if it does not check."""
        if len(data) != HEADER_BYTES:
            raise DamagedSlots("a short header")
        magic, version, slots, sequence, base, blocked, boot, crc = _HEADER.unpack(data)
        if magic != _MAGIC or version != _VERSION or crc != zlib.crc32(data[:-8]):
            raise DamagedSlots("a header that does not check")
        return cls(slots, sequence, base, blocked, boot)


def encode_record(slot: int, charged: int, cap: int) -> bytes:
    """Encode one slot's record: what was charged to it, out of how much."""
    data = _RECORD.pack(slot, charged, cap, 0)
    return data[:-8] + struct.pack("<I4x", zlib.crc32(data[:-8]))


def encode_ring(charges: Mapping[int, int], slots: int) -> bytes:
    """Encode all records. An unused one checks as well: a wiped sector must not read as nothing
    spent."""
    ring = [encode_record(index, 0, 0) for index in range(slots)]
    for slot, charged in charges.items():
        ring[slot % slots] = encode_record(slot, charged, charged)
    return b"".join(ring)


def decode_ring(data: bytes, slots: int) -> dict[int, int]:
    """Charged bytes by slot; Damaged if a single record does not check."""
    if len(data) != slots * RECORD_BYTES:
        raise DamagedSlots("the ring is not as long as it should be")
    charges = {}
    for index in range(slots):
        record = data[index * RECORD_BYTES : (index + 1) * RECORD_BYTES]
        slot, charged, _cap, crc = _RECORD.unpack(record)
        if crc != zlib.crc32(record[:-8]) or slot % slots != index:
            raise DamagedSlots(f"record {index} does not check")
        if charged:
            charges[slot] = charged
    return charges


def other_part(rate: int) -> int:
    """The part of the rate (or of a day's allowance) for everything that is not an image.

    One part in 256 and at least 1 kB, so that a request gets through a narrow link in seconds; but
    never more than a quarter. While nothing else is sent it stays unused, and keeps the far side's
    seconds, where bytes arrive less evenly than they leave, below the rate.
    """
    return min(max(rate // _SLICE, _LEAST_SLICE), rate // 4)


def drain_part(rate: int) -> int:
    """The rest of it, for images. Both parts together are the rate."""
    return rate - other_part(rate)


def room(charges: Mapping[int, int], slot: int, rate: int) -> int:
    """Bytes that may still be charged to ``slot``."""
    return max(0, rate - charges.get(slot, 0))


def grant(wanted: int, charges: Mapping[int, int], slot: int, rate: int) -> int:
    """Bytes to grant now: at most a quarter second of the rate, never more than the slot's room."""
    return max(0, min(wanted, max(1, rate // 4), room(charges, slot, rate)))


def used(charges: Mapping[int, int], slot: int, interval: int) -> int:
    """Bytes charged in the interval (seconds) that ends with ``slot``."""
    return sum(charged for at, charged in charges.items() if slot - interval < at <= slot)


def first_slot(charges: Mapping[int, int], blocked_until: int) -> int:
    """The first slot in which a new run may send: a whole second after the last one charged.

    A killed run's bytes may have left until the end of its slot, and no second may hold both.
    """
    last = max((slot for slot, charged in charges.items() if charged), default=-2)
    return max(last + 2, blocked_until)
