"""Quoted-printable (RFC 2045, 6.7), which some clients write in a form as they do in mail. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Callable

_ESCAPE = 3
"""Bytes of ``=3D``, and of a line break that does not count."""


def is_quoted(coding: str) -> bool:
    """Whether a Content-Transfer-Encoding is this one."""
    return coding.strip().lower() == "quoted-printable"


class QuotedPrintable:
    """Decodes as it comes: no escape is split."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Decode the next bytes, as far as they can be decoded by now."""
        data = self._held + piece
        at = data.rfind(b"=", 1 - _ESCAPE)
        at = len(data) if at < 0 else at
        self._held = data[at:]
        return binascii.a2b_qp(data[:at])

    def finish(self) -> bytes:
        """The rest; an escape that was left open stands for itself."""
        held, self._held = self._held, b""
        return binascii.a2b_qp(held)


def quoted_body(read: Callable[[], bytes]) -> Callable[[], bytes]:
    """Reads a body that is quoted-printable as a whole; b"" at the end."""
    decoder = QuotedPrintable()

    def decoded() -> bytes:
        while piece := read():
            if plain := decoder.feed(piece):
                return plain
        return decoder.finish()

    return decoded
