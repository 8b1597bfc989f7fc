"""An image as it arrived: from this disk, or from the bucket that confirmed it, never unchecked.

What comes down takes the other direction of the line than uploads, so only the requests are counted
in the books of the uplink.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from enum import StrEnum

from headgate.spool.image.image import Receipt, State
from headgate.spool.spool import Spool
from uploader.run.destination import bucket_of
from uploader.wire.errors import SendError
from uploader.wire.http import Timeouts
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_LOCK_SECONDS = 15.0
_SLOWEST = 50_000
"""Bytes a second of a line on which a download still ends."""


class Source(StrEnum):
    """Where the bytes came from."""

    DISK = "disk"
    BUCKET = "bucket"


class NotToBeHad(Exception):
    """The bytes cannot be had; the sentence says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes, which have the SHA-256 of the receipt."""

    data: bytes
    source: Source


def original(spool: Spool, receipt: Receipt) -> Original:
    """Get the original from this disk if it is here and unchanged, else from the bucket.
    NotToBeHad; LockHeld while another program sends what is not an image."""
    here = _on_disk(spool, receipt)
    if here is not None and _is(receipt, here):
        return Original(here, Source.DISK)
    changed = "" if here is None else "The file on this disk has other bytes than were received. "
    if receipt.state is not State.UPLOADED:
        raise NotToBeHad(changed or f"There is no file of it any more: {receipt.reason}")
    if not receipt.key or "://" in receipt.bucket:
        raise NotToBeHad(
            f"{changed}It was posted to {receipt.bucket}, and no copy is here; Headgate only sends "
            "there, so ask that server for it."
        )
    data = _from_bucket(spool, receipt)
    if not _is(receipt, data):
        raise NotToBeHad(
            f"{changed}The object {receipt.key} in {receipt.bucket} has other bytes than were "
            "received; nothing was written. See headgate verify."
        )
    return Original(data, Source.BUCKET)


def _is(receipt: Receipt, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == receipt.sha256


def _on_disk(spool: Spool, receipt: Receipt) -> bytes | None:
    for path in spool.files.places(receipt.name):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
                return file.read(receipt.size + 1)
    return None


def _from_bucket(spool: Spool, receipt: Receipt) -> bytes:
    timeouts = Timeouts(answer=max(Timeouts.answer, receipt.size / _SLOWEST))
    try:
        with (
            other_traffic_pacer(spool.uplink, "headgate get", _LOCK_SECONDS) as pacer,
            contextlib.closing(bucket_of(spool, receipt.bucket, pacer, timeouts)) as sender,
        ):
            return sender.download(receipt)
    except Closed as closed:
        raise NotToBeHad(f"Nothing may be asked now: {closed}") from closed
    except SendError as error:
        raise NotToBeHad(
            f"No copy is here, and {receipt.key} in {receipt.bucket} could not be fetched: {error}"
        ) from error
