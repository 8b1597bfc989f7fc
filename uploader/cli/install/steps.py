"""One step of an installation: whether it is needed, and doing it. A second call finds it done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.spool.disk import durable
from headgate.spool.errors import DiskError

COMMAND_SECONDS = 180
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LINKS = 40  # as many as the kernel follows


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

    def give(self, fd: int, path: Path, mode: int) -> None:
        """Give them what is open as ``fd``; its ``path`` is for people."""
        user, group = self.user(), self.group()
        if user is None or group is None:
            raise InstallError(f"there is no {self.name} on this machine to own {path}")
        if os.geteuid() == 0:
            os.fchown(fd, user, group)
        os.fchmod(fd, mode)  # after the owner: chown(2) takes the set-group-ID bit away


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


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A folder, made where it is missing, and open: what is done by this descriptor cannot be led
    elsewhere. No link counts on the way there but where root alone could have put it; InstallError
    where another one stands."""
    fd = os.open("/", _FOLDER)
    try:
        left, links = list(path.parts[1:]), 0
        while left:
            part = left.pop(0)
            inner = _step_into(fd, part)
            if inner is None:
                links += 1
                if not _only_roots(os.fstat(fd)) or links > _LINKS:
                    raise InstallError(
                        f"{path} leads through a link ({part}) that another user than root could "
                        "have made; see who did, and remove it"
                    )
                target = Path(os.readlink(part, dir_fd=fd))
                left = [*target.parts[target.is_absolute() :], *left]
                inner = os.open("/" if target.is_absolute() else ".", _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _step_into(fd: int, part: str) -> int | None:
    """The folder ``part`` of an open one, made if need be; None where a link stands."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o755, dir_fd=fd)
    if stat.S_ISLNK(os.stat(part, dir_fd=fd, follow_symlinks=False).st_mode):
        return None
    return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)


def _only_roots(seen: os.stat_result) -> bool:
    """Whether only root, or the current user, can create names in this folder."""
    shared = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return seen.st_uid in (0, os.geteuid()) and not shared


def folder(path: Path, owner: Owner, mode: int) -> Step:
    """A folder with this owner and mode; what is in it stays."""

    def do() -> None:
        with opened(path) as fd:
            owner.give(fd, path, mode)

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
        with opened(path.parent) as folder:
            durable.write_file_in(folder, path.name, data)
            fd = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise InstallError(f"{path} was replaced by something else; see who does that")
                owner.give(fd, path, mode)
            finally:
                os.close(fd)

    return Step(f"the file {path} ({owner.name}, {mode:04o})", needed, do)


def digest(data: bytes) -> str:
    """What a file is remembered by."""
    return hashlib.sha256(data).hexdigest()


def conffile(path: Path, data: bytes, owner: Owner, mode: int, before: str | None) -> Step:
    """A file that people edit, as dpkg has it: it is written where it is missing or as it was
    installed (``before``, its digest); where it was edited the new one goes next to it, as
    .dist."""
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


def adopted(path: Path, owner: Owner, needed: Callable[[], bool]) -> Step:
    """A step that gives everything in a folder to its new owner; modes stay. What root owns, or
    what has a second name elsewhere, was not made by those who had it, and stays as it is."""

    def do() -> None:
        user, group = owner.user(), owner.group()
        assert user is not None and group is not None  # the folder above was given to them
        with opened(path) as top:
            for _, folders, files, fd in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                for name in (*folders, *files):
                    seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    mode = seen.st_mode
                    ours = stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and seen.st_nlink == 1)
                    if seen.st_uid != 0 and ours:
                        os.chown(name, user, group, dir_fd=fd, follow_symlinks=False)
                        if stat.S_ISDIR(mode):  # chown(2) takes the set-group-ID bit away
                            _mode_again(name, fd, stat.S_IMODE(mode))

    return Step(f"all in {path} belongs to {owner.name}", needed, do)


def _mode_again(name: str, folder: int, mode: int) -> None:
    fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


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
            except (OSError, DiskError) as error:
                raise InstallError(
                    f"{step.what}: {error}; run it again after fixing that"
                ) from error
        say(step.what)
    return done
