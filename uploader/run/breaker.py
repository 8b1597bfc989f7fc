"""Who is to blame for a refusal: the image, or the bucket, a setting, the way there. Pure.

One answer cannot tell, whatever its code says: a server that is full, or does not know a header,
or a proxy before it, answers every image as it answered the first. Only others can tell. So an
image is found guilty when another one was confirmed between two of its refusals, and another one
after the second. Until then it waits, others go before it, and none of its attempts is counted.
Several refusals with nothing confirmed between them are the bucket's, and end the run.

(A circuit breaker; see Nygard, "Release It!", 2007. An image on hold is the half-open state.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headgate.spool.image.image import Item
from uploader.wire.errors import ErrorKind, SendError

LIMIT = 3
"""Refusals with nothing confirmed between them after which the bucket is to blame."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image that was refused again after others were confirmed."""

    item: Item
    error: SendError


@dataclass(frozen=True, slots=True)
class RefusalEffect:
    """What a refusal means: ``ends`` the run; how often the image counts as refused."""

    ends: bool
    refusals: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What a confirmation means: these are guilty; ``release``: all others on hold may go again."""

    guilty: tuple[Suspect, ...] = ()
    release: bool = False


class Breaker:
    """``on_hold``: images that earlier runs left on hold, with their ``last_error``.

    Instants are seconds of one clock. ``words``: what was said in the last refusal, until an image
    is confirmed after it.
    """

    def __init__(self, on_hold: Iterable[Item] = ()) -> None:
        held = tuple(on_hold)
        # Of refusals that any image may get only those that come with a PERMANENT are counted
        # twice, so the kind need not be remembered.
        self._suspects = {
            item.id: Suspect(item, SendError(ErrorKind.PERMANENT, "refused", item.last_error))
            for item in held
            if item.refusals > 1
        }
        self._in_a_row = min(len(held), LIMIT - 1)
        self._waiting = bool(held)
        self._refused_at: float | None = None
        self._unsettled: set[str] = set()  # refused in this run, and nothing confirmed since
        self.confirmed_any = False
        self.words = ""

    @property
    def careful(self) -> bool:
        """Whether one image at a time is enough until another one is confirmed."""
        return not self.confirmed_any or self._refused_at is not None

    @property
    def open(self) -> bool:
        """Whether it is the bucket that refuses, as far as this run can tell: nothing was
        confirmed in it, or nothing since several images were refused."""
        return bool(self._unsettled) and (not self.confirmed_any or len(self._unsettled) > 1)

    def refused(self, item: Item, error: SendError, began: float, now: float) -> RefusalEffect:
        """Note that an image was refused. Those that were under way at the first refusal count as
        one."""
        again = item.refusals > 0 and self.confirmed_any
        if again:
            self._suspects[item.id] = Suspect(item, error)
        if self._refused_at is None or began > self._refused_at:
            self._in_a_row += 1
        self._unsettled.add(item.id)
        self._refused_at, self._waiting, self.words = now, True, error.message
        at_once = error.kind is ErrorKind.FATAL and not again
        twice = (again or item.refusals > 1) and error.kind is ErrorKind.PERMANENT
        return RefusalEffect(at_once or self._in_a_row >= LIMIT, 2 if twice else 1)

    def confirmed(self, item: Item, began: float) -> Cleared:
        """An image was confirmed whose attempt began then: what was refused later still stands."""
        self._suspects.pop(item.id, None)
        if self._refused_at is not None and began <= self._refused_at:
            return Cleared()
        guilty, self._suspects = tuple(self._suspects.values()), {}
        release, self._waiting = self._waiting, False
        self._refused_at, self._in_a_row, self.words = None, 0, ""
        self._unsettled.clear()
        self.confirmed_any = True
        return Cleared(guilty, release)
