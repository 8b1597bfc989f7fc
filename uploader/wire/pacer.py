"""The pacer: never more than the rate in any second, over all connections of a run.

A piece counts against the cap from the moment it is permitted until one second after its write
returned. The ledger carries the cap across runs and crashes: every piece comes out of a grant that
was charged on disk before its first byte left. Inside the cap, pieces are spread evenly, so that
other users of the link are not met by a burst every second.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from headgate.spool.budget.ledger import Grant, Ledger, boottime
from headgate.spool.budget.slots import SECOND
from headgate.spool.site.outcome import Ending

_SPREAD = 400
"""Pieces a second to aim at, as long as each is worth a write: a second at the far side may hold
one more than it should, and that has to be a small part of it."""
_SMALLEST, _LARGEST = 2 * 1024, 64 * 1024
_FASTEST, _AT_ONCE = 256 * 1024, 640  # above 40 MB/s up to a 640th of a second at once
_FIRST_GRANT = 64 * 1024
"""Grants double while they are used up, and halve when a second ends with them: what is charged
stays near what is sent, and a busy run still writes the ledger but a few times a second."""
_RATE_HOLDS = SECOND // 4  # then it is asked for again
_CATCH_UP = SECOND
"""What a late disk or a busy machine cost may be caught up, inside the cap, at most half as fast
again as the rate: without a burst."""
_LATE = SECOND // 40  # how late a thread may wake without being held up for it


@dataclass(frozen=True, slots=True)
class Permitted:
    """A rate in bytes a second, and until when it is known to hold (nanoseconds of CLOCK_BOOTTIME,
    the end of a lease); None: it is asked for again soon enough."""

    rate: int
    until: int | None = None


class Closed(Exception):
    """The run is over; nothing more may leave. The reason is a sentence."""


class Pacer:
    """Shared by all connections of one run; the holder of the ledger's lock has the only one.

    ``rate`` is asked before each grant and four times a second, so that a change takes effect at
    once. ``blocked_reason`` is asked when there is no grant: a reason closes the pacer; none means
    that a later second will do.
    """

    def __init__(
        self,
        ledger: Ledger,
        rate: Callable[[], Permitted],
        now: Callable[[], int] = boottime,
        blocked_reason: Callable[[], Ending | None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._rate_now = rate
        self._blocked_reason = blocked_reason
        self._now = now
        self._turn = threading.Lock()  # one at a time waits by the clock, the others for that one
        self._changed = threading.Condition()
        self._rate, self._rate_until = 0, 0
        self._ask_rate(now())
        self._piece = -1, 0
        self._in_flight = 0
        self._recent: deque[tuple[int, int]] = deque()  # (when its write returned, bytes)
        self._recent_bytes = 0
        self._grant = Grant(0, 0)
        self._ask = _FIRST_GRANT
        self._next_at = self._apart_at = now()
        self._closed: Ending | None = None
        self._waited = threading.local()
        self.sent = 0
        self.waiting = False  # whether a connection waits for permission now

    @property
    def max_piece(self) -> int:
        """Bytes worth asking for at once: larger at higher rates, where pieces cost more."""
        rate = self._rate
        known, piece = self._piece  # of which rate: it is asked for several times a piece
        if known != rate:
            largest = max(_LARGEST, min(_FASTEST, rate // _AT_ONCE))
            piece = max(_SMALLEST, min(largest, rate // _SPREAD))
            self._piece = rate, piece
        return piece

    @property
    def rate(self) -> int:
        """The cap in force, in bytes a second."""
        return self._rate

    @property
    def left_today(self) -> int | None:
        """Bytes that may still be asked for on this day; None: no bound."""
        with self._changed:
            left = self._ledger.left_today
            return None if left is None else left + self._grant.size

    @property
    def closed(self) -> Ending | None:
        """Why nothing more leaves; None while it may."""
        return self._closed

    def waited(self) -> float:
        """Seconds that the calling thread has spent waiting for permission."""
        return float(getattr(self._waited, "seconds", 0.0))

    def close(self, reason: Ending) -> None:
        """Permit nothing more; waiting callers get Closed."""
        with self._changed:
            self._closed = reason
            self._changed.notify_all()

    def end(self, reason: Ending) -> None:
        """The run is over: permit nothing more, and give the day what no connection has taken of
        the last grant. Once."""
        self.close(reason)
        with self._turn, self._changed:
            self._ledger.left_over(self._grant.size)
            self._grant = Grant(0, self._grant.void_at)

    def take(self, wanted: int) -> Grant:
        """Block until 1 to ``wanted`` bytes may leave, and count them as leaving from now on.

        Closed when the run ends; DiskError when the ledger cannot be written: then nothing
        may leave.
        """
        started = self._now()
        with self._turn, self._changed:
            self.waiting = True
            try:
                while True:
                    if self._closed:
                        raise Closed(str(self._closed))
                    size, wait = self._try(wanted)
                    if size:
                        self._in_flight += size
                        self._waited.seconds = self.waited() + (self._now() - started) / SECOND
                        return Grant(size, self._grant.void_at)
                    self._changed.wait(max(wait, 100_000) / SECOND)
            finally:
                self.waiting = False

    def wrote(self, grant: Grant, written: int) -> None:
        """The write returned: ``written`` bytes may have left, the rest did not.

        The rest goes back to the second's grant while that lasts, never to the ledger.
        """
        with self._changed:
            now = self._now()
            self._in_flight -= grant.size
            self._recent.append((now, written))
            self._recent_bytes += written
            self.sent += written
            unused = grant.size - written
            if unused:
                # Only to its own second: another second's grant was charged for other bytes.
                if grant.void_at == self._grant.void_at:
                    self._grant = Grant(self._grant.size + unused, self._grant.void_at)
                self._next_at -= unused * SECOND // max(1, self._rate)
                self._changed.notify_all()

    def _try(self, wanted: int) -> tuple[int, int]:
        """(bytes permitted now, or 0; nanoseconds after which to ask again)."""
        now = self._now()
        spent = now >= self._grant.void_at or not self._grant.size
        if spent or now >= self._rate_until:
            self._ask_rate(now)
        while self._recent and self._recent[0][0] + SECOND <= now:
            self._recent_bytes -= self._recent.popleft()[1]
        ready_at = max(self._next_at, self._apart_at)
        if now < ready_at:
            return 0, min(ready_at, self._rate_until) - now
        cap = self._rate
        # At a rate so low that a second carries less than one piece, a smaller one.
        size = min(wanted, self.max_piece, max(cap, 1))
        if self._in_flight + self._recent_bytes + size > cap:
            if not cap:
                self._check_blocked()
            self._next_at = max(self._next_at, now)  # the second is full: nothing to catch up
            return 0, (self._recent[0][0] + SECOND - now) if self._recent else SECOND // 100
        if spent:
            if self._grant.size:
                self._ask = max(_FIRST_GRANT, self._ask // 2)
                self._ledger.left_over(self._grant.size)
                self._grant = Grant(0, self._grant.void_at)
            elif now < self._grant.void_at:
                self._ask *= 2
            self._ask = min(self._ask, max(cap // 4, 1))
            granted = self._ledger.charge(max(self._ask, size), cap)
            now = self._now()
            if granted is None:
                self._check_blocked()
                self._next_at = max(self._next_at, now)
                return 0, SECOND - self._ledger.now() % SECOND
            self._grant = granted
            if now >= granted.void_at:
                return 0, 0
        size = min(size, self._grant.size)
        self._grant = Grant(self._grant.size - size, self._grant.void_at)
        # An even spread over eight ninths of a second: the rest makes good what a busy machine
        # costs, because a second of the ledger that was not filled is lost.
        self._next_at = max(self._next_at, now - _CATCH_UP) + size * SECOND * 8 // (9 * cap)
        self._apart_at = max(self._apart_at, now - _LATE) + size * SECOND * 2 // (3 * cap)
        return size, 0

    def _ask_rate(self, now: int) -> None:
        permitted = self._rate_now()
        held_until = now + _RATE_HOLDS
        if permitted.until is not None:
            held_until = min(held_until, permitted.until)
        self._rate, self._rate_until = permitted.rate, held_until

    def _check_blocked(self) -> None:
        if reason := self._blocked_reason():
            self._closed = reason
            self._changed.notify_all()
            raise Closed(str(reason))
