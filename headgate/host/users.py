"""What this machine knows of its users (passwd(5), group(5))."""

from __future__ import annotations

import os
import pwd


def user_name(number: int) -> str:
    """A user's name; empty if it has none, as in containers."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""


def groups_of(user: int) -> frozenset[int]:
    """Every group that a user is in; empty if the user has no name."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(account.pw_name, account.pw_gid))


def home_of(user: int) -> str:
    """A user's home folder; empty if the user has no name."""
    try:
        return pwd.getpwuid(user).pw_dir
    except KeyError:
        return ""
