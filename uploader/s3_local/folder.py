"""Objects as files: the body, then a trailer that says what it is. Read back at the next start.

A file without a whole trailer was never acknowledged and is removed at start; so no rename is
needed, and SIGKILL at any moment loses nothing that was answered. Nothing is fsynced: after a power
cut the newest objects of this stand-in may be gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

_MAGIC = b"HGOBJ\x01\x00\x00"
_FOOT = struct.Struct(">8sIQI")  # magic, length of the JSON, size of the body, CRC-32 of the JSON


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one object beside its bytes."""

    key: str
    size: int
    etag: str  # without quotes
    modified_at: float  # seconds since the epoch
    metadata: Mapping[str, str]  # Content-Type and x-amz-meta-*
    checksums: Mapping[str, str] = field(default_factory=dict)  # algorithm, value (base64), type
    version_id: str = "null"


class Draft:
    """An object that is being written; void until ``commit``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def commit(self, record: Record) -> None:
        """Add the trailer; from here on the object is kept."""
        text = json.dumps(asdict(record), separators=(",", ":")).encode()
        foot = _FOOT.pack(_MAGIC, len(text), record.size, zlib.crc32(text))
        os.lseek(self._fd, record.size, os.SEEK_SET)
        view = memoryview(text + foot)
        while view:
            view = view[os.write(self._fd, view) :]
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        self.close()
        remove(self.path)


def remove(path: Path | str) -> None:
    """Remove an object's file, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class Contents:
    """The bytes of a kept object: as much of a file as moto asks for, open only while it reads."""

    __slots__ = ("_at", "path", "size")

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self._at = 0

    def seek(self, offset: int) -> int:
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._at)
        with open(self.path, "rb") as file:
            file.seek(self._at)
            data = file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def close(self) -> None:
        """Nothing is open; the file goes when its object is deleted, and not before."""


class FolderInUse(Exception):
    """Another stand-in keeps its objects there."""


class Folder:
    """All objects of the stand-in: ``folder/bucket/group/number``. Thread-safe but for ``load``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise FolderInUse(f"{path} is used by another s3-local") from error
        self._numbers = itertools.count(time.time_ns())

    def close(self) -> None:
        """Let another one have the folder."""
        os.close(self._lock)

    def buckets(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())

    def make_bucket(self, bucket: str) -> None:
        (self.path / bucket).mkdir(exist_ok=True, mode=0o700)

    def drop_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; one that has objects stays."""
        top = self.path / bucket
        with contextlib.suppress(OSError):
            for group in top.iterdir():
                group.rmdir()
            top.rmdir()

    def draft(self, bucket: str) -> Draft:
        number = next(self._numbers)
        group = self.path / bucket / f"{number // 10**12:x}"  # a folder for about 17 minutes
        group.mkdir(exist_ok=True, parents=True, mode=0o700)
        return Draft(group / f"{number:020d}")

    def load(self, bucket: str) -> Iterator[tuple[Path, Record]]:
        """Every kept object, the oldest first; what was never acknowledged is removed."""
        newest = 0
        for group in sorted((self.path / bucket).iterdir()):
            for path in sorted(group.iterdir()):
                newest = max(newest, int(path.name))
                record = _read(path)
                if record is None:
                    path.unlink()
                else:
                    yield path, record
        # Numbers go on from the newest, also after the clock was set back.
        self._numbers = itertools.count(max(newest + 1, next(self._numbers)))


def _read(path: Path) -> Record | None:
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < _FOOT.size:
            return None
        file.seek(end - _FOOT.size)
        magic, length, size, crc = _FOOT.unpack(file.read(_FOOT.size))
        if magic != _MAGIC or size + length + _FOOT.size != end:
            return None
        file.seek(size)
        text = file.read(length)
    if zlib.crc32(text) != crc:
        return None
    return Record(**json.loads(text))
