"""The client's file name, as it meant it, from Content-Disposition. Pure.

Browsers send raw UTF-8 and percent-encode only quotes and line breaks (HTML, "multipart/form-data
encoding algorithm"; RFC 7578 section 5.1), some clients ``filename*=UTF-8''...`` (RFC 8187), old
ones Latin-1. The name is kept for people; it is never used as a path.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_EXTENDED = re.compile(r";\s*filename\*\s*=\s*\"?([A-Za-z0-9-]+)'[^']*'([^\s;\"]*)", re.IGNORECASE)
_PLAIN = re.compile(r";\s*filename\s*=\s*(?:\"((?:\\.|[^\\\"])*)\"|([^\s;\"]+))", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HTML = {"%22": '"', "%0D": "\r", "%0A": "\n", "%0d": "\r", "%0a": "\n"}


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")  # what senders that say Latin-1 mean


def _percent_encoded(text: str) -> str | None:
    """The name, if it was percent-encoded as a whole (RFC 7578, 4.2: a sender may; aiohttp does).

    Only bytes beyond ASCII, encoded and valid UTF-8 together, tell that from a name with a % in it.
    """
    if not text.isascii() or not re.search(r"%[89A-Fa-f][0-9A-Fa-f]", text):
        return None
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return None


def _base(name: str) -> str:
    """A file name without control characters and without the folders that some clients send
    along."""
    return _CONTROL.sub("", re.split(r"[/\\]", name)[-1])


def file_name(disposition: str) -> str:
    """The file name in a Content-Disposition value whose bytes were read as Latin-1; "" if none."""
    extended = _EXTENDED.search(disposition)
    if extended:
        raw = unquote_to_bytes(extended[2].encode("latin-1", "replace"))
        charset = extended[1].lower()
        return _base(raw.decode("cp1252", "replace") if charset == "iso-8859-1" else _decoded(raw))
    plain = _PLAIN.search(disposition)
    if plain is None:
        return ""
    text = plain[1] if plain[1] is not None else plain[2]
    text = re.sub(r"\\([\"\\])", r"\1", text)
    if (whole := _percent_encoded(text)) is not None:
        return _base(whole)
    text = re.sub(r"%22|%0[DAda]", lambda match: _HTML[match[0]], text)
    return _base(_decoded(text.encode("latin-1", "replace")))


def has_file_name(disposition: str) -> bool:
    """Whether the part is a file in the eyes of its sender, even one without a name."""
    return bool(_EXTENDED.search(disposition) or _PLAIN.search(disposition))
