"""The tables of docs/PROTOCOL.md that the receiver works by: fields, and refusals."""

from __future__ import annotations

from collections.abc import Mapping

from app.refusals import REFUSALS, Refusal
from app.upload.fields import FIELDS, HEADERS, KEY_MAX, SEQUENCE_MAX, TAGS_MAX

_WHAT: Mapping[str, str] = {
    "device": "1 to 64 letters, digits, `.` `_` `-`, the first a letter or digit",
    "captured_at": "when the picture was taken: ISO 8601, or as EXIF writes it",
    "sequence": f"a whole number from 0 to {SEQUENCE_MAX}, to find gaps by",
    "tags": f"`site=north, lens=wide`: {TAGS_MAX} at most",
    "priority": "`normal` or `urgent`; urgent images leave first, and the right is the token's",
    "sha256": "the image's SHA-256 in hex: other bytes are refused",
    "key": f"names the image for repeats: {KEY_MAX} printable ASCII characters at most",
}


def fields() -> str:
    """What a device may say of its image."""
    lines = ["| field | header | what |", "|---|---|---|"]
    lines += [f"| `{name}` | `{HEADERS[name]}` | {_WHAT[name]} |" for name in FIELDS]
    return "\n".join(lines)


def refusals() -> str:
    """Every refusal, and what the device does about it."""
    lines = ["| status | code | what it says | what the device does |", "|---|---|---|---|"]
    for row in REFUSALS.values():
        lines.append(f"| {row.status} | `{row.code}` | {row.title} | {_then(row)} |")
    return "\n".join(lines)


def _then(row: Refusal) -> str:
    if row.retry_seconds is None:
        return "does not send it again as it is"
    if not row.retry_seconds:
        return "sends it again at once"
    return f"keeps it, comes back after `Retry-After` ({row.retry_seconds} s, or as it says)"
