"""Whether there is room, and what may come: decided before a byte of the body is read. Pure.

Each rule takes facts and returns nothing or raises ``Refused``. They run in this order: credential
(``app.admission.auth``), the device's rate (``app.admission.rate_limits``), stopping, disk latch,
length, type, free bytes and inodes less what is reserved, the site's intake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.refusals import Refused
from headgate.spool.disk.room import Admission

MAX_HEADERS = 90
MAX_HEADER = 8192
FORM_OVERHEAD = 128 * 1024
"""Bytes that a form may need in addition to its image: fields, boundaries, part headers."""

CODINGS = ("gzip", "deflate")

_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)


def headers(sizes: Sequence[int]) -> None:
    """Refuse more than ``MAX_HEADERS`` header lines, and any longer than ``MAX_HEADER`` bytes."""
    if len(sizes) > MAX_HEADERS or max(sizes, default=0) > MAX_HEADER:
        raise Refused("too_many_headers", limit=MAX_HEADERS, bytes=MAX_HEADER)


def admitted(answer: Admission, *, tell_why: bool = False) -> None:
    """Refused, with the code and the numbers of the answer, unless the image would be taken.
    ``tell_why`` adds its sentence, for who asks how the receiver does."""
    if answer.accepting:
        return
    facts: dict[str, str | int] = {"why": answer.sentence} if tell_why else {}
    if answer.is_full:
        facts["missing"] = answer.missing_bytes
    if answer.retry_after is not None:
        facts["retry_after"] = answer.retry_after
    raise Refused(answer.code, **facts)


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


def length(size: int | None, max_image: int, *, coded: bool = False) -> int:
    """Bytes to reserve; ``coded``: the body is compressed, and may hold more than it has. A
    form or a raw image that declares more than fits is refused."""
    if size is not None and size > max_image + FORM_OVERHEAD:
        raise Refused("too_large", limit=max_image)
    if size == 0:
        raise Refused("empty_image")
    return max_image if size is None or coded else min(size, max_image)


def coding(encoding: str | None, *, strict: bool = False) -> str:
    """The coding of the body (RFC 9110, 8.4): "gzip" or "deflate", "" for none; others are
    refused."""
    named = (encoding or "").strip().lower().removeprefix("x-")
    if named in ("", "identity"):
        return ""
    if named not in CODINGS or strict:
        raise Refused("content_encoding")
    return named
