"""Users and passwords in URLs, as in ``https://user:password@host``: never shown. Pure."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=//)[^\s\"'<>]*@")


def without_login(text: str) -> str:
    """Text in which no URL shows what stands before its host."""
    return _LOGIN.sub("***@", text) if "@" in text else text
