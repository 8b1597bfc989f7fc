"""How much one device, and all of them together, may send: refused before the body is read.

Token buckets (Turner 1986): what is not used is saved up, for one second at most.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.refusals import Refused

_KNOWN_MAX = 10_000
"""Devices remembered before those that are at rest are forgotten; forgetting gives no device
more."""


@dataclass(slots=True)
class _Device:
    tokens: float
    at: float
    uploads: int = 0


class Rates:
    """Of each device: requests a second, and uploads at once; 0 stands for no bound.

    Thread-safe.
    """

    def __init__(
        self, per_second: int, parallel: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._parallel = parallel
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, _Device] = {}

    @contextmanager
    def hold(self, device: str) -> Iterator[None]:
        """Around one upload of this device; Refused when it sends too often or too much at once."""
        known = self._enter(device)
        try:
            yield
        finally:
            with self._lock:
                known.uploads -= 1

    def _enter(self, device: str) -> _Device:
        now = self._monotonic()
        with self._lock:
            known = self._known.get(device)
            if known is None:
                self._forget_resting(now)
                known = self._known[device] = _Device(float(self._rate), now)
            known.tokens = min(float(self._rate), known.tokens + (now - known.at) * self._rate)
            known.at = now
            if self._parallel and known.uploads >= self._parallel:
                raise Refused("too_many_at_once", limit=self._parallel)
            if self._rate and known.tokens < 1:
                wait = math.ceil((1 - known.tokens) / self._rate)
                raise Refused("too_many_requests", limit=self._rate, retry_after=wait)
            known.tokens -= 1
            known.uploads += 1
            return known

    def _forget_resting(self, now: float) -> None:
        if len(self._known) >= _KNOWN_MAX:
            resting = [
                d for d, known in self._known.items() if not known.uploads and now - known.at > 1
            ]
            for device in resting:
                del self._known[device]


class Intake:
    """Bytes a second of all devices together; 0 stands for no bound. Thread-safe.

    An upload is let in while there is anything left, and may then take more than that: the next
    ones wait until it is paid for. So large images pass a small bound, too.
    """

    def __init__(self, rate: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._left = float(rate)
        self._at = monotonic()

    def wait_seconds(self) -> int:
        """How long until an upload would be let in; 0 now."""
        with self._lock:
            self._refill()
            return self._wait()

    def take(self, size: int) -> None:
        """Admit an upload of this many bytes; Refused while earlier ones used up the rate."""
        with self._lock:
            self._refill()
            if wait := self._wait():
                raise Refused("intake_spent", retry_after=wait)
            self._left -= size

    def give_back(self, size: int) -> None:
        """How many of them never came."""
        with self._lock:
            self._left += size

    def _wait(self) -> int:
        if not self._rate or self._left > 0:
            return 0
        return max(1, math.ceil(-self._left / self._rate))

    def _refill(self) -> None:
        now = self._monotonic()
        self._left = min(float(self._rate), self._left + (now - self._at) * self._rate)
        self._at = now
