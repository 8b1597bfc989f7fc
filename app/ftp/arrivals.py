"""What a camera sees over FTP: folders that take pictures, and show none."""

from __future__ import annotations

import errno
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

from pyftpdlib.filesystems import AbstractedFS, FilesystemError

REMEMBERED = 1000
"""Uploads of a session whose names are known: a camera may rename them, and ask for their sizes."""


class Upload:
    """A file that is arriving; it has no name on the disk, so a crash leaves nothing behind."""

    def __init__(self, folder: Path, path: str, limit: int) -> None:
        self.name = path
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  ``close`` does
        self.size = 0
        self.is_too_large = False
        self._limit = limit

    def flushed(self) -> BinaryIO:
        """The whole file, flushed for a reader that uses its descriptor."""
        self.file.flush()
        return self.file

    @property
    def closed(self) -> bool:
        return self.file.closed

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            self.is_too_large = True
            raise OSError(errno.EFBIG, "too large")
        self.file.write(piece)

    def close(self) -> None:
        self.file.close()


class Arrivals(AbstractedFS):  # type: ignore[misc]
    """The library's view of a disk, of which only uploads are real: any folder is there, and
    empty. One a session."""

    folder: Path
    limit: int

    def __init__(self, root: str, cmd_channel: Any) -> None:
        super().__init__(root, cmd_channel)
        self.sizes = OrderedDict[str, int]()

    def remember(self, path: str, size: int) -> None:
        self.sizes[path] = size
        while len(self.sizes) > REMEMBERED:
            self.sizes.popitem(last=False)

    def open(self, filename: str, mode: str) -> Upload:
        if mode != "wb":
            raise FilesystemError("A picture is sent whole, with STOR")
        return Upload(self.folder, filename, self.limit)

    def mkstemp(self, *_: Any, **__: Any) -> Any:
        raise FilesystemError("Name the picture: use STOR")

    def chdir(self, path: str) -> None:
        self.cwd = self.fs2ftp(path)

    def rename(self, src: str, dst: str) -> None:
        self.remember(dst, self.sizes.pop(src))

    def remove(self, path: str) -> None:
        """The stored picture stays: it is the gateway's."""
        self.sizes.pop(path, None)

    def mkdir(self, path: str) -> None:
        pass

    rmdir = mkdir

    def listdir(self, _path: str) -> list[str]:
        return []

    listdirinfo = listdir

    def stat(self, _path: str) -> Any:
        raise FilesystemError("Nothing is shown here")

    lstat = stat

    def isfile(self, path: str) -> bool:
        return path in self.sizes

    lexists = isfile

    def isdir(self, path: str) -> bool:
        return path not in self.sizes

    def islink(self, _path: str) -> bool:
        return False

    def getsize(self, path: str) -> int:
        return self.sizes[path]

    def getmtime(self, _path: str) -> float:
        return time.time()

    def realpath(self, path: str) -> str:
        return path

    def validpath(self, _path: str) -> bool:
        return True
