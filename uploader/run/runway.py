"""How many bytes may still leave before something breaks off whatever is being sent then.

A day's allowance comes to its end, the timetable begins a pause, and a worker ends a run before its
next message is due. An upload that is broken off has spent its bytes for nothing, and where many
connections share what is left, none of them may finish. So an upload starts only where what is left
covers it together with those that started before it.

The allowance is counted. What can leave in the time until a pause is an estimate (the rate, or what
this run was seen to carry, if that is less), so time alone never keeps a run from starting its
first image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from headgate.spool.budget.uplink import Part, Uplink
from headgate.spool.image.image import Item
from headgate.spool.site.outcome import Ending, Outcome
from uploader.run.pick import Clearance
from uploader.wire.pacer import Pacer

AROUND_BYTES = 8 * 1024
"""What an image takes in addition to its own bytes: a TLS handshake, the PUT's headers with 2 KB of
metadata, encoded, and a HEAD."""
_LOOKS_BYTES = 4 * 1024
"""Kept back of a day's allowance: without a look at the bucket nothing counts as confirmed."""
_PACE_SECONDS = 30.0
_PACE_LEAST_SECONDS = 3.0


@dataclass(slots=True)
class Refusals:
    """``short``: of what too little is left for an image; ``never``: images for which a whole day's
    allowance is not enough."""

    short: Outcome | None = None
    never: list[Item] = field(default_factory=list)


class Runway:
    """Reckons for one run how many bytes may still leave. For the drain's thread only.

    ``cut_at``: the instant of ``monotonic`` at which the run is broken off from outside.
    """

    def __init__(
        self,
        uplink: Uplink,
        pacer: Pacer,
        monotonic: Callable[[], float],
        cut_at: float = math.inf,
    ) -> None:
        self._uplink, self._pacer, self._monotonic = uplink, pacer, monotonic
        self._cut_at = cut_at
        self._under_way: dict[str, int] = {}
        self._reserved = 0  # all of those bytes
        self._any_started = False
        self._marks: list[tuple[float, int]] = []  # instants, and the bytes sent until then
        self._refusals = Refusals()
        self._before_pause: int | None = None  # bytes, until it is asked for again
        self._ask_again_at = -math.inf

    def clear(self, item: Item) -> Clearance:
        """Whether the image may start now; then what it takes is reserved until it ``ended``."""
        wanted, reserved = item.size + AROUND_BYTES, self._reserved
        allowance = self._uplink.allowance(Part.DRAIN)
        if allowance and wanted + _LOOKS_BYTES > allowance:
            self._refusals.never.append(item)
            return Clearance.NEVER
        for what, room in self._rooms():
            more = self._to_be_had(room, wanted) if what is Outcome.ALLOWANCE_SPENT else 0
            if wanted > room + more:
                self._refusals.short = what
                return Clearance.NOT_ANY_MORE
            if reserved + wanted > room:
                return Clearance.LATER
        self._reserved += wanted - self._under_way.get(item.id, 0)
        self._under_way[item.id] = wanted
        self._any_started = True
        return Clearance.NOW

    def ended(self, items: Iterable[Item]) -> None:
        """Note that images were sent, or failed, or did not start after all."""
        for item in items:
            self._reserved -= self._under_way.pop(item.id, 0)
        if not self._under_way:
            self._marks.clear()

    def take_refusals(self) -> Refusals:
        """The refusals since they were last taken."""
        refusals, self._refusals = self._refusals, Refusals()
        return refusals

    def ending(self, short: Outcome) -> Ending:
        """Why a run ends that can start none of the images that wait."""
        if short is not Outcome.ALLOWANCE_SPENT:
            return Ending(short, "too little time is left for the next image")
        self._uplink.end_day()
        return self._uplink.too_little_left(self._pacer.left_today or 0)

    def _to_be_had(self, room: float, wanted: int) -> int:
        """Bytes of the site's pool, of which more than what is left here is asked for now."""
        day = self._uplink.day
        if day is None or self._reserved + wanted <= room:
            return 0
        day.wish(self._reserved + wanted + _LOOKS_BYTES)
        return self._uplink.more_today(self._uplink.charged_day())

    def _rooms(self) -> Iterator[tuple[Outcome, float]]:
        """Bytes that may leave before each kind of end."""
        left = self._pacer.left_today
        if left is not None:
            yield Outcome.ALLOWANCE_SPENT, left - _LOOKS_BYTES
        if not self._any_started:
            return
        now, rate, pace = self._monotonic(), self._pacer.rate, self._pace()
        part = 1.0 if pace is None or not rate else min(1.0, pace / rate)
        if now >= self._ask_again_at:
            self._ask_again_at, self._before_pause = now + 0.5, self._uplink.room_before_pause()
        if self._before_pause is not None:
            yield Outcome.PAUSED, self._before_pause * part
        if self._cut_at < math.inf:
            yield Outcome.TIME_SPENT, (self._cut_at - now) * rate * part

    def _pace(self) -> float | None:
        """Bytes a second that leave while images are under way; None while that is not known."""
        now, sent = self._monotonic(), self._pacer.sent
        if not self._marks or now - self._marks[-1][0] >= _PACE_SECONDS:
            self._marks = [*self._marks[-1:], (now, sent)]
        at, before = self._marks[0]
        return (sent - before) / (now - at) if now - at >= _PACE_LEAST_SECONDS else None
