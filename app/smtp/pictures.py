"""The pictures of a mail: whatever part of it holds one, attached or shown in its text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from email import policy
from email.errors import MessageError
from email.parser import BytesParser

from app.formats.completeness import HEAD
from app.formats.sniff import media_type


@dataclass(frozen=True, slots=True)
class Mail:
    """``pictures`` with the names of their files; ``others`` are attachments that are none."""

    pictures: tuple[tuple[str, bytes], ...]
    others: int


def read(raw: bytes) -> Mail:
    """Find the pictures of a mail, given as it came; one that cannot be parsed has no pictures."""
    pictures, others = [], 0
    try:
        message = BytesParser(policy=policy.default).parsebytes(raw)
        for part in message.walk():
            if part.is_multipart():
                continue
            data = part.get_payload(decode=True)
            if isinstance(data, bytes) and media_type(data[:HEAD]):
                pictures.append((part.get_filename() or "", data))
            elif part.get_filename():
                others += 1
    except (MessageError, ValueError, LookupError, RecursionError):
        others += 1
    return Mail(tuple(pictures), others)
