"""The key of an image in the bucket, and its metadata there. Pure.

A key follows from the name alone, so a repeat lands on the same key and is found there. Metadata
values are percent-encoded (RFC 3986), because S3 headers carry ASCII only, and are at most 2 KB
together (Amazon S3 User Guide, "Working with object metadata"); what does not fit is left out in a
fixed order, for metadata alone never keeps an image from the bucket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote, unquote

from headgate.settings.instants import read_rfc3339
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import Name
from uploader.destination.contract import Describe

_T = TypeVar("_T")

LAYOUTS = ("device", "date", "hive")
METADATA_MAX = 2048
"""Bytes of all names and values together; S3 answers MetadataTooLarge above it."""
PREFIX = "x-amz-meta-"
_PLAIN = re.compile(r"[A-Za-z0-9_.~:-]*", re.ASCII)  # what percent-encoding leaves as it is
URGENT = "urgent"
UNSET = "unset"
"""The clock's, of an image whose time of arrival cannot be believed."""
DROP_ORDER = ("tags", "key", "file-name", "captured-at", "sequence")
"""What goes first when the whole is more than ``METADATA_MAX``; the others always fit."""


def object_key(site: str, prefix: str, layout: str, name: Name, gateway: str = "") -> str:
    """The key of an image: ``prefix`` and one of three layouts. Days and hours are UTC. One of a
    site's gateways is named after the site."""
    at, device, file = name.id, name.device, name.file  # an id begins with the time
    day = f"{at[:4]}/{at[4:6]}/{at[6:8]}"
    here = f"{site}/{gateway}" if gateway else site
    match layout:
        case "device":
            return f"{prefix}{here}/{device}/{day}/{file}"
        case "date":
            return f"{prefix}{here}/{day}/{at[9:11]}/{device}/{file}"
        case "hive":
            here = f"site={site}/gateway={gateway}" if gateway else f"site={site}"
            return f"{prefix}{here}/date={name.day}/device={device}/{file}"
    raise ValueError(f"{layout!r} is not one of {', '.join(LAYOUTS)}")


def describe(site: str, prefix: str, layout: str, gateway: str = "") -> Describe:
    """What makes the key and the metadata of each image, for these settings."""

    def of_image(name: Name, meta: Metadata) -> tuple[str, Mapping[str, str]]:
        key = object_key(site, prefix, layout, name, gateway)
        return key, object_metadata(name, meta)

    return of_image


@dataclass(frozen=True, slots=True)
class Described:
    """What an object's metadata says, decoded; ``omitted`` names what had no room."""

    sha256: str = ""
    device: str = ""
    received_at: datetime | None = None
    file_name: str = ""
    captured_at: str = ""
    sequence: int | None = None
    key: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    urgent: bool = False
    clock_unset: bool = False
    omitted: tuple[str, ...] = ()


def _encode(text: str) -> str:
    if _PLAIN.fullmatch(text):  # as most of it is
        return text
    return quote(text, safe=":", errors="surrogatepass")


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError:  # not written by us
        return unquote(text)


def metadata_size(headers: Mapping[str, str]) -> int:
    """Bytes as S3 counts them: every name (with its prefix, to be safe) and every value."""
    return sum(len(name) + len(value) for name, value in headers.items())


def object_metadata(name: Name, meta: Metadata) -> dict[str, str]:
    """The ``x-amz-meta-*`` headers of an image: ASCII, at most ``METADATA_MAX`` bytes."""
    values = {
        "sha256": meta.sha256,
        "device": name.device,
        "file-name": meta.file_name,
        "captured-at": meta.captured_at,
        "sequence": "" if meta.sequence is None else str(meta.sequence),
        "key": meta.key,
        "priority": URGENT if meta.urgent else "",
        "clock": UNSET if name.clock_unset else "",
    }
    headers = {PREFIX + word: _encode(value) for word, value in values.items() if value}
    at = name.id  # which begins with the time
    headers[f"{PREFIX}received-at"] = (
        f"{at[:4]}-{at[4:6]}-{at[6:11]}:{at[11:13]}:{at[13:22]}%2B00:00"  # ISO 8601, encoded
    )
    if meta.tags:
        pairs = (f"{_encode(word)}={_encode(value)}" for word, value in meta.tags.items())
        headers[f"{PREFIX}tags"] = "&".join(pairs)
    omitted: list[str] = []
    for word in DROP_ORDER:
        if metadata_size(headers) <= METADATA_MAX:
            break
        if headers.pop(f"{PREFIX}{word}", None) is not None:
            omitted.append(word)
            headers[f"{PREFIX}omitted"] = ",".join(omitted)
    return headers


def described(headers: Mapping[str, str]) -> Described:
    """The inverse of ``object_metadata``; fields that are missing or damaged stay empty."""
    lower = {name.lower(): value for name, value in headers.items()}

    def text(word: str) -> str:
        return _decode(lower.get(f"{PREFIX}{word}", ""))

    def read(parse: Callable[[str], _T], word: str) -> _T | None:
        try:
            return parse(text(word))
        except ValueError:
            return None

    tags = {}
    for pair in filter(None, lower.get(f"{PREFIX}tags", "").split("&")):
        word, _, value = pair.partition("=")
        tags[_decode(word)] = _decode(value)
    return Described(
        sha256=text("sha256"),
        device=text("device"),
        received_at=read_rfc3339(text("received-at")),
        file_name=text("file-name"),
        captured_at=text("captured-at"),
        sequence=read(int, "sequence"),
        key=text("key"),
        tags=tags,
        urgent=text("priority") == URGENT,
        clock_unset=text("clock") == UNSET,
        omitted=tuple(filter(None, text("omitted").split(","))),
    )
