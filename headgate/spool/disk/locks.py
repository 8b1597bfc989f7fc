"""Locks between programs: flock(2) on a folder that is not deleted by accident.

A lock file can be unlinked while it is held, and the next program then locks a new file of the same
name. So the lock that counts is on a folder of the spool itself, which cannot be removed while it
has anything in it; ``state/<name>.lock`` is locked as well, for flock(1) and to say who holds it.
The kernel drops both when the holder dies, however it dies; pid files go stale.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from headgate.spool.errors import LockHeld

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Lock:
    """A held lock; ``release`` or the end of the program gives it back. Its descriptors may be
    handed to another process, which then holds it too."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(self._descriptors)

    def release(self) -> None:
        for fd in self._descriptors:
            os.close(fd)
        self._descriptors = []

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _try(folder: Path, note: Path, who: str, pid: int) -> Lock | None:
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        fcntl.flock(descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        while True:
            try:
                fd = os.open(note, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                return Lock(descriptors)  # the folder's is the lock that counts
            descriptors.append(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(fd).st_ino == os.stat(note).st_ino:
                    break
            os.close(descriptors.pop())  # it was replaced between open and flock
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{who}, pid {pid}\n".encode(), 0)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise  # else the file does not say who holds it, but it is held all the same
        return Lock(descriptors)
    except BlockingIOError:
        for fd in descriptors:
            os.close(fd)
        return None
    except BaseException:
        for fd in descriptors:
            os.close(fd)
        raise


def holder(note: Path) -> str:
    """Who holds, or last held, the lock, in its own words."""
    try:
        return _first_line(note) or "somebody"
    except OSError:
        return "somebody"


def _first_line(note: Path) -> str:
    """The first line of a note; OSError where a link or a pipe stands there (root reads it too)."""
    folder = os.open(note.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(note.name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, 1024).decode(errors="replace").partition("\n")[0].strip()
    finally:
        os.close(fd)


def acquire(
    folder: Path,
    note: Path,
    who: str,
    wait_seconds: float = 0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    pid: int | None = None,
) -> Lock:
    """The lock, within ``wait_seconds``; LockHeld otherwise. ``pid`` is for the note, if the lock
    is for another process than this one."""
    until = monotonic() + wait_seconds
    while True:
        lock = _try(folder, note, who, pid or os.getpid())
        if lock is not None:
            return lock
        left = until - monotonic()
        if left <= 0:
            raise LockHeld(f"{holder(note)} holds {note.name}")
        sleep(min(0.1, left))
