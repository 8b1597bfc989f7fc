"""Finding and reading the settings file; the I/O around ``headgate.settings.settings``."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headgate.settings.settings import Secrets, Settings, SettingsError, combine

FILE = "headgate.toml"
SECRETS = "secrets.toml"
SITE = Path("/etc/headgate") / FILE


def find(config: str | None, environment: Mapping[str, str]) -> Path | None:
    """The settings file: ``--config``, HEADGATE_CONFIG, the working folder, /etc/headgate."""
    if chosen := config or environment.get("HEADGATE_CONFIG"):
        path = Path(chosen).absolute()
        if not _is_file(path):
            raise SettingsError([f"{path}: there is no such file"])
        return path
    here = Path.cwd() / FILE
    if _is_file(here):
        if os.geteuid() == 0 and (other := _not_roots(here)):
            raise SettingsError(
                [
                    f"root does not read {here}, because another user can change {other}; "
                    f"name the file explicitly: --config {SITE}, or --config {here}"
                ]
            )
        return here
    return SITE if _is_file(SITE) else None


def _not_roots(file: Path) -> Path | None:
    """A folder on the path of a file, or the file itself, that a user other than root may
    change."""
    real = file.resolve()
    for path in (real, *real.parents):
        seen = path.stat()
        shared = seen.st_mode & stat.S_IWOTH or (seen.st_mode & stat.S_IWGRP and seen.st_gid != 0)
        # In a folder with the sticky bit, as /tmp, no one replaces what is another's.
        if seen.st_uid != 0 or (shared and not (path != real and seen.st_mode & stat.S_ISVTX)):
            return path
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:  # a folder on the way that this user may not pass
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from error


def read_file(path: str) -> str:
    """What a ``..._FILE`` variable names."""
    return Path(path).read_text(encoding="utf-8")


def split_flags(values: Iterable[str]) -> dict[str, str]:
    """``section.key=value``, as ``--set`` takes them; SettingsError naming those that are not."""
    flags, faults = {}, []
    for value in values:
        name, found, text = value.partition("=")
        flags[name.strip()] = text.strip()
        if not found:
            faults.append(f"--set {value}: write it as section.key=value")
    if faults:
        raise SettingsError(faults)
    return flags


def load(
    config: str | None = None,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings in force; SettingsError naming every fault."""
    path = find(config, environment)
    if path is None:
        return combine(None, None, environment, flags or {}, Path.cwd(), read_file)
    return combine(
        _document(path),
        path,
        environment,
        flags or {},
        path.parent,
        read_file,
        secrets_beside(path),
    )


def secrets_beside(path: Path) -> Secrets:
    """The secrets file in the folder of a settings file; that it is hidden, where this user may
    not read it, as the receiver's may not."""
    file = path.with_name(SECRETS)
    try:
        return Secrets(file, _document(file) if _is_file(file) else {})
    except SettingsError as error:
        if isinstance(error.__cause__, PermissionError):
            return Secrets(file, {}, hidden=True)
        raise


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"{path}: {error}"]) from error
