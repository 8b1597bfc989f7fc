"""A form (multipart/form-data, RFC 7578) with a file in it, as it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from uploader.wire.file_body import FileBody

_READ = 1024 * 1024
_ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""What browsers write for these in names (HTML, "multipart/form-data encoding algorithm")."""


class FormBody:
    """``file`` in the field ``name``, after the text fields."""

    def __init__(
        self,
        file: FileBody,
        boundary: str,
        fields: Mapping[str, str],
        name: str,
        file_name: str,
        media_type: str,
    ) -> None:
        self._file = file
        parts = [_part(boundary, word) + f"\r\n{value}\r\n" for word, value in fields.items()]
        parts.append(_part(boundary, name, file_name) + f"Content-Type: {media_type}\r\n\r\n")
        self._before = "".join(parts).encode(errors="replace")
        self._after = f"\r\n--{boundary}--\r\n".encode("ascii")
        self.size = len(self._before) + file.size + len(self._after)

    def pieces(self, block: bytearray, head: bytes = b"") -> Iterator[memoryview]:
        yield from self._file.pieces(block, head + self._before)
        yield memoryview(self._after)

    def sha256(self) -> bytes:
        """The SHA-256 of the whole body; reads the file once."""
        digest = hashlib.sha256()
        for piece in self.pieces(bytearray(_READ)):
            digest.update(piece)
        return digest.digest()


def _part(boundary: str, name: str, file_name: str = "") -> str:
    named = f'; filename="{_escaped(file_name)}"' if file_name else ""
    disposition = f'Content-Disposition: form-data; name="{_escaped(name)}"{named}'
    return f"--{boundary}\r\n{disposition}\r\n"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
