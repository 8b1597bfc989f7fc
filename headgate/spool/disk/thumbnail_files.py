"""Thumbnails on disk: within a bound, those that were not looked at for longest go first.

A folder of its own, ``state/thumbnails/``, shared by every process that serves; whatever is in it
may be deleted at any time, and is made again. Nothing is flushed, and nothing renamed: what a power
cut damaged, or another process has not written to its end, is no whole JPEG, and counts as missing.
Nothing is written where an upload would soon lack the room, and all of it goes before an upload is
refused for want of room.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.spool.disk import reserve

FOLDER = "thumbnails"
MOST_BYTES = 128 * 1024 * 1024
SHARE_OF_DISK = 64
"""At most one part in this many of a disk that is small."""
MARGIN_BYTES = 64 * 1024 * 1024
MARGIN_INODES = 1000
"""What stays free of the disk beyond what the next upload needs; with less, all of it goes."""
NOT_AN_IMAGE = b"not an image"
"""In place of a thumbnail: the decoder cannot read this image."""

_BLOCK = 4096
_FRESH_SECONDS = 60
"""A file that was looked at within this time is not marked again."""
_KEEP, _LOOK = 7 / 8, 1 / 64
"""Each process looks through the folder after writing a small part of the bound, and then leaves so
much of it that several of them stay within."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,160}")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    used_at: float
    bytes: int  # of disk


class ThumbnailFiles:
    """Thread-safe, as far as files are: two who make the same thumbnail write the same."""

    def __init__(self, state: Path, most_bytes: int = MOST_BYTES) -> None:
        self._state = state
        self._most_bytes = most_bytes
        self._unseen = most_bytes  # bytes written since the folder was last looked through

    def get(self, image_id: str) -> bytes | None:
        """The JPEG, or ``NOT_AN_IMAGE``; None where there is neither."""
        data = b""
        with contextlib.suppress(OSError), self._opened() as folder:
            fd = os.open(_checked(image_id), _OPEN, dir_fd=folder)
            with open(fd, "rb") as file:
                data = file.read()
                if abs(time.time() - os.fstat(fd).st_mtime) > _FRESH_SECONDS:
                    os.utime(fd)
        return data if _is_whole(data) else None

    def put(self, image_id: str, data: bytes, spare_bytes: int, spare_inodes: int) -> bool:
        """Keep it, if the disk has so much to spare beyond what uploads need; whether it did."""
        if spare_bytes < MARGIN_BYTES + len(data) or spare_inodes < MARGIN_INODES:
            return False
        try:
            with self._opened(make=True) as folder:
                self._unseen += _on_disk(len(data))
                if self._unseen > self._bound() * _LOOK:
                    self._trim(folder)
                    self._unseen = _on_disk(len(data))
                _write(folder, _checked(image_id), data)
        except OSError:
            return False
        return True

    def forget(self, image_id: str) -> None:
        """Remove the thumbnail of an image that is not to be seen any more."""
        with contextlib.suppress(OSError), self._opened() as folder:
            os.unlink(_checked(image_id), dir_fd=folder)

    def give_up(self) -> int:
        """Remove all of them; how many there were."""
        gone = 0
        with contextlib.suppress(OSError), self._opened() as folder:
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                    gone += 1
        return gone

    def make_room(self, spare_bytes: int, spare_inodes: int) -> int:
        """Remove all of them if the disk has less than the margin to spare; how many."""
        if spare_bytes >= MARGIN_BYTES and spare_inodes >= MARGIN_INODES:
            return 0
        return self.give_up()

    def _bound(self) -> int:
        return min(self._most_bytes, reserve.free(self._state).size // SHARE_OF_DISK)

    def _trim(self, folder: int) -> None:
        """Keep what was used last, up to a part of the bound."""
        kept = []
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    stat = entry.stat(follow_symlinks=False)
                    kept.append(_Kept(entry.name, stat.st_mtime, _on_disk(stat.st_size)))
        left, most = sum(one.bytes for one in kept), self._bound() * _KEEP
        for one in sorted(kept, key=lambda one: one.used_at):
            if left <= most:
                break
            with contextlib.suppress(OSError):
                os.unlink(one.name, dir_fd=folder)
            left -= one.bytes

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        above = os.open(self._state, _FOLDER)
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(FOLDER, 0o2770, dir_fd=above)
            folder = os.open(FOLDER, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
        try:
            yield folder
        finally:
            os.close(folder)


def _checked(image_id: str) -> str:
    """The file's name; OSError for a string that is no image's id."""
    if not _NAME.fullmatch(image_id) or image_id.startswith("."):
        raise OSError(f"{image_id[:200]!r} is not the id of an image")
    return image_id


def _write(folder: int, name: str, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    fd = os.open(name, _NEW, 0o660, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(data)


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _is_whole(data: bytes) -> bool:
    """Whether it is a JPEG from its first marker to its last, or says that there is none."""
    return data == NOT_AN_IMAGE or (data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9")
