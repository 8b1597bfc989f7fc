"""The contract of every sender: what the drain asks of a bucket, and the answers. Pure.

A sender makes one attempt for each call: retrying, backing off and asking again after an unknown
outcome belong to the caller. Every byte that leaves passes the meter that the sender was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headgate.spool.image.image import Presence, Sent
from headgate.spool.site.confirmation import ProofKind
from uploader.s3.dialect import Dialect, IfNoneMatch

__all__ = [
    "Capability",
    "Page",
    "Presence",
    "Sender",
    "Sent",
    "Stored",
    "Upload",
]


@dataclass(frozen=True, slots=True)
class Upload:
    """One image on its way: what is sent, where to, and how it will be recognised there."""

    path: Path
    key: str
    sha256: str  # 64 hex digits, of the file as it was received
    size: int  # bytes
    media_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)  # x-amz-meta-*: keys.object_metadata


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was confirmed, by which it is known again."""

    key: str
    size: int  # bytes
    sha256: str  # 64 hex digits
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: length and ETag by key; ``more`` comes after the last of them."""

    objects: Mapping[str, tuple[int, str]]
    more: bool


@dataclass(frozen=True, slots=True)
class Capability:
    """What the bucket's server was seen to do with a small object; ``sentences`` are for people."""

    bucket: str
    endpoint: str
    writable: bool = False
    readable: bool = False  # a HEAD found the object that was put, with its size and digest
    tells_missing: bool = False  # HEAD of a key that is not there says 404, not 403
    echoes_sha256: bool = False
    refuses_wrong_sha256: bool = False
    etag_is_md5: bool = False
    refuses_wrong_md5: bool = False
    honours_if_none_match: bool = False
    refuses_if_none_match: bool = False  # as a header; it could not even be ignored
    takes_sha256: bool = True  # x-amz-checksum-sha256 in a PUT
    takes_checksum_mode: bool = True  # x-amz-checksum-mode in a HEAD
    wants_md5: bool = False  # no PUT without Content-MD5
    head_proves: bool = False  # bodies are checked, and a HEAD shows size, ETag and metadata
    clock_offset_seconds: float | None = None  # the server's clock less ours
    missing_rights: tuple[str, ...] = ()  # "s3:PutObject"
    sentences: tuple[str, ...] = ()

    @property
    def confirmed_by(self) -> ProofKind:
        """What proves an upload here, the strongest that there is."""
        if self.echoes_sha256:
            return ProofKind.SHA256
        if self.etag_is_md5:
            return ProofKind.ETAG
        return ProofKind.HEAD if self.head_proves else ProofKind.NONE

    def dialect(self, seen_at: str) -> Dialect:
        """What to remember of the server."""
        taken = IfNoneMatch.REFUSED if self.refuses_if_none_match else IfNoneMatch.IGNORED
        if self.honours_if_none_match:
            taken = IfNoneMatch.HONOURED
        return Dialect(
            self.takes_sha256, self.takes_checksum_mode, self.wants_md5, taken,
            self.confirmed_by, seen_at,
        )  # fmt: skip

    @property
    def usable(self) -> bool:
        """Whether images may be sent here at all: writable, each upload can be confirmed, and what
        was put is there (or it may not be looked for, which is a missing right)."""
        seen = self.readable or "s3:GetObject" in self.missing_rights
        return self.writable and bool(self.confirmed_by) and seen


class Sender(Protocol):
    """One bucket. Every method may be called from several threads at once, except ``close``."""

    def send(self, upload: Upload) -> Sent:
        """Store the image where nothing is yet, and return only when S3 confirmed its digest.

        One attempt, at most one HEAD after it; one that is refused for a header is made again
        without that header. An object that is there already counts if it is the
        same image. Raises SendError, or what the pacer raises when the run ends.
        """

    def find(self, upload: Upload) -> Sent | None:
        """Whether the image is there: its proof, or None. Raises SendError if another object is
        there (code ``different-object``) or this cannot be determined (TRANSIENT)."""

    def see(self, stored: Stored) -> Presence:
        """Whether the bucket holds what it confirmed. SendError where it does not say."""

    def listed(self, prefix: str, after: str) -> Page:
        """Up to a thousand objects whose keys begin so and sort after that, in order. SendError
        where the bucket does not list them."""

    def close(self) -> None:
        """Close every connection; the sender cannot be used after it."""
