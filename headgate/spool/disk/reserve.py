"""Disk that the spool keeps for itself, and releases when another program has filled the rest.

What makes room (a run) and what tells of it (alerts, doctor) has to write a little: SQLite's WAL
and its index, a receipt, a folder in done/. On a disk without a free byte or inode none of them
could begin. So ``state/reserve/`` holds a few files of real blocks: a program that opens the spool
removes as many as it takes to have a little room, and the receiver makes them again once an image
would be taken with all of them there. Each is a piece of its own, so that what is given up goes to
who needs it now, and not all at once to the program that is filling the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_PIECES = 32
PIECE_BYTES = (64 * 1024, 512 * 1024)
"""The least and the most."""
SHARE_OF_BYTES = 32
SHARE_OF_INODES = 8
"""At most one part in this many of the disk, and of its inodes: a small disk has few of these, and
a run makes a dozen files."""

LOW_BYTES = 1024 * 1024
LOW_INODES = 12
"""With less than this free, pieces are given up."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES = tuple(f"{number:02}" for number in range(MOST_PIECES))


@dataclass(frozen=True, slots=True)
class Free:
    """What statvfs(2) says of the file system: bytes and inodes available to all users."""

    bytes: int
    size: int
    inodes: int
    all_inodes: int  # 0: it does not count them (btrfs)


def free(path: Path) -> Free:
    """What is free on this file system now."""
    disk = os.statvfs(path)
    inodes = disk.f_favail if disk.f_files else 2**63 - 1
    return Free(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize, inodes, disk.f_files)


def pieces_of(disk: Free) -> list[int]:
    """The sizes of the pieces that suit this disk; those that keep but an inode are empty."""
    share = disk.size // SHARE_OF_BYTES
    size = max(PIECE_BYTES[0], min(PIECE_BYTES[1], share // MOST_PIECES))
    whole = min(MOST_PIECES, share // size)
    files = min(MOST_PIECES, disk.all_inodes // SHARE_OF_INODES) if disk.all_inodes else whole
    return [size if number < whole else 0 for number in range(files)]


@contextlib.contextmanager
def _opened(state: Path) -> Iterator[int]:
    above = os.open(state, _FOLDER)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir("reserve", 0o2770, dir_fd=above)
        folder = os.open("reserve", _FOLDER, dir_fd=above)
        try:
            yield folder
        finally:
            os.close(folder)
    finally:
        os.close(above)


def give_up(state: Path, *, everything: bool = False) -> int:
    """Remove pieces until a little is free, or all of them; how many. Whatever is in the way is no
    reason to fail: then there is no reserve."""
    gone = 0
    with contextlib.suppress(OSError), _opened(state) as folder:
        for name in reversed(_NAMES):
            left = free(state)
            if not everything and left.bytes >= LOW_BYTES and left.inodes >= LOW_INODES:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
                gone += 1
    return gone


def make(state: Path, spare_bytes: int, spare_inodes: int) -> int:
    """Make the pieces that are missing, out of so much that no one else needs; how many."""
    made = 0
    with contextlib.suppress(OSError):
        pieces = pieces_of(free(state))
        if not pieces or spare_inodes <= 0:
            return 0
        with _opened(state) as folder:
            for name, size in zip(_NAMES, pieces, strict=False):
                if made >= spare_inodes or spare_bytes < size:
                    break
                if _make_piece(folder, name, size):
                    made, spare_bytes = made + 1, spare_bytes - size
    return made


def _make_piece(folder: int, name: str, size: int) -> bool:
    try:
        piece = os.open(name, _NEW, 0o660, dir_fd=folder)
    except FileExistsError:
        return False
    try:
        if size:
            os.posix_fallocate(piece, 0, size)
    except OSError:
        os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(piece)
    return True
