"""What a device says about its image, in form fields, headers or the address. Pure.

Nothing of it refuses an image (``app.upload.policy``): what cannot be used is kept as it came, and
the receipt's ``warnings`` say so, because a device that believes its sequence number was kept must
not find out later that it was not. Only a digest that is not that of the bytes does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.refusals import Refused
from app.upload import times
from app.upload.policy import Policy
from headgate.host.foreign_json import read_json
from headgate.spool.image import names

FIELDS = ("device", "captured_at", "sequence", "tags", "priority", "sha256", "idempotency_key")
HEADERS: Mapping[str, str] = {
    "device": "X-Device",
    "captured_at": "X-Captured-At",
    "sequence": "X-Sequence",
    "tags": "X-Tags",
    "priority": "X-Priority",
    "sha256": "X-Sha256",
    "idempotency_key": "Idempotency-Key",
}
KEY_MAX = 255
TAGS_MAX = 20
TAG_VALUE_MAX = 128
SEQUENCE_MAX = 2**63 - 1
FIELD_MAX = 4096
"""Characters of one field that are looked at."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeclaredFields:
    """The fields of one image; ``device`` is the safe form of its name, "" if none was given."""

    device: str = ""
    captured_at: str = ""
    sequence: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    urgent: bool = False
    sha256: str = ""  # of the image, as its sender promises
    key: str = ""


def read(sources: Sequence[Mapping[str, str]], policy: Policy) -> DeclaredFields:
    """The fields, each from the first of ``sources`` that has it: the form, the headers, the
    address. ``policy`` is handed what cannot be used."""
    values = {name: _one(name, sources, policy) for name in FIELDS}
    device = values["device"]
    if device and not names.DEVICE.fullmatch(device) and policy.strict:
        raise _bad("device", "must be 1 to 64 letters, digits, dots, underscores or hyphens, the "
                   "first a letter or digit")  # fmt: skip
    return DeclaredFields(
        device=names.device_name(device),
        captured_at=_captured_at(values["captured_at"], policy),
        sequence=_sequence(values["sequence"], policy),
        tags=_tags(values["tags"], policy),
        urgent=_urgent(values["priority"], policy),
        sha256=_sha256(values["sha256"], policy),
        key=_key(values["idempotency_key"], policy),
    )


def _one(name: str, sources: Sequence[Mapping[str, str]], policy: Policy) -> str:
    """The value of a field; empty ones count as absent."""
    found = ""
    for source in sources:
        text = source.get(name, "").strip()
        if not text:
            continue
        if len(text) > FIELD_MAX:
            _unusable(policy, name, text, f"has more than {FIELD_MAX} characters")
            continue
        found = found or text
        if text == found:
            continue
        if name == "sha256" and _digest(text) != _digest(found):
            raise Refused(
                "digest_mismatch", algorithm="SHA-256", promised=text[:64], found=found[:64]
            )
        _unusable(policy, name, text, f"was given twice: {_short(found)} counts")
    return found


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _bad(name: str, what: str) -> Refused:
    return Refused("bad_field", reason=f"{name} {what}.")


def _unusable(policy: Policy, name: str, text: str, what: str) -> None:
    """A value that cannot be used: kept as it came, and said."""
    policy.remark(_bad(name, what), f"{name} {what}")
    policy.keep(name, text)


def _captured_at(text: str, policy: Policy) -> str:
    if not text:
        return ""
    found = times.read(text)
    if found is None:
        _unusable(
            policy, "captured_at", text,
            f"could not be read: {_short(text)}; write it like 2026-11-23T16:04:05Z",
        )  # fmt: skip
        return ""
    if not found.text:
        policy.keep("captured_at", text)
        policy.say(f"captured_at is unknown: the device's clock was never set ({_short(text)})")
    return found.text


def _sequence(text: str, policy: Policy) -> int | None:
    if not text:
        return None
    found = re.fullmatch(r"\+?([0-9]{1,19})(?:\.0*)?", text, re.ASCII)
    if found is None or int(found[1]) > SEQUENCE_MAX:
        _unusable(
            policy, "sequence", text,
            f"is not a whole number from 0 to {SEQUENCE_MAX}: {_short(text)}",
        )  # fmt: skip
        return None
    return int(found[1])


def _tags(text: str, policy: Policy) -> dict[str, str]:
    """``site=north, lens=wide``; ``night, bird`` are names without a value; JSON of either kind."""
    tags: dict[str, str] = {}
    left = []
    for name, value in _pairs(text):
        usable = _TAG.fullmatch(name) and value.isprintable() and len(value) <= TAG_VALUE_MAX
        if not usable or name in tags or len(tags) >= TAGS_MAX:
            left.append(name)
        else:
            tags[name] = value
    if left:
        _unusable(
            policy, "tags", text,
            f"were not all kept: write site=north, lens=wide, each name once and {TAGS_MAX} at "
            f"most (left out: {_short(', '.join(left))})",
        )  # fmt: skip
    return tags


def _pairs(text: str) -> list[tuple[str, str]]:
    if text[:1] in ("[", "{"):
        try:
            found: Any = read_json(text)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return [(str(name).strip(), str(value).strip()) for name, value in found.items()]
        if isinstance(found, list):
            text = ",".join(str(one) for one in found)
    pieces = (part.partition("=") for part in re.split(r"[,;]", text) if part.strip())
    return [(name.strip(), value.strip()) for name, _, value in pieces]


def _urgent(text: str, policy: Policy) -> bool:
    if text.lower() not in ("", "normal", "urgent"):
        _unusable(policy, "priority", text, "must be normal or urgent; it counts as normal")
    return text.lower() == "urgent"


def _digest(text: str) -> str:
    """A SHA-256 as 64 lower-case hex digits, from hex or base64; "" if it is neither."""
    text = re.sub(r"(?i)^(sha-?256[:=])", "", text).strip(":")
    if _HEX.fullmatch(text):
        return text.lower()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return raw.hex() if len(raw) == 32 else ""


def _sha256(text: str, policy: Policy) -> str:
    found = _digest(text) if text else ""
    if text and not found:
        _unusable(policy, "sha256", text, "must be the image's SHA-256 as 64 hex digits")
    return found


def _key(text: str, policy: Policy) -> str:
    if not re.fullmatch(rf"[ -~]{{0,{KEY_MAX}}}", text):
        _unusable(
            policy, "idempotency_key", text,
            f"must be at most {KEY_MAX} printable ASCII characters; it was not used",
        )  # fmt: skip
        return ""
    return text
