"""Objects as files: the body, then a trailer that says what it is. Read back at the next start.

A file gets its name once it is whole, and before its object is answered for: SIGKILL at any moment
loses nothing that was answered and leaves nothing that was not. The trailer has the body's length
and SHA-256; both are compared at each start and whenever the object is read, so that no reader gets
other bytes than were stored. Nothing is fsynced: after a power cut the newest objects of this
stand-in may be gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

_MAGIC = b"HGOBJ\x01\x00\x00"
_FOOT = struct.Struct(">8sIQI")  # magic, length of the JSON, size of the body, CRC-32 of the JSON
_READ = 1024 * 1024
_NAME = re.compile(r"\d{20}")
_PART = ".part"  # a body that is being received
_DAMAGED = ".damaged"  # a file that is not what was stored


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
    sha256: str = ""  # of the body, hex; empty in folders of older releases


class DamagedObject(OSError):
    """A kept object has other bytes than were stored."""


class Draft:
    """An object that is being written; nobody finds it before ``commit``."""

    def __init__(self, path: Path) -> None:
        self.path = path  # its name from ``commit`` on
        self.part = path.with_name(path.name + _PART)
        self._fd = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.crc32 = 0
        self.size = 0

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of all that was written."""
        return self._sha256.digest()

    @property
    def md5(self) -> bytes:
        """The MD5 of all that was written."""
        return self._md5.digest()

    def write(self, data: bytes) -> None:
        _write(self._fd, data)
        self._sha256.update(data)
        self._md5.update(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(data)

    def commit(self, record: Record) -> None:
        """Add the trailer and give the file its name; from here on the object is kept."""
        text = json.dumps(asdict(record), separators=(",", ":")).encode()
        foot = _FOOT.pack(_MAGIC, len(text), record.size, zlib.crc32(text))
        if os.lseek(self._fd, 0, os.SEEK_END) != record.size:
            raise DamagedObject(
                f"{self.part} is not the {record.size} bytes that were written to it"
            )
        _write(self._fd, text + foot)
        self.close()
        os.rename(self.part, self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Give it up; also right after a ``commit`` that did not reach its end."""
        self.close()
        remove(self.part)
        remove(self.path)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(path: Path | str) -> None:
    """Remove an object's file, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class Contents:
    """The bytes of a kept object: as much of a file as moto asks for, open only while it reads.

    Damaged when they are not those that were stored.
    """

    __slots__ = ("_at", "path", "sha256", "size")

    def __init__(self, path: str, size: int, sha256: str) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self._at = 0

    def seek(self, offset: int) -> int:
        self._at = offset
        return offset

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._at)
        wanted = left if size < 0 else min(size, left)
        with open(self.path, "rb") as file:
            file.seek(self._at)
            data = file.read(wanted)
        if len(data) != wanted or (
            wanted == self.size and self.sha256 not in ("", hashlib.sha256(data).hexdigest())
        ):
            raise DamagedObject(f"{self.path} has other bytes than were stored")
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
        self.damaged: list[Path] = []  # files that ``load`` set aside

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
        """Every kept object, the oldest first.

        What was never whole is removed. What is no longer what was stored is renamed and left out,
        rather than served or deleted.
        """
        newest = 0
        for group in sorted(path for path in (self.path / bucket).iterdir() if path.is_dir()):
            for path in sorted(group.iterdir()):
                if path.name.endswith(_PART):
                    path.unlink()
                if not _NAME.fullmatch(path.name):
                    continue
                newest = max(newest, int(path.name))
                record = _read(path)
                if record is None:
                    self.damaged.append(path.rename(path.with_name(path.name + _DAMAGED)))
                else:
                    yield path, record
        # Numbers go on from the newest, also after the clock was set back.
        self._numbers = itertools.count(max(newest + 1, next(self._numbers)))


def _read(path: Path) -> Record | None:
    """What the file says it is; None unless it is that, to the last byte."""
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
        record = Record(**json.loads(text))
        digest, left = hashlib.sha256(), size
        file.seek(0)
        while record.sha256 and left and (data := file.read(min(_READ, left))):
            digest.update(data)
            left -= len(data)
    return None if record.sha256 not in ("", digest.hexdigest()) else record
