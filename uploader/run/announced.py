"""Announces to the other gateways of a site what becomes of images in a run, by a thread of its
own: Redis never holds a run up.

``headgate watch`` announces within minutes what cannot be announced here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from headgate.shared.connection import SharedTrouble
from headgate.spool.disk.locks import Lock
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Item, Sent
from headgate.spool.spool import Spool
from headgate.spool.sqlite import Error
from headgate.spool.upkeep.mover import Mover

if TYPE_CHECKING:  # where nothing is shared it is not loaded
    from headgate.spool.elsewhere import Elsewhere

_MOST = 20_000
_PATIENCE_SECONDS = 1.0


@contextmanager
def mover(spool: Spool, lock: Lock) -> Iterator[Mover]:
    """A run's mover, which announces to other gateways, if there are any, as long as the context
    lasts."""
    if spool.elsewhere is None:
        yield Mover(spool, lock)
        return
    announcer = _Announcer(spool, spool.elsewhere)
    try:
        yield _AnnouncingMover(spool, lock, announcer)
    finally:
        announcer.end()


class _AnnouncingMover(Mover):
    """A mover that announces each new state of an image."""

    def __init__(self, spool: Spool, lock: Lock, announcer: _Announcer) -> None:
        super().__init__(spool, lock)
        self._announcer = announcer

    def finish(self, batch: Sequence[tuple[Item, Sent]], now: datetime) -> None:
        super().finish(batch, now)
        self._announcer.announce([item.id for item, _ in batch])

    def set_aside(self, item: Item, reason: str, now: datetime) -> None:
        super().set_aside(item, reason, now)
        self._announcer.announce([item.id])

    def lose(self, item: Item, now: datetime) -> None:
        super().lose(item, now)
        self._announcer.announce([item.id])


class _Announcer:
    """A thread that announces what the books say of images, one after the other."""

    def __init__(self, spool: Spool, elsewhere: Elsewhere) -> None:
        self._spool, self._elsewhere = spool, elsewhere
        self._images: deque[str] = deque(maxlen=_MOST)
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._go_on, name="announced", daemon=True)
        self._thread.start()

    def announce(self, images: Sequence[str]) -> None:
        with self._changed:
            self._images.extend(images)
            self._changed.notify()

    def end(self) -> None:
        """Announce what is left, but not for long."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(_PATIENCE_SECONDS)
        with self._changed:
            self._images.clear()
        self._thread.join(_PATIENCE_SECONDS)

    def _go_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._images or self._ended)
                if not self._images:
                    return
                image = self._images.popleft()
            try:
                receipt = self._spool.receipt(image)
                if receipt is not None:
                    self._elsewhere.say([receipt])
            except (SharedTrouble, DiskError, Error):
                continue  # left to headgate watch
