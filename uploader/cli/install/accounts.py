"""Users and groups: this machine's, or those of a tree that is being filled (``root``)."""

from __future__ import annotations

import grp
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path


def _in_file(file: Path, name: str) -> int | None:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split(":") for line in lines if line.startswith(f"{name}:"))
    return next((int(fields[2]) for fields in found if len(fields) > 2), None)


def user_id(root: Path, name: str) -> int | None:
    """The number of this user; None if there is none."""
    if root != Path("/"):
        return _in_file(root / "etc/passwd", name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_id(root: Path, name: str) -> int | None:
    """The number of this group; None if there is none."""
    if root != Path("/"):
        return _in_file(root / "etc/group", name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _at(root: Path) -> list[str]:
    return [] if root == Path("/") else ["--prefix", str(root)]


def _by_systemd(root: Path, kind: str, name: str, described: str) -> Sequence[str]:
    """systemd-sysusers(8) with the line of ``described`` (sysusers.d(5)) for this account; nothing
    where there is no systemd."""
    lines = [line for line in described.splitlines() if line.split()[:2] == [kind, name]]
    if not lines or shutil.which("systemd-sysusers") is None:
        return ()
    return ["systemd-sysusers", f"--root={root}", "--inline", lines[0]]


def new_group(root: Path, name: str, described: str) -> Sequence[str]:
    """The command that makes a group: systemd's, which makes it again at boot from the same line,
    or groupadd(8)."""
    systemd = _by_systemd(root, "g", name, described)
    return systemd or ["groupadd", *_at(root), "--system", name]


def new_user(root: Path, name: str, group: str, home: str, described: str) -> Sequence[str]:
    """The command that creates a user without a login: systemd's, or useradd(8)."""
    return _by_systemd(root, "u", name, described) or [
        "useradd", *_at(root), "--system", "--gid", group, "--home-dir", home,
        "--no-create-home", "--shell", "/usr/sbin/nologin", name,
    ]  # fmt: skip


def gone_user(root: Path, name: str) -> Sequence[str]:
    """The command that removes a user, and leaves the home."""
    return ["userdel", *_at(root), name]


def gone_group(root: Path, name: str) -> Sequence[str]:
    """The command that removes a group."""
    return ["groupdel", *_at(root), name]
