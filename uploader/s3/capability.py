"""What a bucket's server was seen to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.spool.site.confirmation import ProofKind
from uploader.s3.dialect import Dialect, IfNoneMatch


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
    download_proves: bool = False  # nothing else does, and a download gave the same bytes
    samples: bool = False  # of large images, some (s3.download_sample)
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
        if self.head_proves:
            return ProofKind.HEAD
        if self.download_proves:
            return ProofKind.SAMPLE if self.samples else ProofKind.DOWNLOAD
        return ProofKind.NONE

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
