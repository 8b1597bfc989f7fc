"""What a bucket's server was seen to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from headgate.spool.site.confirmation import ProofKind
from uploader.s3.dialect import Dialect, Extras, IfNoneMatch, Taken

_ABOVE_CRC32 = (ProofKind.SHA256, ProofKind.ETAG)
_WORDS = {
    Taken.CONFIRMED: "taken, reported back",
    Taken.TAKEN: "taken, not reported back",
    Taken.REFUSED: "refused",
    Taken.UNKNOWN: "not known",
}
_CONTINUED = {
    **_WORDS,
    Taken.CONFIRMED: "100 is sent",
    Taken.TAKEN: "no 100 within a second",
}
_RETURNED = {
    **_WORDS,
    Taken.CONFIRMED: "returned unchanged",
    Taken.TAKEN: "returned changed",
}


@dataclass(frozen=True, slots=True)
class Ability:
    """One row of the table that ``headgate config check`` prints."""

    name: str
    answer: str
    consequence: str


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
    crc32_proves: bool = False  # nothing better does, and it is checked and reported
    head_proves: bool = False  # bodies are checked, and a HEAD shows size, ETag and metadata
    download_proves: bool = False  # nothing else does, and a download gave the same bytes
    samples: bool = False  # of large images, some (s3.download_sample)
    clock_offset_seconds: float | None = None  # the server's clock less ours
    extras: Extras = field(default_factory=Extras)
    in_host: bool = False  # the bucket is in the host name
    missing_rights: tuple[str, ...] = ()  # "s3:PutObject"
    sentences: tuple[str, ...] = ()

    @property
    def confirmed_by(self) -> ProofKind:
        """What proves an upload here, the strongest that there is."""
        if self.echoes_sha256:
            return ProofKind.SHA256
        if self.etag_is_md5:
            return ProofKind.ETAG
        if self.crc32_proves:
            return ProofKind.CRC32
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
            self.confirmed_by, seen_at, self.in_host, self.extras,
        )  # fmt: skip

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """What the server takes, one row each, and what follows for the uploads."""
        proof, extras = self.confirmed_by, self.extras
        sha256 = "left out" if not self.takes_sha256 or self.crc32_proves else "sent"
        crc = "not used: " + (
            "the proof in force is stronger" if proof in _ABOVE_CRC32 else "it proves nothing here"
        )
        conditional = "sent: nothing is overwritten"
        if not self.honours_if_none_match:
            conditional = "left out: a HEAD comes before each image"
        md5 = self.wants_md5 or (proof is not ProofKind.SHA256 and not self.crc32_proves)
        if extras.expect_continue is Taken.CONFIRMED:
            expect = "sent with images that take a second or more of the uplink"
        else:
            expect = "left out"
        return (
            Ability(
                "x-amz-checksum-sha256",
                _in_words(self.takes_sha256, reported=self.echoes_sha256,
                          checked=self.refuses_wrong_sha256),
                "sent, and the proof" if proof is ProofKind.SHA256 else sha256,
            ),
            Ability(
                "ETag",
                "the MD5" if self.etag_is_md5 else "not the MD5",
                "the proof" if proof is ProofKind.ETAG else "not the proof",
            ),
            Ability(
                "Content-MD5",
                "checked" if self.refuses_wrong_md5 else "not checked",
                "sent" if md5 else "left out",
            ),
            Ability(
                "x-amz-checksum-crc32",
                _WORDS[extras.crc32],
                "sent, and the proof" if self.crc32_proves else crc,
            ),
            Ability("x-amz-checksum-crc32c", _WORDS[extras.crc32c], "not used"),
            Ability("x-amz-checksum-crc64nvme", _WORDS[extras.crc64nvme], "not used"),
            Ability(
                "x-amz-checksum-mode in HEAD",
                "taken" if self.takes_checksum_mode else "refused",
                "sent" if self.takes_checksum_mode else "left out",
            ),
            Ability(
                "If-None-Match: *",
                "honoured" if self.honours_if_none_match
                else "refused" if self.refuses_if_none_match else "ignored",
                conditional,
            ),
            Ability("Expect: 100-continue", _CONTINUED[extras.expect_continue], expect),
            Ability(
                "UNSIGNED-PAYLOAD",
                _WORDS[extras.unsigned_payload],
                "not used: the SHA-256 is known before the image leaves",
            ),
            Ability(
                "metadata in UTF-8",
                _RETURNED[extras.utf8_metadata],
                "percent-encoded: boto3 and the AWS CLI show UTF-8 wrongly",
            ),
            Ability(
                "address",
                "bucket in the host name" if self.in_host else "bucket in the path",
                "used",
            ),
        )  # fmt: skip

    @property
    def usable(self) -> bool:
        """Whether images may be sent here at all: writable, each upload can be confirmed, and what
        was put is there (or it may not be looked for, which is a missing right)."""
        seen = self.readable or "s3:GetObject" in self.missing_rights
        return self.writable and bool(self.confirmed_by) and seen


def _in_words(taken: bool, *, reported: bool, checked: bool) -> str:
    if not taken:
        return "refused"
    return f"taken, {'' if checked else 'not '}checked, {'' if reported else 'not '}reported back"
