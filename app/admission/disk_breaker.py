"""Closed after the disk failed, open again when write probes have passed, several in a row."""

from __future__ import annotations

import threading
from collections.abc import Callable

from headgate.spool.errors import DiskError

PROBE_SECONDS = 1.0
"""Between two probes, while it is closed."""

PASSES = 3
"""Probes in a row that must pass: a disk that fails now and then is not to be trusted yet."""


class Latch:
    """One a receiver. Thread-safe; while it is closed a thread of its own probes, so that no
    request waits for a disk that hangs."""

    def __init__(
        self, probe: Callable[[], None], opened: Callable[[], None] = lambda: None
    ) -> None:
        self._probe = probe
        self._opened = opened
        self._lock = threading.Lock()
        self._trouble: DiskError | None = None

    def trip(self, trouble: DiskError) -> None:
        """The disk refused: take nothing until the probes pass."""
        with self._lock:
            closed = self._trouble is not None
            self._trouble = trouble
            if not closed:
                threading.Thread(target=self._try_again, name="disk-probe", daemon=True).start()

    def trouble(self) -> DiskError | None:
        """What is wrong with the disk, None if nothing is."""
        return self._trouble

    def _try_again(self) -> None:
        passed = 0
        while True:
            threading.Event().wait(PROBE_SECONDS)
            asked_of = self._trouble
            try:
                self._probe()
                passed += 1
            except DiskError as still:
                passed = 0
                with self._lock:
                    self._trouble = asked_of = still
            with self._lock:
                if self._trouble is not asked_of:  # an upload that was under way failed meanwhile
                    passed = 0
                elif passed >= PASSES:
                    self._trouble = None
                    break
        self._opened()
