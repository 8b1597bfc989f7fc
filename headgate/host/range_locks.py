"""Open file description locks (fcntl_locking(2)): each guards one byte of an open file, keeps
threads and processes apart, and is given back by the kernel however its holder ends.

A thread that waits for one sleeps in the kernel, which wakes it; it does not ask again and again.
"""

from __future__ import annotations

import fcntl
import os
import struct

_LOCK = struct.Struct("hhqqi")  # struct flock; l_pid is 0 for open file description locks


def take(fd: int, at: int) -> None:
    """Wait in the kernel until byte ``at`` is free, and lock it."""
    _call(fd, fcntl.F_OFD_SETLKW, fcntl.F_WRLCK, at, 1)


def take_now(fd: int, at: int, size: int = 1) -> bool:
    """Lock these bytes unless another open file has one of them."""
    try:
        _call(fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, at, size)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
        return False
    return True


def give_back(fd: int, at: int) -> None:
    """Unlock byte ``at``; wakes who waits for it."""
    _call(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, at, 1)


def _call(fd: int, command: int, kind: int, at: int, size: int) -> None:
    fcntl.fcntl(fd, command, _LOCK.pack(kind, os.SEEK_SET, at, size, 0))
