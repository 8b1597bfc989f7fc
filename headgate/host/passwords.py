"""Passwords of people, as scrypt hashes that Werkzeug makes and checks."""

from __future__ import annotations

LENGTH_MIN = 12
LENGTH_MAX = 1024

_USELESS = "scrypt:32768:8:1$headgate$" + "0" * 128
"""Costs as much to check as a real one, and no password has it."""


def trouble(password: str, name: str) -> str:
    """Why this cannot be the password of the user ``name``; empty if it can."""
    if len(password) < LENGTH_MIN:
        return f"a password has at least {LENGTH_MIN} characters; several words make a good one"
    if len(password) > LENGTH_MAX:
        return f"a password has at most {LENGTH_MAX} characters"
    if len(set(password)) < 4 or password.lower() == name.lower():
        return "this password is too easy to guess; several words make a good one"
    return ""


def hashed(password: str) -> str:
    """The hash of a password, to be stored."""
    from werkzeug.security import generate_password_hash  # only those who need it pay for it

    return generate_password_hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Whether it is the one whose hash was stored. None, for a user who does not exist, takes as
    long and is False."""
    from werkzeug.security import check_password_hash

    return check_password_hash(stored or _USELESS, password[: LENGTH_MAX + 1]) and bool(stored)
