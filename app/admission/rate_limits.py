"""How much one device, and all of them together, may send: refused before the body is read.

Token buckets (Turner 1986): what is not used is saved up, for one second at most. They are on the
board, so what a device may send is what it may send to all processes of the receiver together.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.refusals import Refused
from headgate.host.board import (
    DEVICE_KEYS,
    DEVICE_TIMES,
    DEVICE_TOKENS,
    DEVICE_UPLOADS,
    DEVICES,
    INTAKE,
    INTAKE_HELD,
    Board,
    Part,
)

_PLACES = 16
"""Entries in which a device may be, beginning with the one that its name leads to."""

_LEFT, _AT, _BEGUN = range(3)
"""The cells of the intake."""


class Rates:
    """Limits each device's requests a second and its uploads at once; 0: no limit.

    Thread-safe. A device that rests has all of its tokens, so forgetting it gives it nothing: its
    entry goes to the next device that leads there. The table has more entries than uploads can be
    in flight; if all places of a device are busy all the same, it is let in uncounted.
    """

    def __init__(
        self,
        per_second: int,
        parallel: int,
        monotonic: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        board = board or Board.alone()
        self._rate = per_second
        self._parallel = parallel
        self._monotonic = monotonic
        self._lock = board.lock(Part.RATES)
        self._keys = board.own(DEVICE_KEYS)
        self._tokens = board.own(DEVICE_TOKENS)
        self._times = board.own(DEVICE_TIMES)
        self._own = board.own(DEVICE_UPLOADS)
        self._uploads = board.all(DEVICE_UPLOADS)
        self._leaving = threading.Lock()

    @contextmanager
    def hold(self, device: str) -> Iterator[None]:
        """A context around one upload of a device; Refused when it sends too often or too much at
        once."""
        place = self._enter(device)
        try:
            yield
        finally:
            if place is not None:
                with self._leaving:
                    self._own[place] -= 1

    def _enter(self, device: str) -> int | None:
        if not self._rate and not self._parallel:
            return None
        now = self._monotonic()
        with self._lock:
            place = self._place(_key(device), now)
            if place is None:
                return None
            tokens = self._tokens[place] + (now - self._times[place]) * self._rate
            self._tokens[place] = tokens = min(float(self._rate), tokens)
            self._times[place] = now
            if self._parallel and self._in_flight(place) >= self._parallel:
                raise Refused("too_many_at_once", limit=self._parallel)
            if self._rate and tokens < 1:
                wait = math.ceil((1 - tokens) / self._rate)
                raise Refused("too_many_requests", limit=self._rate, retry_after=wait)
            self._tokens[place] = tokens - 1
            with self._leaving:
                self._own[place] += 1
            return place

    def _place(self, key: int, now: float) -> int | None:
        """The index of a device's entry, an existing or a free one; None: all of its places are
        busy."""
        free = None
        for step in range(_PLACES):
            place = (key + step) % DEVICES
            if self._keys[place] == key:
                return place
            if free is None and self._rests(place, now):
                free = place
        if free is not None:
            # The key last: what a killed process leaves half-done is an entry at rest.
            self._tokens[free], self._times[free] = float(self._rate), now
            self._keys[free] = key
        return free

    def _rests(self, place: int, now: float) -> bool:
        if not self._keys[place]:
            return True
        return now - self._times[place] > 1 and not self._in_flight(place)

    def _in_flight(self, place: int) -> int:
        return sum(uploads[place] for uploads in self._uploads)


def _key(device: str) -> int:
    """Not 0, which is an entry that was never used."""
    return int.from_bytes(hashlib.blake2b(device.encode(), digest_size=8).digest(), "big") or 1


class Intake:
    """Bytes a second of all devices together; 0 stands for no bound. Thread-safe.

    An upload is let in while there is anything left, and may then take more than that: the next
    ones wait until it is paid for. So large images pass a small bound, too.
    """

    def __init__(
        self,
        rate: int,
        monotonic: Callable[[], float] = time.monotonic,
        board: Board | None = None,
    ) -> None:
        board = board or Board.alone()
        self._rate = rate
        self._monotonic = monotonic
        self._lock = board.lock(Part.INTAKE)
        self._cells = board.own(INTAKE)
        self._held = board.own(INTAKE_HELD)
        with self._lock:
            if not self._cells[_BEGUN]:  # the first of the processes
                self._cells[_LEFT], self._cells[_AT] = float(rate), monotonic()
                self._cells[_BEGUN] = 1.0

    def wait_seconds(self) -> int:
        """How long until an upload would be let in; 0 now."""
        if not self._rate:
            return 0
        with self._lock:
            self._refill()
            return self._wait()

    def take(self, size: int) -> None:
        """Admit an upload of this many bytes; Refused while earlier ones used up the rate."""
        if not self._rate:
            return
        with self._lock:
            self._refill()
            if wait := self._wait():
                raise Refused("intake_spent", retry_after=wait)
            self._cells[_LEFT] -= size
            self._held[0] += size

    def give_back(self, size: int, taken: int) -> None:
        """Return bytes that were taken for an upload and never came."""
        if not self._rate:
            return
        with self._lock:
            self._cells[_LEFT] += size
            self._held[0] -= taken

    def _wait(self) -> int:
        left = self._cells[_LEFT]
        if left > 0:
            return 0
        return max(1, math.ceil(-left / self._rate))

    def _refill(self) -> None:
        now = self._monotonic()
        left = self._cells[_LEFT] + (now - self._cells[_AT]) * self._rate
        self._cells[_LEFT], self._cells[_AT] = min(float(self._rate), left), now


def give_back_intake(board: Board, process: int) -> None:
    """A process has died: what it took for uploads under way goes back."""
    held = board.all(INTAKE_HELD)[process]
    with board.lock(Part.INTAKE):
        board.own(INTAKE)[_LEFT] += held[0]
        held[0] = 0.0
