"""Confirmed images of a run that wait until the bucket was seen to hold what it confirms. Pure.

A server can report the right digest and keep nothing. So nothing is finished before a look has
found the run's first confirmed image; after that one of a number, or one after a while, is looked
at, and what was confirmed meanwhile waits for that answer.
"""

from __future__ import annotations

from headgate.spool.image.image import Item, Sent

LOOK_IMAGES, LOOK_AFTER = 256, 30.0
"""One in this many confirmed images is looked up in the bucket, or one after this many seconds."""
_FINISH_IMAGES = 256
_FINISH_SECONDS = 0.5


class Sample:
    """Instants are seconds of one clock."""

    def __init__(self) -> None:
        self._images: list[tuple[Item, Sent]] = []
        self._since = 0.0
        self._unseen = 0  # confirmed since the last look
        self._seen_at: float | None = None
        self.looking = False
        self.lies = False  # the bucket did not hold what it had confirmed

    @property
    def seen(self) -> bool:
        """Whether a look of this run has been answered."""
        return self._seen_at is not None

    @property
    def undecided(self) -> bool:
        """Whether nothing may be finished yet."""
        return self.looking or not self.seen

    def confirmed(self, item: Item, sent: Sent, now: float) -> None:
        """Note one more image that waits."""
        if not self._images:
            self._since = now
        self._images.append((item, sent))
        self._unseen += 1

    def start_look(self, now: float) -> bool:
        """Whether the image that was just confirmed is to be looked for."""
        at = self._seen_at
        due = at is None or self._unseen >= LOOK_IMAGES or now - at >= LOOK_AFTER
        start, self.looking = due and not self.looking, self.looking or due
        return start

    def answered(self, now: float) -> None:
        """The bucket holds what it confirmed, as far as it may be asked."""
        self._seen_at, self._unseen = now, 0

    def ready(self, now: float, *, all_of_them: bool = False) -> list[tuple[Item, Sent]]:
        """The images that may be finished now; they wait no more."""
        if not self._images or self.undecided:
            return []
        old = now - self._since >= _FINISH_SECONDS
        if not (len(self._images) >= _FINISH_IMAGES or old or all_of_them):
            return []
        return self.take()

    def take(self) -> list[tuple[Item, Sent]]:
        """All images that wait; they wait no more."""
        images, self._images = self._images, []
        return images
