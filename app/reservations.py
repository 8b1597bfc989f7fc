"""Disk promised to uploads that still arrive, so that two are not promised the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

BLOCK = 4096
ATTRIBUTE_BYTES = BLOCK
"""An image's metadata may need a block beside the file's own."""


def on_disk(size: int) -> int:
    """Bytes of disk that an image of ``size`` bytes takes, with its metadata."""
    return -(-size // BLOCK) * BLOCK + ATTRIBUTE_BYTES


class Reservations:
    """What requests in flight may still write. Thread-safe.

    A reservation shrinks as its bytes reach the file, because from then on the file system counts
    them itself; so the sum of both is always what an upload was promised, never more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.size = 0  # bytes reserved now
        self.images = 0  # files that are still to be made

    def hold(self, size: int, admit: Callable[[int, int], None]) -> Reservation:
        """Reserve disk for an image of ``size`` bytes, unless ``admit(bytes, images)`` of all
        others raises. A context: whatever is left goes back at its end.

        ``admit`` looks at the disk under the lock: between the look and the reservation nobody
        else may be promised what it saw. statvfs(2) reads counters in memory, also when the disk
        hangs.
        """
        wanted = on_disk(size)
        with self._lock:
            admit(self.size, self.images)
            self.size += wanted
            self.images += 1
        return Reservation(self, wanted)

    def give_back(self, size: int, images: int) -> None:
        """For ``Reservation`` alone."""
        with self._lock:
            self.size -= size
            self.images -= images


class Reservation:
    """One upload's. Belongs to one thread."""

    def __init__(self, held: Reservations, size: int) -> None:
        self._held = held
        self._size = size
        self._images = 1
        self._part = 0  # of a block that is written to again

    def made(self) -> None:
        """Its file is there: the file system counts the inode now."""
        self._give_back(0, self._images)

    def wrote(self, size: int) -> None:
        """So many bytes were written to the file: the blocks that they filled are counted now."""
        self._part += size
        blocks = self._part // BLOCK * BLOCK
        self._part -= blocks
        self._give_back(min(blocks, self._size), 0)

    def _give_back(self, size: int, images: int) -> None:
        if size or images:
            self._size -= size
            self._images -= images
            self._held.give_back(size, images)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back(self._size, self._images)
