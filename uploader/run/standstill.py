"""When nothing happens in a run any more: something hangs that has no deadline of its own, such as
a name lookup, or a program that was to give credentials. Pure."""

from __future__ import annotations

from headgate.settings.units import human_duration

_SECONDS = 600.0


class Standstill:
    """Instants are seconds of one clock. ``patience``: the longest silence of one connection."""

    def __init__(self, patience: float, now: float) -> None:
        self._limit = _SECONDS + patience
        self._moved_at, self._sent = now, 0

    def moved(self, now: float) -> None:
        """Note that a result came."""
        self._moved_at = now

    def found(self, now: float, sent: int, *, idle: bool) -> bool:
        """Whether nothing has left or ended for too long, and something was to. ``idle``: there is
        nothing to wait for, or only the budget."""
        if idle or sent != self._sent:
            self._moved_at, self._sent = now, sent
        return now - self._moved_at >= self._limit

    @property
    def sentence(self) -> str:
        """The sentence about a standstill."""
        return (
            f"Nothing left and no answer came for {human_duration(self._limit)}, so the run was "
            "broken off; see whether names can be looked up, and whether what gives credentials "
            "answers."
        )
