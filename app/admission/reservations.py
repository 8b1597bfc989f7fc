"""Disk promised to uploads that still arrive, so that two are not promised the same bytes.

What each process of the receiver has promised is in its row of the board; what is promised is the
sum.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from app.refusals import Refused
from headgate.host.board import PROMISED, Board, Part
from headgate.spool.disk.room import BLOCK, on_disk

_BYTES, _IMAGES, _WRITING, _DONE = range(4)
"""The cells of a row: bytes reserved now; files that are still to be made; bytes that may be
counted twice, because they are being written; and of how many that was over, so far."""

_MOMENTS = 20
_MOMENT_SECONDS = 0.05
"""For how often and how long a write is waited for; one on a disk that hangs takes longer."""


class Reservations:
    """What requests in flight may still write. Thread-safe.

    A reservation shrinks as its bytes reach the file, because from then on the file system counts
    them itself. Only while a piece is being written both count it: an upload that would be refused
    for such pieces alone waits a moment for them.
    """

    def __init__(self, board: Board | None = None) -> None:
        self._board = board or Board.alone()
        self._own = self._board.own(PROMISED)
        self._changed = threading.Condition()

    @property
    def size(self) -> int:
        """Bytes that are reserved now."""
        return int(self._board.total(PROMISED, _BYTES))

    @property
    def images(self) -> int:
        """Files that are still to be made."""
        return int(self._board.total(PROMISED, _IMAGES))

    @property
    def _writing(self) -> int:
        return int(self._board.total(PROMISED, _WRITING))

    def hold(self, size: int, admit: Callable[[int, int], None]) -> Reservation:
        """Reserve disk for an image of ``size`` bytes, unless ``admit(bytes, images)`` of all
        others raises. A context: whatever is left goes back at its end.

        ``admit`` looks at the disk under the board's lock: between the look and the reservation no
        one else may be promised what it saw. statvfs(2) reads counters in memory, also when the
        disk hangs. What is given back meanwhile is in a file already, so it is counted twice for
        this moment, or by the file system, and never left out: the sum is made before the look.
        """
        wanted = on_disk(size)
        for moment in range(_MOMENTS):
            done = self._board.total(PROMISED, _DONE)
            try:
                with self._board.lock(Part.ROOM):
                    admit(self.size, self.images)
                    with self._changed:
                        self._own[_BYTES] += wanted
                        self._own[_IMAGES] += 1
                    return Reservation(self, wanted)
            except Refused as refused:
                # What was counted twice is being written still, or came to its end since.
                twice = self._writing + max(0, self._board.total(PROMISED, _DONE) - done)
                missing = int(refused.facts.get("missing", 0))
                if not 0 < missing <= twice or moment == _MOMENTS - 1:
                    raise
            with self._changed:
                self._changed.wait(_MOMENT_SECONDS)
        raise AssertionError("the last moment returns or raises")

    def promised(self) -> tuple[int, int]:
        """Bytes and images that are promised now; bytes that are being written at this moment are
        left to the file system's count."""
        return max(0, self.size - self._writing), self.images

    def begin_write(self, size: int) -> None:
        """Note that this many reserved bytes are being written. Called by ``Reservation``
        alone."""
        with self._changed:
            self._own[_WRITING] += size

    def give_back(self, size: int, images: int, written: int = 0) -> None:
        """Return bytes and images that are reserved no more. Called by ``Reservation`` alone."""
        with self._changed:
            self._own[_DONE] += written
            self._own[_WRITING] -= written
            self._own[_BYTES] -= size
            self._own[_IMAGES] -= images
            if written:
                self._changed.notify_all()


class Reservation:
    """Disk space reserved for one upload. For one thread."""

    def __init__(self, held: Reservations, size: int) -> None:
        self._held = held
        self._size = size
        self._images = 1
        self._part = 0  # of a block that is written to again

    def made(self) -> None:
        """Note that the file exists: from now on the file system counts its inode."""
        self._give_back(0, self._images)

    @contextlib.contextmanager
    def writing(self, size: int) -> Iterator[None]:
        """A context around a write of this many bytes: after it, the file system counts the blocks
        that they filled."""
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
