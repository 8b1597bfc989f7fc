"""The two users, their group, the spool's modes, and who can read the credentials. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from uploader.cli.doctor.findings import Finding, loses, ok, warning

_INSTALL = "headgate install"


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One file or folder: whose it is and what its mode says."""

    path: str
    user: int
    group: int
    mode: int


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who runs what, and what the spool's folders say. Numbers as the kernel has them."""

    uploader: str
    uploader_id: int
    uploader_groups: frozenset[int]
    receiver: str  # "" if nothing tells who receives
    receiver_id: int | None
    receiver_groups: frozenset[int]
    folders: tuple[AccessEntry, ...]  # the spool and its own folders
    credentials: tuple[AccessEntry, ...]  # the file and the folders on the way, outermost first
    config: tuple[AccessEntry, ...] = ()  # the same of the settings file
    secrets: tuple[
        AccessEntry, ...
    ] = ()  # and of the secrets beside it; empty if there is no such file
    told: tuple[str, ...] = ()  # settings that are secrets, and stand in the settings file


def judge(seen: Accounts) -> Iterator[Finding]:
    """What keeps one of the two from its work, and what tells one the other's secrets."""
    yield from _folders(seen)
    if seen.receiver_id is None:
        return
    if seen.receiver_id == seen.uploader_id:
        yield warning(
            "users",
            f"{seen.uploader} both receives and sends: an attacker who breaks into the receiver "
            "has the AWS credentials",
            f"{_INSTALL} makes a user for each",
        )
    elif may_read(seen.credentials, seen.receiver_id, seen.receiver_groups):
        file = seen.credentials[-1].path
        yield warning(
            "users", f"the receiver's user {seen.receiver} can read {file}", f"chmod 600 {file}"
        )
    else:
        yield ok(
            "users", f"{seen.receiver} receives, {seen.uploader} sends, and only that one has keys"
        )
    if seen.receiver_id != seen.uploader_id:
        yield from _secrets(seen, seen.receiver_id)


def _secrets(seen: Accounts, receiver: int) -> Iterator[Finding]:
    """Judge where the secrets of alerts and of the broker stand, and who reads them."""
    if seen.secrets and not may_read(seen.secrets, seen.uploader_id, seen.uploader_groups):
        file = seen.secrets[-1].path
        yield warning(
            "secrets",
            f"the uploader's user {seen.uploader} cannot read {file}: its settings are not used",
            f"chown {seen.uploader}: {file}; chmod 600 {file}",
        )
    elif may_read(seen.secrets, receiver, seen.receiver_groups):
        file = seen.secrets[-1].path
        yield warning(
            "secrets", f"the receiver's user {seen.receiver} can read {file}",
            f"chown {seen.uploader}: {file}; chmod 600 {file}",
        )  # fmt: skip
    elif seen.told and may_read(seen.config, receiver, seen.receiver_groups):
        file = seen.config[-1].path
        yield warning(
            "secrets",
            f"the receiver's user {seen.receiver} can read {', '.join(seen.told)} in {file}",
            f"move {'it' if len(seen.told) == 1 else 'them'} into secrets.toml in the same "
            "folder, under "
            f"the same [section]; chown {seen.uploader}: and chmod 600 that file",
        )
    else:
        yield ok("secrets", f"{seen.receiver} can read no secret of alerts or of the broker")


def _folders(seen: Accounts) -> Iterator[Finding]:
    if not seen.folders:
        return
    bad = False
    group = seen.folders[0].group
    for who, user, groups in (
        (seen.receiver, seen.receiver_id, seen.receiver_groups),
        (seen.uploader, seen.uploader_id, seen.uploader_groups),
    ):
        if user is None or user == 0:
            continue
        shut = next((f for f in seen.folders if not _may_write(f, user, groups)), None)
        if shut is None:
            continue
        bad = True
        mend = f"chmod 2770 {shut.path}" if shut.group in groups else (
            f"usermod -aG {group} {who}" if shut.group == group
            else f"chgrp -R {group} {shut.path}"
        )  # fmt: skip
        yield loses("permissions", f"{who} cannot write to {shut.path}", mend)
    for folder in seen.folders:
        if folder.mode & 0o007:
            bad = True
            yield warning(
                "permissions", f"every user can look into {folder.path}", f"chmod o= {folder.path}"
            )
    if seen.receiver_id != seen.uploader_id:
        plain = next((f for f in seen.folders if not f.mode & 0o2000), None)
        if plain is not None:
            bad = True
            yield loses(
                "permissions",
                f"{plain.path} is not set-group-ID: one user cannot move what the other creates "
                "there",
                f"chmod g+s {plain.path}",
            )
    if not bad:
        yield ok(
            "permissions", f"{seen.folders[0].path} is accessible to both users, and to no others"
        )


def _may(entry: AccessEntry, user: int, groups: frozenset[int], bit: int) -> bool:
    shift = 6 if entry.user == user else 3 if entry.group in groups else 0
    return bool(entry.mode >> shift & bit)


def _may_write(entry: AccessEntry, user: int, groups: frozenset[int]) -> bool:
    return _may(entry, user, groups, 0o2) and _may(entry, user, groups, 0o1)


def may_read(way: tuple[AccessEntry, ...], user: int, groups: frozenset[int]) -> bool:
    """Whether this user may pass all folders on the way, and read the file at its end."""
    if not way:
        return False
    return _may(way[-1], user, groups, 0o4) and all(
        _may(entry, user, groups, 0o1) for entry in way[:-1]
    )
