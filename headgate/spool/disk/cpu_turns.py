"""Turns at computing, for threads that otherwise hand the interpreter's lock to each other at every
system call.

CPython computes in one thread at a time. Each short system call (a write, a link, a statement of
SQLite) lets another thread in, and then waits for it to let go: two switches of context, which cost
more than most of the calls. So those that receive images take turns that last until one has to wait
for its client or for the disk (measured: docs/PERFORMANCE.md).

A turn is a courtesy and guards nothing: who waited for ``PATIENCE_SECONDS`` goes on without one.
So a disk that hangs, or a mistake here, costs speed and never an image.
"""

from __future__ import annotations

import threading

PATIENCE_SECONDS = 0.05


class CpuTurns:
    """A context for computing; one thread in it at a time, for as long as all are quick.

    A process has one, as the interpreter's lock that it spares is one: the spool makes it.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._owner = 0
        self.waiting = _Released(self)
        """A context for whatever waits, inside: the turn is another's meanwhile. Outside of a turn
        it does nothing."""

    def enter(self) -> None:
        """Wait for a turn, but not for long."""
        if self._lock.acquire(timeout=self._patience_seconds):
            self._owner = threading.get_ident()

    def leave(self) -> bool:
        """Whether this thread had a turn, which ends."""
        if self._owner != threading.get_ident():
            return False
        self._owner = 0
        self._lock.release()
        return True

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.leave()


class _Released(threading.local):
    """What it remembers is each thread's own, and may stand inside itself."""

    def __init__(self, turns: CpuTurns) -> None:
        self._turns = turns
        self._had_turn: list[bool] = []

    def __enter__(self) -> None:
        self._had_turn.append(self._turns.leave())

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._had_turn.pop():
            self._turns.enter()
