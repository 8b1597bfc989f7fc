"""Images that S3 refused in a way in which it may refuse any image: they wait on hold.

Who is to blame, the image or the bucket, is the breaker's judgement; what follows from it for the
images in the catalog is done here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from headgate.spool.catalog.catalog import Catalog
from headgate.spool.image.image import Item, State
from uploader.run.breaker import LIMIT, Breaker, Suspect
from uploader.wire.errors import SendError

_REMEMBERED = 1_000  # of those that earlier runs left on hold


class OnHold:
    """Keeps the images on hold of one run, of one ``device`` or of all. ``monotonic`` gives the
    instants of attempts."""

    def __init__(self, catalog: Catalog, device: str, monotonic: Callable[[], float]) -> None:
        self._catalog, self._device, self._monotonic = catalog, device, monotonic
        self._breaker = Breaker()
        self._probed = False
        self._again: list[str] = []  # refused before, and to be tried first

    def load(self) -> None:
        """See what earlier runs left on hold, after requests were carried out."""
        self._breaker = Breaker(self._catalog.held(_REMEMBERED))

    @property
    def one_at_a_time(self) -> bool:
        """Whether no more than one image is to be under way."""
        return self._breaker.careful or bool(self._again)

    @property
    def refusal(self) -> str:
        """What the bucket says to every image, as far as this run can tell; or nothing."""
        return self._breaker.words if self._breaker.open else ""

    def refused(self, item: Item, error: SendError, began: float, now: datetime) -> bool:
        """Put an image on hold; whether it is the bucket that refuses, so that the run ends."""
        effect = self._breaker.refused(item, error, began, self._monotonic())
        unknown = item.unknown or error.unknown
        self._catalog.hold(item, now, error.message, unknown=unknown, refusals=effect.refusals)
        return effect.ends

    def confirmed(self, item: Item, began: float) -> tuple[Suspect, ...]:
        """An image was confirmed: those on hold may go again. Returns those that were refused
        between others, and are to blame themselves."""
        cleared = self._breaker.confirmed(item, began)
        if cleared.release:
            few = self._catalog.held(LIMIT + 1, self._device)
            # While others are still there to compare them with. After an outage it is many.
            self._again = [one.id for one in few] if len(few) <= LIMIT else []
            self._catalog.release()
        return cleared.guilty

    def next_again(self) -> Item | None:
        """An image that was refused before others were confirmed, and still waits."""
        while self._again and not self._breaker.careful:
            item = self._catalog.get(self._again.pop(0))
            if item is not None and item.state is State.WAITING and item.refusals:
                return item
        return None

    def probe(self) -> bool:
        """Release one of the images that the bucket refused, another one each time, where nothing
        else is left to see whether it takes images again. Whether there was one. Once a run."""
        if self._probed or self._breaker.confirmed_any or self._breaker.words:
            return False
        self._probed = True
        held = self._catalog.held(1, self._device)
        self._catalog.release([item.id for item in held])
        return bool(held)
