"""Whether there is room, and what may come: decided before a byte of the body is read. Pure.

Each rule takes facts and returns nothing or raises ``Refused``. They run in this order: credential
(``app.credentials``), the device's rate (``app.rates``), stopping, disk latch, length, type, free
bytes and inodes less what is reserved, the site's intake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.refusals import Refused

MAX_HEADERS = 32
MAX_HEADER = 8192
FORM_OVERHEAD = 128 * 1024
"""Bytes that a form may need beside its image: fields, boundaries, part headers."""

SPARE_INODES = 16
"""Inodes kept for the spool's own files and minute folders."""

SPARE_BYTES = 4 * 1024 * 1024
"""Bytes kept above the floor for the same: catalog, WAL, folders."""

_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Room:
    """The spool's disk: what is free, and what uploads never use."""

    free_bytes: int
    keep_free_bytes: int
    free_inodes: int


def headers(sizes: Sequence[int]) -> None:
    """At most ``MAX_HEADERS`` header lines, of at most ``MAX_HEADER`` bytes each."""
    if len(sizes) > MAX_HEADERS or max(sizes, default=0) > MAX_HEADER:
        raise Refused("too_many_headers", limit=MAX_HEADERS, bytes=MAX_HEADER)


def latch(tripped: bool, full: bool) -> None:
    """Nothing is taken while the disk has failed and no probe has passed since."""
    if tripped:
        raise Refused("disk_full" if full else "disk_trouble")


def room(wanted: int, now: Room, reserved_bytes: int, reserved_images: int) -> None:
    """``wanted`` more bytes must fit above the floor, beside what others were promised."""
    missing = now.keep_free_bytes + SPARE_BYTES + reserved_bytes + wanted - now.free_bytes
    if missing > 0:
        raise Refused("disk_full", missing=missing)
    if now.free_inodes - reserved_images <= SPARE_INODES:
        raise Refused("disk_full", missing=0)


def framing(content_length: str | None, transfer_encoding: str | None) -> int | None:
    """The body's length, None for chunked; anything but one of the two (RFC 9112, 6) is refused."""
    if transfer_encoding is not None:
        if content_length is not None or transfer_encoding.strip().lower() != "chunked":
            raise Refused("bad_length")
        return None
    if content_length is None:
        raise Refused("length_required")
    if not _DIGITS.fullmatch(content_length):
        raise Refused("bad_length")
    return int(content_length)


def length(size: int | None, multipart: bool, max_image: int) -> int:
    """Bytes to reserve. A raw body must say its length; nobody may say more than fits."""
    if size is None:
        if not multipart:
            raise Refused("length_required")
        return max_image
    if size > max_image + (FORM_OVERHEAD if multipart else 0):
        raise Refused("too_large", limit=max_image)
    if size == 0:
        raise Refused("empty_image")
    return min(size, max_image)


def body_type(media_type: str, boundary: str, encoding: str | None, raw_allowed: bool) -> bool:
    """Whether the body is multipart (else it is the image itself); other kinds are refused."""
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise Refused("content_encoding")
    if media_type == "multipart/form-data":
        if not re.fullmatch(r"[ -~]{0,199}[!-~]", boundary):
            raise Refused("bad_multipart", reason="its Content-Type names no usable boundary")
        return True
    if raw_allowed and (
        media_type.startswith("image/") or media_type == "application/octet-stream"
    ):
        return False
    raise Refused(
        "unsupported_body",
        raw=" or the image itself as image/*"
        if raw_allowed
        else " (POST /images takes raw images)",
        came=media_type or "without a Content-Type",
    )
