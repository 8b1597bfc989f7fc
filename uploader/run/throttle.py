"""How a run slows down when the destination asks for fewer requests. Pure.

Some stores shed load by design: now and then one of many servers behind a name answers 503, and the
same request is taken by the next one (Backblaze B2, "B2 503 errors"; Amazon S3 Developer Guide,
"Best practices design patterns"). So what counts is the share of refusals among the last attempts:
while few are refused, an image goes again at once, and the run goes on; from there on the whole
run pauses, longer each time in a row.
"""

from __future__ import annotations

from collections.abc import Callable

_MEMORY = 200
"""Attempts, about, that are remembered: older ones count less and less."""
_FEW = 0.05
"""A smaller share of refused attempts is no request to slow down."""
_LEAST = 20
"""Fewer attempts than this say nothing of a share."""
_LONGEST_SECONDS = 60.0


class Throttle:
    """Decides, for one run, how long it pauses after refusals. ``chance``: 0 to 1, so that
    gateways do not come back in step."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._attempts = self._refused = 0.0
        self._in_a_row = 0

    def taken(self) -> None:
        """An attempt was not refused so."""
        self._in_a_row = 0
        self._count(0.0)

    def refused(self, asked_seconds: float = 0.0) -> float | None:
        """An attempt was: seconds in which the run starts nothing new; None: they are few, and the
        image may go again at once. ``asked_seconds``: the server's own word (Retry-After)."""
        self._count(1.0)
        if self._refused < _FEW * max(self._attempts, _LEAST):
            return None
        pause = min(_LONGEST_SECONDS, 2.0 ** min(self._in_a_row, 20))
        self._in_a_row += 1
        asked = min(_LONGEST_SECONDS, asked_seconds) * (1 + self._chance() / 2)
        return float(max(asked, pause * (0.5 + self._chance())))

    def _count(self, refused: float) -> None:
        kept = 1 - 1 / _MEMORY
        self._attempts = self._attempts * kept + 1
        self._refused = self._refused * kept + refused
