"""One step of an installation: whether it is needed, and doing it. A second call finds it done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spool import durable
from spool.errors import DiskTrouble

COMMAND_SECONDS = 180


class InstallError(Exception):
    """What kept it from being installed; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """``what`` reads after "made:" and after "would make:"."""

    what: str
    needed: Callable[[], bool]
    do: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file or folder belongs to. Looked up when it is needed: the step before makes them."""

    user: Callable[[], int | None]
    group: Callable[[], int | None]
    name: str  # for people

    def fits(self, found: os.stat_result) -> bool:
        return (found.st_uid, found.st_gid) == (self.user(), self.group())

    def give(self, path: Path, mode: int) -> None:
        user, group = self.user(), self.group()
        if user is None or group is None:
            raise InstallError(f"there is no {self.name} on this machine to own {path}")
        if os.geteuid() == 0:
            os.chown(path, user, group)
        path.chmod(mode)  # after the owner: chown(2) takes the set-group-ID bit away


def run(command: Sequence[str]) -> str:
    """The output of a command; InstallError with its last words where it fails."""
    try:
        ran = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{' '.join(command)} cannot be run: {error}") from error
    if ran.returncode != 0:
        said = ran.stderr.strip() or ran.stdout.strip() or f"exit code {ran.returncode}"
        raise InstallError(f"{' '.join(command)} fails: {said.splitlines()[-1]}")
    return ran.stdout


def _is(path: Path, kind: Callable[[int], bool], owner: Owner, mode: int) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    fits = os.geteuid() != 0 or owner.fits(found)
    return kind(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and fits


def folder(path: Path, owner: Owner, mode: int) -> Step:
    """A folder with this owner and mode; what is in it stays."""

    def do() -> None:
        path.mkdir(parents=True, exist_ok=True)
        owner.give(path, mode)

    return Step(
        f"the folder {path} ({owner.name}, {mode:04o})",
        lambda: not _is(path, stat.S_ISDIR, owner, mode),
        do,
    )


def file(path: Path, data: bytes, owner: Owner, mode: int) -> Step:
    """A file with these bytes, whatever it was before."""

    def needed() -> bool:
        return not _is(path, stat.S_ISREG, owner, mode) or path.read_bytes() != data

    def do() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write_file(path, data)
        owner.give(path, mode)

    return Step(f"the file {path} ({owner.name}, {mode:04o})", needed, do)


def digest(data: bytes) -> str:
    """What a file is remembered by."""
    return hashlib.sha256(data).hexdigest()


def conffile(path: Path, data: bytes, owner: Owner, mode: int, before: str | None) -> Step:
    """A file that people edit, as dpkg has it: it is written where it is missing or as it was
    installed (``before``, its digest); where it was edited the new one goes beside it, as .dist."""
    try:
        there = path.read_bytes()
    except OSError:
        return file(path, data, owner, mode)
    if there == data or digest(there) == before:
        return file(path, data, owner, mode)
    if digest(data) == before:  # edited, and nothing new since: only owner and mode matter
        return file(path, there, owner, mode)
    beside = path.with_name(f"{path.name}.dist")
    step = file(beside, data, owner, mode)
    return Step(f"{step.what}; {path.name} was edited and stays", step.needed, step.do)


def symbolic(path: Path, target: str) -> Step:
    """A symbolic link, switched in one instant where another was; what is no link stays."""

    def needed() -> bool:
        return not path.is_symlink() or os.readlink(path) != target

    def do() -> None:
        if path.exists() and not path.is_symlink():
            raise InstallError(f"{path} is in the way: it is no link of Headgate's; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.switch_link(path, target)

    return Step(f"the link {path} -> {target}", needed, do)


def command(what: str, needed: Callable[[], bool], words: Sequence[str]) -> Step:
    """Something that a program of the system does."""

    def do() -> None:
        run(words)

    return Step(what, needed, do)


def absent(path: Path) -> Step:
    """No file, link or folder of this name, whatever was in it."""

    def do() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    return Step(str(path), lambda: os.path.lexists(path), do)


def absent_if_empty(path: Path) -> Step:
    """No folder of this name, unless something is in it."""

    def needed() -> bool:
        with contextlib.suppress(OSError):
            return not any(path.iterdir())
        return False

    return Step(str(path), needed, path.rmdir)


def carry_out(steps: Sequence[Step], *, dry_run: bool, say: Callable[[str], None]) -> int:
    """Do what is needed, in order; how many steps that were. InstallError with what failed."""
    done = 0
    for step in steps:
        if not step.needed():
            continue
        done += 1
        if not dry_run:
            try:
                step.do()
            except (OSError, DiskTrouble) as error:
                raise InstallError(
                    f"{step.what}: {error}; call it again after mending that"
                ) from error
        say(step.what)
    return done
