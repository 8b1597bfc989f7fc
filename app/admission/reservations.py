"""Disk promised to uploads that still arrive, so that two are not promised the same bytes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from app.refusals import Refused
from headgate.spool.disk.room import BLOCK, on_disk

_MOMENTS = 20
_MOMENT_SECONDS = 0.05
"""For how often and how long a write is waited for; one on a disk that hangs takes longer."""


class Reservations:
    """What requests in flight may still write. Thread-safe.

    A reservation shrinks as its bytes reach the file, because from then on the file system counts
    them itself. Only while a piece is being written both count it: an upload that would be refused
    for such pieces alone waits a moment for them.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._writing = 0  # bytes that may be counted twice
        self.size = 0  # bytes reserved now
        self.images = 0  # files that are still to be made

    def hold(self, size: int, admit: Callable[[int, int], None]) -> Reservation:
        """Reserve disk for an image of ``size`` bytes, unless ``admit(bytes, images)`` of all
        others raises. A context: whatever is left goes back at its end.

        ``admit`` looks at the disk under the lock: between the look and the reservation no one
        else may be promised what it saw. statvfs(2) reads counters in memory, also when the disk
        hangs.
        """
        wanted = on_disk(size)
        with self._changed:
            for moment in range(_MOMENTS):
                try:
                    admit(self.size, self.images)
                    break
                except Refused as refused:
                    twice = 0 < int(refused.facts.get("missing", 0)) <= self._writing
                    if not twice or moment == _MOMENTS - 1:
                        raise
                    self._changed.wait(_MOMENT_SECONDS)
            self.size += wanted
            self.images += 1
        return Reservation(self, wanted)

    def promised(self) -> tuple[int, int]:
        """Bytes and images that are promised now; bytes that are being written at this moment are
        left to the file system's count."""
        with self._changed:
            return max(0, self.size - self._writing), self.images

    def begin_write(self, size: int) -> None:
        """For ``Reservation`` alone."""
        with self._changed:
            self._writing += size

    def give_back(self, size: int, images: int, written: int = 0) -> None:
        """For ``Reservation`` alone."""
        with self._changed:
            self._writing -= written
            self.size -= size
            self.images -= images
            if written:
                self._changed.notify_all()


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

    @contextlib.contextmanager
    def writing(self, size: int) -> Iterator[None]:
        """Around the write of this many bytes to the file: then the blocks that they filled are
        counted by the file system."""
        counted = size + BLOCK  # the file system counts whole blocks
        self._held.begin_write(counted)
        blocks = 0
        try:
            yield
            self._part += size
            blocks = min(self._part // BLOCK * BLOCK, self._size)
            self._part %= BLOCK
        finally:
            self._size -= blocks
            self._held.give_back(blocks, 0, counted)

    def _give_back(self, size: int, images: int) -> None:
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
