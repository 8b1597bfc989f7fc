"""What a device says about its image, in form fields or headers, checked. Pure.

A value that cannot be used is refused with a sentence rather than dropped: a device that believes
its sequence number was kept must not find out later that it was not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.refusals import Refused
from headgate.spool.image import names

FIELDS = ("device", "captured_at", "sequence", "tags", "priority", "sha256", "key")
HEADERS: Mapping[str, str] = {
    "device": "X-Device",
    "captured_at": "X-Captured-At",
    "sequence": "X-Sequence",
    "tags": "X-Tags",
    "priority": "X-Priority",
    "sha256": "X-Sha256",
    "key": "Idempotency-Key",
}
KEY_MAX = 255
TAGS_MAX = 20
SEQUENCE_MAX = 2**63 - 1

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_EXIF_TIME = re.compile(r"\d{4}:\d{2}:\d{2} \d{2}:\d{2}:\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeclaredFields:
    """The fields of one image; ``device`` "" if none was given."""

    device: str = ""
    captured_at: str = ""
    sequence: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    urgent: bool = False
    sha256: str = ""  # of the image, as its sender promises
    key: str = ""


def read(form: Mapping[str, str], headers: Mapping[str, str]) -> DeclaredFields:
    """The checked fields; both maps are by field name, and where both have one they must agree."""
    values: dict[str, str] = {}
    for name in FIELDS:
        in_header = headers.get(name)
        if in_header is not None and not in_header.strip():
            raise _bad(f"The header {HEADERS[name]} is empty or not plain ASCII.")
        text = form.get(name, "").strip()
        header = (in_header or "").strip()
        if text and header and text != header:
            raise _bad(
                f"The form field {name} and the header {HEADERS[name]} contradict each other."
            )
        values[name] = text or header
    return DeclaredFields(
        device=_device(values["device"]),
        captured_at=_captured_at(values["captured_at"]),
        sequence=_sequence(values["sequence"]),
        tags=_tags(values["tags"]),
        urgent=_urgent(values["priority"]),
        sha256=_sha256(values["sha256"]),
        key=_key(values["key"]),
    )


def _bad(sentence: str) -> Refused:
    return Refused("bad_field", reason=sentence)


def _device(text: str) -> str:
    if text and not names.DEVICE.fullmatch(text):
        raise _bad(
            "The device must be 1 to 64 letters, digits, dots, underscores or hyphens, the first a "
            "letter or digit."
        )
    return text


def _captured_at(text: str) -> str:
    if not text:
        return ""
    usable = len(text) <= 40 and text.isascii()
    if usable and not _EXIF_TIME.fullmatch(text):
        try:
            datetime.fromisoformat(text)
        except ValueError:
            usable = False
    if not usable:
        raise _bad("captured_at must be a time like 2026-11-23T16:04:05Z (ISO 8601).")
    return text


def _sequence(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) or int(text) > SEQUENCE_MAX:
        raise _bad(f"sequence must be a whole number from 0 to {SEQUENCE_MAX}.")
    return int(text)


def _tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, found, value = (piece.strip() for piece in part.partition("="))
        if not found or not _TAG.fullmatch(name) or not value.isprintable() or name in tags:
            raise _bad(
                "tags must look like site=north, lens=wide: names of letters and digits, each once."
            )
        tags[name] = value
    if len(tags) > TAGS_MAX:
        raise _bad(f"At most {TAGS_MAX} tags are allowed.")
    return tags


def _urgent(text: str) -> bool:
    if text not in ("", "normal", "urgent"):
        raise _bad("priority must be normal or urgent.")
    return text == "urgent"


def _sha256(text: str) -> str:
    if not re.fullmatch(r"([0-9A-Fa-f]{64})?", text, re.ASCII):
        raise _bad("sha256 must be the image's SHA-256 as 64 hex digits.")
    return text.lower()


def _key(text: str) -> str:
    if not re.fullmatch(rf"[ -~]{{0,{KEY_MAX}}}", text):
        raise _bad(f"The Idempotency-Key must be at most {KEY_MAX} printable ASCII characters.")
    return text
