"""Which headers a bucket's server takes, and what proves there that an image arrived. Pure.

Servers that speak S3 differ in what they take with the object: checksums, conditions, the
checksum mode of HEAD. What one does not take is left out; the strongest proof that remains counts.
docs/SERVERS.md has a table of what was seen.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from headgate.settings.settings import Settings
from headgate.spool.site.confirmation import MEMORY, Memory, ProofKind, known_of, server_name

CRC32 = "x-amz-checksum-crc32"


def as_header(digest: bytes) -> str:
    """A digest as S3's headers carry it."""
    return base64.b64encode(digest).decode("ascii")


class IfNoneMatch(StrEnum):
    """What becomes of ``If-None-Match: *`` on a key that is taken."""

    HONOURED = "honoured"  # 412
    IGNORED = "ignored"  # the object is overwritten
    REFUSED = "refused"  # no request with this header is taken


class Taken(StrEnum):
    """What became of a part of a request that no server has to support."""

    CONFIRMED = "confirmed"  # taken, and the answer shows that it had its effect
    TAKEN = "taken"  # taken; no answer shows an effect
    REFUSED = "refused"
    UNKNOWN = "unknown"  # not tried, or the answer was about something else


@dataclass(frozen=True, slots=True)
class Extras:
    """What a server was seen to support beyond what each upload needs."""

    crc32: Taken = Taken.UNKNOWN  # x-amz-checksum-crc32 in a PUT; confirmed: reported back
    crc32c: Taken = Taken.UNKNOWN
    crc64nvme: Taken = Taken.UNKNOWN
    expect_continue: Taken = Taken.UNKNOWN  # Expect: 100-continue; confirmed: 100 came
    unsigned_payload: Taken = Taken.UNKNOWN  # UNSIGNED-PAYLOAD in the place of the body's SHA-256
    utf8_metadata: Taken = Taken.UNKNOWN  # confirmed: a HEAD returned the same bytes


@dataclass(frozen=True, slots=True)
class Dialect:
    """What is known of a server. The defaults are Amazon's."""

    sha256: bool = True  # takes x-amz-checksum-sha256
    checksum_mode: bool = True  # takes x-amz-checksum-mode in a HEAD
    wants_md5: bool = False  # demands Content-MD5 (a bucket with Object Lock)
    if_none_match: IfNoneMatch = IfNoneMatch.HONOURED
    proof: ProofKind | None = None  # None: not probed
    seen_at: str = ""  # of the probe: ISO 8601, UTC
    in_host: bool = False  # takes the bucket in the host name alone
    extras: Extras = Extras()

    @property
    def by_crc32(self) -> bool:
        """Whether a PUT has a CRC-32 in the place of the SHA-256: a PUT may have one checksum."""
        return self.proof is ProofKind.CRC32

    @property
    def says_continue(self) -> bool:
        """Whether the server asks for a body that it wants (100), and refuses before it."""
        return self.extras.expect_continue is Taken.CONFIRMED

    def takes_as(self, other: Dialect) -> bool:
        """Whether requests to both look the same."""
        return self._requests() == other._requests()

    def _requests(self) -> tuple[Dialect, bool, bool]:
        alike = replace(self, proof=None, seen_at="", extras=Extras())
        return alike, self.by_crc32, self.says_continue

    def as_json(self) -> dict[str, Any]:
        """The dialect as JSON, for the site's database."""
        return asdict(self)


def from_json(known: Any) -> Dialect | None:
    """The inverse; None where that is not what was remembered, also by another version."""
    if not isinstance(known, Mapping):
        return None
    try:
        proof = known["proof"]
        return Dialect(
            sha256=bool(known["sha256"]),
            checksum_mode=bool(known["checksum_mode"]),
            wants_md5=bool(known["wants_md5"]),
            if_none_match=IfNoneMatch(known["if_none_match"]),
            proof=None if proof is None else ProofKind(proof),
            seen_at=str(known["seen_at"]),
            in_host=bool(known.get("in_host", False)),
            extras=Extras(**{name: Taken(one) for name, one in known.get("extras", {}).items()}),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def recall(site: Memory, settings: Settings) -> Dialect | None:
    """What is known of the server that the settings name; None if nothing is."""
    return from_json(known_of(site, settings))


def remember(site: Memory, settings: Settings, dialect: Dialect) -> None:
    """Keep it, in the place of what was known of any server."""
    site.put(MEMORY, {server_name(settings): dialect.as_json()})


_ABOUT_HEADERS = frozenset({"InvalidArgument", "InvalidRequest", "NotImplemented"})
_SIGNED = "SignatureDoesNotMatch"


def is_about_headers(status: int, code: str) -> bool:
    """Whether an answer to a PUT may mean that a header is not taken: worth another try without.

    A server that drops a signed header before it verifies the signature refuses the signature.
    """
    return (
        status == 501 or (status == 400 and code in _ABOUT_HEADERS)
        or (status == 403 and code == _SIGNED)
    )  # fmt: skip
