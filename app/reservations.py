"""Disk promised to uploads that still arrive, so that two are not promised the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Reservations:
    """What requests in flight may still write; each ends with its request. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._images = 0

    @property
    def size(self) -> int:
        """Bytes reserved now."""
        return self._bytes

    @property
    def images(self) -> int:
        """Uploads in flight now."""
        return self._images

    @contextmanager
    def hold(self, size: int, admit: Callable[[int, int], None]) -> Iterator[None]:
        """Reserve ``size`` bytes, unless ``admit(bytes, images)`` of all others raises."""
        with self._lock:
            admit(self._bytes, self._images)
            self._bytes += size
            self._images += 1
        try:
            yield
        finally:
            with self._lock:
                self._bytes -= size
                self._images -= 1
