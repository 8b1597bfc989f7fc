"""Extended attributes, in which an image's metadata and proofs travel, and reading a file back."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

from headgate.spool.errors import DiskError, FileMissing

ATTRIBUTE = "user.headgate"
SENT_ATTRIBUTE = "user.headgate.sent"
ASIDE_ATTRIBUTE = "user.headgate.aside"
ATTRIBUTE_MAX = 1500
"""Bytes of the sent and the aside attribute; with 2 KB of metadata they fit one 4 KB ext4 block."""


def get_attribute(path: Path | str, attribute: str) -> bytes | None:
    """An extended attribute; None where it, or its support, is missing. Missing if the file is."""
    try:
        return os.getxattr(path, attribute, follow_symlinks=False)
    except FileNotFoundError as error:
        raise FileMissing(os.path.basename(path)) from error
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return None
        raise DiskError(error, f"reading the attributes of {os.path.basename(path)}") from error


def set_attribute(path: Path | str, attribute: str, value: bytes) -> bool:
    """Set an extended attribute; False where there is no room or support for it."""
    try:
        os.setxattr(path, attribute, value, follow_symlinks=False)
    except FileNotFoundError as error:
        raise FileMissing(os.path.basename(path)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOTSUP, errno.EPERM, errno.ERANGE):
            return False
        raise DiskError(error, f"writing the attributes of {os.path.basename(path)}") from error
    return True


def clear_attribute(path: Path, attribute: str) -> None:
    """Remove an extended attribute, if it is there."""
    with contextlib.suppress(OSError):
        os.removexattr(path, attribute, follow_symlinks=False)


def hash_file(path: Path | str) -> tuple[str, int]:
    """SHA-256 (hex) and size of a regular file; OSError otherwise, also for a link or a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()
