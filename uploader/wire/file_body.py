"""A file on its way out: opened so that nothing but the image itself can be sent."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from uploader.wire.errors import ErrorKind, SendError

_READ = 1024 * 1024
OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What a process or the machine has run out of; no file is to blame."""


class Body(Protocol):
    """What is sent, piece by piece."""

    def pieces(self, block: bytearray, head: bytes = b"") -> Iterator[memoryview]:
        """``head`` and the whole body after it; a piece is void when the next one is asked for."""


class FileBody:
    """The open file; a context manager. SendError PERMANENT when it is not what was promised.

    O_NONBLOCK: opening a FIFO would wait for a writer. Offsets are explicit, so that hashing does
    not move the place from which is sent.
    """

    def __init__(self, path: Path | str, size: int) -> None:
        self.path = path
        self.size = size
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            raise unreadable(path, error) from error
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            fault = SendError(
                ErrorKind.PERMANENT, "not-a-file", f"{Path(path).name} is not a regular file."
            )
        elif status.st_size != size:
            fault = _changed(path, f"{status.st_size} bytes long instead of {size}")
        else:
            return
        os.close(self._fd)
        raise fault

    def __enter__(self) -> FileBody:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def pieces(self, block: bytearray, head: bytes = b"") -> Iterator[memoryview]:
        """``head`` and the whole content after it, as much at a time as ``block`` holds.

        Each piece lies in ``block`` and is void when the next one is asked for.
        """
        room = memoryview(block)
        filled, offset = len(head), 0
        room[:filled] = head
        while offset < self.size:
            end = min(len(room), filled + self.size - offset)
            try:
                got = os.preadv(self._fd, [room[filled:end]], offset)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not got:
                raise _changed(self.path, f"only {offset} of {self.size} bytes long now")
            offset += got
            yield room[: filled + got]
            filled = 0
        if filled:
            yield room[:filled]

    def md5(self) -> bytes:
        """The MD5 digest, for servers that can confirm nothing better."""
        return self._digest(hashlib.md5(usedforsecurity=False))

    def crc32(self) -> bytes:
        """The CRC-32, big-endian (as x-amz-checksum-crc32 has it)."""
        crc = 0
        for piece in self.pieces(bytearray(min(_READ, self.size + 1))):
            crc = zlib.crc32(piece, crc)
        return crc.to_bytes(4, "big")

    def check(self, sha256: str) -> None:
        """SendError unless this is what was received, by its SHA-256: where no one on the other
        side compares that, a proof of the bytes that are here now proves nothing."""
        if self._digest(hashlib.sha256()).hex() != sha256:
            raise SendError(
                ErrorKind.TRANSIENT,
                "changed-before-it-left",
                f"{Path(self.path).name} is not what was received; it was not sent.",
                rehash=True,
            )

    def _digest(self, digest: hashlib._Hash) -> bytes:
        for piece in self.pieces(bytearray(min(_READ, self.size + 1))):
            digest.update(piece)
        return digest.digest()


def _changed(path: Path | str, how: str) -> SendError:
    return SendError(
        ErrorKind.PERMANENT,
        "file-changed",
        f"{Path(path).name} is {how}: it changed after it was received; look after the "
        "disk. To give it up: headgate discard.",
    )


def no_room(error: OSError) -> SendError:
    """The process has too many files open, or the machine no memory: no image is to blame."""
    return SendError(
        ErrorKind.FATAL,
        "no-room",
        f"This machine is out of room ({error.strerror}); see its memory, and how many files a "
        "process may open (ulimit -n).",
    )


def unreadable(path: Path | str, error: OSError) -> SendError:
    """What an error of open(2) or read(2) means for the run.

    Most of them (permissions, a disk that fails, a network file system that is gone) may be this
    machine's and meet every other file too. So like a refusal of S3 they prove nothing against the
    image by themselves (``uploader.run.breaker``).
    """
    path = Path(path)
    if error.errno == errno.ENOENT:
        return SendError(ErrorKind.PERMANENT, "file-gone", f"{path.name} is no longer there.")
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EINVAL):
        return SendError(ErrorKind.PERMANENT, "not-a-file", f"{path.name} is not a regular file.")
    if error.errno in OUT_OF_ROOM:
        return no_room(error)
    return SendError(
        ErrorKind.PERMANENT,
        "file-unreadable",
        f"{path.name} cannot be read ({error.strerror}): correct the permissions of the spool, or "
        "look after its disk; `headgate doctor` checks both.",
        refusal=True,
    )
