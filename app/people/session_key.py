"""The key that signs session cookies: made once, for this user's eyes only, in the spool's state/.

All processes of the receiver, and the next start, use the same one; without it everyone has to log
in again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

_FILE = "session.key"
_BYTES = 64


def session_key(state: Path) -> bytes:
    """The key, which is made if there is none. OSError where the disk fails."""
    path = state / _FILE
    while True:
        found = _read(path)
        if found is not None:
            return found
        with contextlib.suppress(FileExistsError):  # another process was faster: read its key
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(path, flags, 0o600)
            try:
                os.fchmod(fd, 0o600)
                os.write(fd, secrets.token_bytes(_BYTES))
            finally:
                os.close(fd)


def _read(path: Path) -> bytes | None:
    """None if a key has to be made; what others could have read or written is no key."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:  # a link, or a file of the user that ran the receiver before
        path.unlink()
        return None
    with os.fdopen(fd, "rb") as file:
        seen = os.fstat(fd)
        key = file.read(_BYTES + 1)
    private = not stat.S_IMODE(seen.st_mode) & 0o077 and seen.st_uid == os.geteuid()
    if private and stat.S_ISREG(seen.st_mode) and len(key) == _BYTES:
        return key
    path.unlink()
    return None
