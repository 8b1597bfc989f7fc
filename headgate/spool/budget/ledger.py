"""The ledger: a ring of one-second slots on disk that carries the cap across runs and crashes.

Its time is the sum of CLOCK_BOOTTIME over boots, never the wall clock: stepping the clock earns
nothing, and neither does being switched off. SQLite is no place for it: of 4,000 random bit flips
68 read as *less spent* with ``quick_check`` ok. A damaged record, or a ring that is missing where a
spool exists, gives a fresh ring that counts as spent for one interval; only a fresh spool begins
with an empty one. There are two, each under a lock of its own, for the two parts of the rate:
images, and everything else. In addition to its ring each keeps one record of the local day, by the
wall clock, for the daily allowance; it is flushed with the same call, and damage counts as a day
spent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from headgate.spool.budget import slots as budget
from headgate.spool.budget.daily import DAY_BYTES, Day
from headgate.spool.budget.slots import HEADER_BYTES, RECORD_BYTES, SECOND, DamagedSlots, Header
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError

_COPIES = (0, 512)  # two headers, in sectors of their own: one torn write leaves the other
_DAY = 1024
_RING = 4096
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boottime() -> int:
    """Nanoseconds since the machine started, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def boot_id() -> bytes:
    """The kernel's name for this boot, 16 bytes."""
    return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))


def local_day() -> int:
    """Which day the wall clock shows here, as ``date.toordinal`` counts them."""
    return datetime.now(UTC).astimezone().toordinal()


@dataclass(frozen=True, slots=True)
class Grant:
    """Bytes that may leave before ``void_at`` (nanoseconds of CLOCK_BOOTTIME)."""

    size: int
    void_at: int


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything that a ledger's file says."""

    header: Header
    day: Day
    charges: dict[int, int]  # bytes by slot

    def encode(self) -> bytes:
        start = bytearray(_RING)
        for at in _COPIES:
            start[at : at + HEADER_BYTES] = self.header.encode()
        start[_DAY : _DAY + DAY_BYTES] = self.day.encode()
        return bytes(start) + budget.encode_ring(self.charges, self.header.slots)

    @classmethod
    def decode(cls, data: bytes) -> LedgerState:
        """The inverse; Damaged unless one header and every record check."""
        found = []
        for at in _COPIES:
            try:
                found.append(Header.decode(data[at : at + HEADER_BYTES]))
            except DamagedSlots:
                continue
        if not found:
            raise DamagedSlots("neither header checks")
        header = max(found, key=lambda copy: copy.sequence)
        day = Day.decode(data[_DAY : _DAY + DAY_BYTES])
        return cls(header, day, budget.decode_ring(data[_RING:], header.slots))


def create(
    path: Path, interval: int, boot: bytes, *, spent: bool, now: int, day: int | None = None
) -> None:
    """A fresh ring: empty for a fresh spool, or spent, for one interval and for ``day``."""
    header = Header(
        slots=interval + 2,
        sequence=1,
        base=SECOND * 2 - now,
        blocked_until=interval + 3 if spent else 0,
        boot=boot,
    )
    today = Day(local_day() if day is None else day, began_at=SECOND * 2, spent=spent)
    durable.write_file(path, LedgerState(header, today, {}).encode())


