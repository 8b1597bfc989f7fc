"""Users and passwords in URLs, as in ``https://user:password@host``: never shown. Pure."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=//)[^\s\"'<>]*@")


def without_login(text: str) -> str:
    """The text without users and passwords in its URLs."""
    return _LOGIN.sub("***@", text) if "@" in text else text
