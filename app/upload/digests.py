"""Content-Digest (RFC 9530): the digest of the body that its sender promises, and the one it has.

It covers the whole body: of a raw image its bytes, of a form the form. A form's image alone is
promised by the field ``sha256``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from app.refusals import Refused

ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512"}
"""Those of RFC 9530 that are not deprecated, and what Python calls them."""

_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*")


class ContentDigest:
    """The digests promised for one body; feed it all of the body, then ``check``."""

    def __init__(self, header: str) -> None:
        self._promised: dict[str, bytes] = {}
        for member in header.split(","):
            found = _MEMBER.fullmatch(member)
            if found is None:
                raise _unusable()
            if found[1] in ALGORITHMS:
                try:
                    self._promised[found[1]] = base64.b64decode(found[2], validate=True)
                except binascii.Error:
                    raise _unusable() from None
        self._hashes = {name: hashlib.new(ALGORITHMS[name]) for name in self._promised}

    @property
    def promises(self) -> bool:
        """Whether it has a digest that is checked here."""
        return bool(self._promised)

    def update(self, piece: bytes) -> None:
        """The next bytes of the body."""
        for one in self._hashes.values():
            one.update(piece)

    def check(self) -> None:
        """Refused unless every promised digest is that of the bytes that came."""
        for name, promised in self._promised.items():
            found = self._hashes[name].digest()
            if not hmac.compare_digest(found, promised):
                raise Refused(
                    "digest_mismatch",
                    algorithm=name,
                    promised=base64.b64encode(promised).decode(),
                    found=base64.b64encode(found).decode(),
                )


def _unusable() -> Refused:
    return Refused(
        "bad_field",
        reason="Content-Digest must look like sha-256=:<base64 of the digest>: (RFC 9530).",
    )
