"""What this machine knows of its users (passwd(5), group(5))."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path


def user_name(number: int) -> str:
    """A user's name; empty if it has none, as in containers."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""


def person(user: int, environ: Mapping[str, str]) -> str:
    """The login name of who types at this terminal as ``user``: the one behind sudo, if any."""
    return environ.get("SUDO_USER", "")[:64] or user_name(user) or f"uid {user}"


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


def not_permitted(error: PermissionError) -> str:
    """What to do for a user who may not use a file or folder; "" if the error names none."""
    if not error.filename:
        return ""
    path = Path(os.fsdecode(error.filename))
    owner = "its owner"
    for place in (path, *path.parents):
        try:
            found = place.stat().st_uid
        except OSError:
            continue
        owner = user_name(found) or str(found)
        break
    me = user_name(os.geteuid()) or str(os.geteuid())
    who = f"{owner} or root: sudo -u {owner}" if owner != "root" else "root: sudo"
    return f"{me} may not use {path}; run the command as {who} headgate ..."
