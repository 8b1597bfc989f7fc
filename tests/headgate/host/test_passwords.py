"""Passwords: which are too easy, and that a check costs the same whoever is asked for."""

from __future__ import annotations

import pytest
import werkzeug.security

from headgate.host import passwords


def test_an_unknown_user_costs_what_a_wrong_password_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []

    def check(stored: str, password: str) -> bool:
        checked.append(stored)
        return True

    stored = passwords.hashed("several words of it")
    assert passwords.matches(stored, "several words of it")
    assert not passwords.matches(stored, "several words of it ")
    assert not passwords.matches(None, "several words of it")
    monkeypatch.setattr(werkzeug.security, "check_password_hash", check)
    assert passwords.matches(stored, "x") and not passwords.matches(None, "x")
    known, unknown = (one.split("$")[0] for one in checked)
    assert known == unknown and known.startswith("scrypt:")  # the same work
    assert len(checked[0].split("$")[2]) == len(checked[1].split("$")[2])


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "at least 12"),
        ("aaaaaaaaaaaaaaaa", "too easy"),
        ("administrator", "too easy"),
        ("x" * 1025, "at most"),
        ("several words of it", ""),
    ],
)
def test_a_password_that_is_too_easy_is_refused_with_a_reason(password: str, why: str) -> None:
    said = passwords.trouble(password, "Administrator")
    assert (why in said) if why else not said
