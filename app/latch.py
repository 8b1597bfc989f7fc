"""Closed after the disk failed, open again when a write probe passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spool.errors import DiskTrouble

PROBE_SECONDS = 1.0
"""At most one probe in this time; requests in between see the last answer."""


class Latch:
    """One a receiver. Thread-safe."""

    def __init__(
        self, probe: Callable[[], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._probe = probe
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._trouble: DiskTrouble | None = None
        self._next_probe_at = 0.0

    def trip(self, trouble: DiskTrouble) -> None:
        """The disk refused: take nothing until a probe passes."""
        with self._lock:
            self._trouble = trouble
            self._next_probe_at = self._monotonic() + PROBE_SECONDS

    def trouble(self) -> DiskTrouble | None:
        """What is wrong with the disk, None if nothing is; probes when it is time to."""
        if self._trouble is None:
            return None
        if not self._lock.acquire(blocking=False):
            return self._trouble  # somebody is probing; a probe on a bad disk may take long
        try:
            if self._trouble is not None and self._monotonic() >= self._next_probe_at:
                try:
                    self._probe()
                    self._trouble = None
                except DiskTrouble as still:
                    self._trouble = still
                    self._next_probe_at = self._monotonic() + PROBE_SECONDS
            return self._trouble
        finally:
            self._lock.release()
