"""The key that signs session cookies: made once, for this user's eyes only, in the spool's state/.

All processes of the receiver, and the next start, use the same one; without it everyone has to log
in again.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from headgate.spool.disk import durable

_FILE = "session.key"
_BYTES = 64


def session_key(state: Path) -> bytes:
    """The key, which is made if there is none that others can neither have read nor written. The
    receiver calls it once before its processes serve, so that they all read the same one.
    DiskError where the disk fails."""
    path = state / _FILE
    found = _read(path)
    if found is None:
        found = secrets.token_bytes(_BYTES)
        durable.remove(path)  # a link, or a file of the user that ran the receiver before
        durable.write_file(path, found, mode=0o600)
    return found


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        seen = os.fstat(fd)
        private = not stat.S_IMODE(seen.st_mode) & 0o077 and seen.st_uid == os.geteuid()
        if not private or not stat.S_ISREG(seen.st_mode):
            return None
        key = file.read(_BYTES + 1)
    return key if len(key) == _BYTES else None
