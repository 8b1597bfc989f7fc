"""How many connections at once: as many as bring more, and no more than that. Pure.

It is not known beforehand what limits a run: the cap, the latency, a narrow or lossy link, this
machine. So it is tried. As long as the cap is not used up the number doubles, and stays doubled if
that carried noticeably more; else it goes back and rests. Now and then, ever more rarely while
nothing better is found, it is tried again, upwards and downwards in turn, because networks change.
A connection that breaks halves it: on a bad link few patient connections finish what they start.
"""

from __future__ import annotations

from dataclasses import dataclass

FEWEST, FIRST, MOST = 2, 4, 128
_ROUND_SECONDS = 0.2  # shorter ones are chance
_ROUND_IMAGES = 2  # for each connection, so that each has shown what it carries
_USED = 0.93  # of the cap: as good as all of it
_WORTH = 0.25  # of what twice as many could bring at best
_AS_GOOD = 0.95
_REST_SECONDS, _LONGEST_REST_SECONDS = 10.0, 160.0  # doubles while nothing better is found
_ONE_LOSS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Try:
    """What was before the number changed, to go back to."""

    count: int
    carried: float  # bytes a second


class Parallel:
    """``count`` connections, learned from what came of them. ``now`` is in seconds, of any
    clock."""

    def __init__(
        self, now: float, count: int = FIRST, *, fewest: int = FEWEST, most: int = MOST
    ) -> None:
        self._fewest, self._most = fewest, most
        self.count = max(fewest, min(most, count))
        self.images_a_second = 0.0
        self._try: _Try | None = None
        self._rest_until, self._rest = now, _REST_SECONDS
        self._broke_at = now - _ONE_LOSS_SECONDS
        self._down_next = False
        self._begin(now, 0)

    def arrived(self, now: float, sent: int, rate: int) -> None:
        """Note that one more image arrived; ``sent`` bytes left so far, and ``rate`` may in a
        second."""
        self._images += 1
        seconds = now - self._began
        if seconds < _ROUND_SECONDS or self._images < _ROUND_IMAGES * self.count:
            return
        carried = (sent - self._sent) / seconds
        self.images_a_second = self._images / seconds
        self._learn(now, carried, carried >= _USED * rate)
        self._begin(now, sent)

    def broke(self, now: float, sent: int) -> None:
        """A connection broke or stalled; several within a second count as one."""
        if now - self._broke_at < _ONE_LOSS_SECONDS:
            return
        self._broke_at = now
        self.count = max(self._fewest, self.count // 2)
        self._settle(now, found=True)
        self._begin(now, sent)

    def _begin(self, now: float, sent: int) -> None:
        self._began, self._sent, self._images = now, sent, 0

    def _settle(self, now: float, *, found: bool) -> None:
        self._try = None
        self._rest = _REST_SECONDS if found else min(2 * self._rest, _LONGEST_REST_SECONDS)
        self._rest_until = now + self._rest

    def _learn(self, now: float, carried: float, full: bool) -> None:
        before = self._try
        if before is None:
            if now >= self._rest_until:
                self._turn(carried, full)
        elif self.count < before.count:
            needed = carried < _AS_GOOD * before.carried
            if needed:
                self.count = before.count
            self._settle(now, found=not needed)
        elif full:
            self._settle(now, found=True)
        else:
            possible = self.count / before.count - 1
            if carried < (1 + _WORTH * possible) * before.carried:
                self.count = before.count
                self._settle(now, found=False)
            else:
                self._turn(carried, full=False)

    def _turn(self, carried: float, full: bool) -> None:
        """Try another number: more while there is room under the cap, fewer every other time."""
        growing = self._try is not None
        down = full or (self._down_next and not growing)
        self._down_next = not down
        other = max(self._fewest, self.count // 2) if down else min(self._most, self.count * 2)
        self._try = _Try(self.count, carried) if other != self.count else None
        self.count = other
