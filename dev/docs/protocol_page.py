"""The tables of docs/PROTOCOL.md that the receiver works by: fields, and refusals."""

from __future__ import annotations

from collections.abc import Mapping

from app.refusals import REFUSALS, Refusal
from app.upload.fields import FIELDS, HEADERS, KEY_MAX, SEQUENCE_MAX, TAGS_MAX

_WHAT: Mapping[str, str] = {
    "device": "who sends, in any script: letters, digits, `.` `_` `-` stay as they are in keys",
    "captured_at": "when the picture was taken: ISO 8601, EXIF, RFC 1123 or seconds since 1970",
    "sequence": f"a whole number from 0 to {SEQUENCE_MAX}, used to find gaps",
    "tags": f"`site=north, lens=wide`, or names alone: at most {TAGS_MAX}",
    "priority": "`normal` or `urgent`; urgent images leave first; the token needs that permission",
    "sha256": "the image's SHA-256 in hex or base64; other bytes are refused",
    "idempotency_key": f"identifies repeats: at most {KEY_MAX} printable ASCII characters",
}


def fields() -> str:
    """What a device may say of its image."""
    lines = ["| field | header | what |", "|---|---|---|"]
    lines += [f"| `{name}` | `{HEADERS[name]}` | {_WHAT[name]} |" for name in FIELDS]
    return "\n".join(lines)


def refusals() -> str:
    """Every refusal, and what the device does about it."""
    lines = ["| status | code | title | what the device does |", "|---|---|---|---|"]
    for row in (row for row in REFUSALS.values() if not row.for_people):
        lines.append(f"| {row.status} | `{row.code}` | {row.title} | {_then(row)} |")
    return "\n".join(lines)


def _then(row: Refusal) -> str:
    if row.retry_seconds is None:
        return "does not repeat the same request"
    if not row.retry_seconds:
        return "sends it again at once"
    return f"keeps the image and retries after `Retry-After` ({row.retry_seconds} s by default)"
