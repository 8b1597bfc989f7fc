"""How an image is described to the server that it is posted to: headers and form fields. Pure.

The names are those that a Headgate's receiver reads (docs/PROTOCOL.md), so that gateways feed each
other; any other server finds the same in the form.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC
from urllib.parse import quote, unquote

from headgate.spool.image import names
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import Name

HEADERS: Mapping[str, str] = {
    "device": "X-Device",
    "captured_at": "X-Captured-At",
    "received_at": "X-Received-At",
    "sequence": "X-Sequence",
    "tags": "X-Tags",
    "priority": "X-Priority",
    "sha256": "X-Sha256",
    "idempotency_key": "Idempotency-Key",
}
FILE_NAME = "Content-Disposition"
TAGS_MAX = 20
"""What a receiver keeps of an image's tags."""
_PLAIN_TAG = re.compile(r"[ -~]*", re.ASCII)


def describe(name: Name, meta: Metadata) -> tuple[str, Mapping[str, str]]:
    """The image's id, which is its key at the destination, and the headers that describe it.

    The id is the Idempotency-Key: the same at each attempt, and no other image's. An image without
    a device is the gateway's own there, and its sender's address a tag.
    """
    received = name.received_at.astimezone(UTC).isoformat(timespec="microseconds")
    device = "" if names.is_address(name.device) else name.device
    tags = dict(meta.tags)
    for tag, value in (("address", "" if device else name.device), ("received", received)):
        if value and tag not in tags and len(tags) < TAGS_MAX:
            tags[tag] = value
    values = {
        "device": device,
        "captured_at": meta.captured_at,
        "received_at": received,
        "sequence": "" if meta.sequence is None else str(meta.sequence),
        "tags": _tags(tags),
        "priority": "urgent" if meta.urgent else "",
        "sha256": meta.sha256,
        "idempotency_key": name.id,
    }
    headers = {HEADERS[word]: value for word, value in values.items() if value}
    if meta.file_name:
        encoded = quote(meta.file_name, safe="", errors="replace")
        headers[FILE_NAME] = f"attachment; filename*=UTF-8''{encoded}"
    return name.id, headers


def fields(headers: Mapping[str, str]) -> dict[str, str]:
    """The description of an image as form fields."""
    return {word: headers[name] for word, name in HEADERS.items() if name in headers}


def file_name(headers: Mapping[str, str]) -> str:
    """The file's name, as its device gave it; or nothing."""
    return unquote(headers.get(FILE_NAME, "").partition("''")[2], errors="replace")


def content_digest(sha256: bytes) -> str:
    """The header Content-Digest (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(sha256).decode('ascii')}:"


def _tags(tags: Mapping[str, str]) -> str:
    """``site=north,lens=wide``, or JSON where a value has what would end it, or is not ASCII."""
    simple = all(
        _PLAIN_TAG.fullmatch(value) and not set(value) & set(",;") and value == value.strip()
        for value in tags.values()
    )
    if not simple:
        return json.dumps(tags, separators=(",", ":"))
    return ",".join(f"{name}={value}" for name, value in tags.items())
