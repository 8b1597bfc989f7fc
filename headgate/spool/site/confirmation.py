"""What confirms an image at the destination, as the uploader last saw it. Pure.

It is in the site's memory: the uploader writes it, and everything that describes the site reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from headgate.settings.settings import Settings

MEMORY = "s3.dialect"
"""The name under which the site's memory keeps what is known of a server."""


class ProofKind(StrEnum):
    """What confirms an image, the strongest first."""

    SHA256 = "sha256"
    ETAG = "etag"
    CRC32 = "crc32"
    HEAD = "head"
    DOWNLOAD = "download"
    SAMPLE = "sample"
    RECEIPT = "receipt"
    STATUS = "status"
    NONE = ""


PROOFS = {
    ProofKind.SHA256: "the SHA-256 that the server reports",
    ProofKind.ETAG: "Content-MD5 and an ETag that is the MD5",
    ProofKind.CRC32: "the CRC-32 that the server checks and reports",
    ProofKind.HEAD: "the size, ETag and metadata that a HEAD finds",
    ProofKind.DOWNLOAD: "a download of the object, compared with the image",
    ProofKind.SAMPLE: "a download if it is small or in the sample, else only by its length there",
    ProofKind.RECEIPT: "the receipt of the Headgate that it is posted to",
    ProofKind.STATUS: "the status of the answer alone (destination.proof)",
    ProofKind.NONE: "nothing",
}


class Memory(Protocol):
    """What remembers the proof: the site's database."""

    def get(self, name: str) -> Any: ...

    def put(self, name: str, value: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The proof in force. ``seen_at``: ISO 8601, UTC; when the server was looked at, or empty."""

    kind: ProofKind
    seen_at: str = ""

    @property
    def words(self) -> str:
        """As the page, ``headgate status`` and doctor say it."""
        seen = f" (seen {self.seen_at[:10]})" if self.seen_at else ""
        return f"each image confirmed by {PROOFS[self.kind]}{seen}"


def server_name(settings: Settings) -> str:
    """The destination, as a key for what is remembered of it: for S3 the server and the bucket."""
    if settings.destination.kind == "http":
        return settings.destination.url
    return f"{settings.s3.endpoint_url} {settings.s3.bucket}"


def known_of(site: Memory, settings: Settings) -> Any:
    """What the memory has of the server that the settings name; None if it has nothing."""
    known = site.get(MEMORY)
    return known.get(server_name(settings)) if isinstance(known, Mapping) else None


def confirmation(site: Memory, settings: Settings) -> Confirmation | None:
    """The proof in force at the destination; None where none was seen yet."""
    if settings.destination.kind == "http":
        return Confirmation(ProofKind(settings.destination.proof))
    known = known_of(site, settings)
    if not isinstance(known, Mapping) or known.get("proof") is None:
        return None
    try:
        return Confirmation(ProofKind(known["proof"]), str(known.get("seen_at", "")))
    except ValueError:  # another version's
        return None