class Ledger:
    """The ring, opened to charge; only under the lock that goes with it.

    ``allowance``: the most bytes of one local day, 0 for no bound; or what says it of a day, before
    each grant. ``today`` says which day it is.
    ``warning`` is a sentence if the ring had to be recreated.
    """

    def __init__(
        self,
        path: Path,
        interval: int,
        boottime: Callable[[], int] = boottime,
        boot: bytes | None = None,
        *,
        allowance: int | Callable[[int], int] = 0,
        today: Callable[[], int] = local_day,
    ) -> None:
        self._path = path
        self._interval = interval
        self._boottime = boottime
        self._allowance, self._today = allowance, today
        self.warning = ""
        boot = boot_id() if boot is None else boot
        try:
            state = LedgerState.decode(path.read_bytes())
        except (FileNotFoundError, DamagedSlots) as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
            day = ", and the daily allowance for this day" if allowance else ""
            self.warning = (
                f"the ledger {what}: counted as spent, nothing leaves for one interval{day}"
            )
            create(path, interval, boot, spent=True, now=boottime(), day=today())
            state = LedgerState.decode(path.read_bytes())
        except OSError as error:  # neither readable nor recreated: then nothing may leave
            raise DiskError(error, f"reading the ledger {path}") from error
        state = self._settled(state, boot)
        self._header, self._charges, self._day = state.header, state.charges, state.day
        self._first = budget.first_slot(self._charges, self._header.blocked_until)
        self._unused = 0  # bytes charged to the day that did not leave, and cannot any more
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise DiskError(error, f"opening the ledger {path}") from error

    def _settled(self, state: LedgerState, boot: bytes) -> LedgerState:
        """The ring as this boot and this interval need it, written down if that changed it."""
        header, charges = state.header, state.charges
        before = header
        last = max(charges, default=0)
        now = self._boottime()
        if header.boot != boot or (header.base + now) // SECOND < last:
            # Another boot, or a clock that ran backwards: go on from the last charge.
            header = replace(header, base=(last + 1) * SECOND - now, boot=boot)
            if before.blocked_until > last:
                left = min(before.blocked_until - last, self._interval + 1)
                header = replace(header, blocked_until=last + 1 + left)
        slots = self._interval + 2
        if header.slots != slots:
            header = replace(header, slots=slots)
            charges = {slot: size for slot, size in charges.items() if slot > last - slots}
        if header != before:
            header = replace(header, sequence=before.sequence + 1)
            durable.write_file(self._path, LedgerState(header, state.day, charges).encode())
        return LedgerState(header, state.day, charges)

    def close(self) -> None:
        """Nothing leaves any more: what is left over (``left_over``) goes back to its day."""
        try:
            if self._unused and self._day.number == self.day.number:
                self._day = replace(self._day, charged=self._day.charged - self._unused)
                with contextlib.suppress(DiskError):  # then it stays charged
                    durable.write_records(self._fd, [(self._day.encode(), _DAY)])
        finally:
            os.close(self._fd)

    def now(self) -> int:
        """Ledger time in nanoseconds."""
        return self._header.base + self._boottime()

    def wait_seconds(self) -> float:
        """How long until this run may charge its first byte."""
        return max(0, self._first * SECOND - self.now()) / SECOND

    @property
    def blocked_seconds(self) -> float:
        """How much longer a ring that counts as spent stays so."""
        return max(0, self._header.blocked_until * SECOND - self.now()) / SECOND

    @property
    def day(self) -> Day:
        """The day that is charged now."""
        return self._day.on(self._today(), self.now())

    @property
    def left_today(self) -> int | None:
        """Bytes that may still be charged on this day; None: no bound."""
        if not self._allowance:
            return None
        day = self.day
        if day.spent:
            return 0
        unused = self._unused if day.number == self._day.number else 0
        allowance = self._allowance
        return day.left(allowance if isinstance(allowance, int) else allowance(day.number)) + unused

    @property
    def day_spent(self) -> bool:
        """Whether nothing more may leave on this day."""
        return self.left_today == 0

    def left_over(self, size: int) -> None:
        """Note that these bytes of the last grant did not leave before it was void. Their second
        is over, but the day need not be charged again for the same number."""
        self._unused += size

    def charge(self, wanted: int, rate: int) -> Grant | None:
        """Charge up to ``wanted`` bytes to this second and this day, on disk before it returns.

        None when the second has no room left: ask again when it is over; or when the day has none
        (``day_spent``). The charge is never taken back; what a run says is left over of one
        (``left_over``) pays for its next. DiskError if it cannot be written.
        """
        while True:
            slot = self.now() // SECOND
            if slot < self._first:
                return None
            day, left = self.day, self.left_today
            if day.number != self._day.number:
                self._unused = 0
            size = budget.grant(wanted, self._charges, slot, rate)
            if left is not None:
                size = min(size, left)
            if size <= 0:
                return None
            paid = min(size, self._unused)
            charged = self._charges.get(slot, 0) + size
            self._charges[slot] = charged
            self._unused -= paid
            self._day = replace(day, charged=day.charged + size - paid)
            durable.write_records(
                self._fd,
                [
                    (self._day.encode(), _DAY),
                    (
                        budget.encode_record(slot, charged, rate),
                        _RING + slot % self._header.slots * RECORD_BYTES,
                    ),
                ],
            )
            for old in [at for at in self._charges if at <= slot - self._header.slots]:
                del self._charges[old]
            if self.now() // SECOND == slot:
                return Grant(size, (slot + 1) * SECOND - self._header.base)
            # The second ended while the disk was writing: the grant is void, and stays charged.
            self._unused += size


def damage(path: Path) -> str:
    """What is wrong with the ring on disk; empty if every record checks."""
    for _ in range(3):  # a run may be writing a record at this moment
        try:
            LedgerState.decode(path.read_bytes())
            return ""
        except (OSError, DamagedSlots) as error:
            found = str(error)
    return found


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes charged in the last interval and on this day, for people."""

    interval: int = 0
    day: int = 0
    day_spent: bool = False  # by damage, whatever was charged
    number: int = 0  # of the day, as ``date.toordinal`` counts them


def read_use(
    path: Path,
    interval: int,
    boottime: Callable[[], int] = boottime,
    today: Callable[[], int] = local_day,
) -> Use:
    """What the ring says; no lock, so one write may be missed. A damaged one says nothing."""
    try:
        state = LedgerState.decode(path.read_bytes())
    except (OSError, DamagedSlots):
        return Use(number=today())
    now = state.header.base + boottime()
    if state.header.boot != boot_id():
        now = max(state.charges, default=0) * SECOND
    day = state.day.on(today(), now)
    return Use(
        budget.used(state.charges, now // SECOND, interval), day.charged, day.spent, day.number
    )
