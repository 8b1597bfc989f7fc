"""What can go wrong in the spool, each with a sentence that says what to do. Pure."""

from __future__ import annotations

import errno

from headgate.spool.image.image import Receipt


class SpoolUnsuitable(Exception):
    """This place cannot hold a spool; the sentence says why and what would."""


class SpoolElsewhere(SpoolUnsuitable):
    """Another spool, or none, is where one is known to be; the sentence says which disk is
    missing."""


class SpoolFull(SpoolUnsuitable):
    """This place cannot hold a spool for want of room, inodes or quota."""


class LockHeld(Exception):
    """Another process holds the lock; the sentence says who, as far as it is known."""


class DiskError(Exception):
    """The disk refused. Nothing was acknowledged, and the failed file is never fsynced again."""

    def __init__(self, error: OSError, doing: str) -> None:
        self.errno = error.errno
        self.doing = doing
        self.sentence = error.strerror or str(error)
        super().__init__(f"{doing}: {self.sentence}")

    @property
    def full(self) -> bool:
        """Whether space, inodes or a quota ran out, rather than the disk failing."""
        return self.errno in (errno.ENOSPC, errno.EDQUOT)


class AttributesError(DiskError):
    """The disk refused an extended attribute, which some file systems have no room for."""


class IdentityConflict(Exception):
    """The same Idempotency-Key came with other bytes; ``held`` is what it named first."""

    def __init__(self, held: Receipt) -> None:
        super().__init__(f"this key already names the image {held.id}, which has other bytes")
        self.held = held


class FileMissing(Exception):
    """The file is not where the catalog says; ``id`` names it."""
