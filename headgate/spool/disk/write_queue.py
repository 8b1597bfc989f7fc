"""A queue for one thing that several programs do in turn: the writers of a database.

SQLite's own lock on writes has no queue: who finds it taken asks again after a pause of up to
100 ms, and the lock lies idle until then, or goes to one who came later. Here a writer waits in the
kernel, which wakes it when the one before it is done, or is killed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

from headgate.host import job_control, range_locks

_MODE = 0o660
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_WRITER, _NEXT = range(2)
"""The bytes of the file that are locked by the one that writes, and by the first that waits. The
others wait to be the first; so who has just written comes after the one that waited."""


class WriteQueue:
    """A context for one thread of one program at a time.

    It decides who is next, and guards nothing: the database has its own lock. So where its file
    cannot be made (no room, no right, a link in its place) or is removed, threads of this program
    still queue, and programs ask again after a while.
    """

    def __init__(self, path: Path, waiting: AbstractContextManager[None] | None = None) -> None:
        """A thread that has to wait is in ``waiting`` until its turn is over, and not only while it
        waits: otherwise it could wait there, in its turn, for a thread that waits for its turn."""
        self._threads = threading.Lock()
        self._waiting = waiting or nullcontext()
        self._waited = False  # of the thread whose turn it is
        self._fd = _open(path)
        self._closing = weakref.finalize(self, _close, self._fd)  # also where it is only dropped

    def close(self) -> None:
        with self._threads:
            self._closing()
            self._fd = -1

    def __enter__(self) -> None:
        job_control.enter_transaction()
        try:
            if not self._take_now():
                self._take_in_turn()
        except BaseException:
            job_control.leave_transaction()
            raise

    def _take_in_turn(self) -> None:
        self._waiting.__enter__()
        try:
            self._threads.acquire()
            try:
                self._queue()
            except BaseException:
                self._threads.release()
                raise
        except BaseException:
            self._waiting.__exit__(None, None, None)
            raise
        self._waited = True

    def _take_now(self) -> bool:
        if not self._threads.acquire(blocking=False):
            return False
        # Both at once: only if no one writes and no one waits.
        if self._fd >= 0 and not range_locks.take_now(self._fd, _WRITER, 2):
            self._threads.release()
            return False
        if self._fd >= 0:
            range_locks.give_back(self._fd, _NEXT)
        self._waited = False
        return True

    def _queue(self) -> None:
        if self._fd < 0:
            return
        range_locks.take(self._fd, _NEXT)
        try:
            range_locks.take(self._fd, _WRITER)
        finally:
            range_locks.give_back(self._fd, _NEXT)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        waited = self._waited
        if self._fd >= 0:
            range_locks.give_back(self._fd, _WRITER)
        self._threads.release()
        if waited:
            self._waiting.__exit__(kind, error, trace)
        job_control.leave_transaction()


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _open(path: Path) -> int:
    """-1 where it cannot be had."""
    try:
        fd = os.open(path, _FLAGS, _MODE)
    except OSError:
        return -1
    seen = os.fstat(fd)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1:
        os.close(fd)
        return -1
    if stat.S_IMODE(seen.st_mode) != _MODE:
        with contextlib.suppress(PermissionError):  # made by the other user of the spool
            os.fchmod(fd, _MODE)
    return fd
