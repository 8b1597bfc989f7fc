"""A clock for what waits: tests see how long it would have taken, and wait for nothing."""

from __future__ import annotations

from collections.abc import Callable


class SleptClock:
    """In the place of ``time``: it passes in sleeps alone, in each of which something may
    happen."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.now, self._meanwhile = 0.0, meanwhile

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._meanwhile()
