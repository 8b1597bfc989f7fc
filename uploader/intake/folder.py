"""Takes pictures out of folders: once by hand (a card), or as they come (a camera's share).

A file counts once it is quiet: it did not change between two looks that are ``intake.quiet``
apart. Whether it is whole its own format says, to the receiver. Folders are read again and again,
not watched by inotify(7): that misses what came while it did not run, says nothing on network file
systems, and a file has to stay quiet anyway. No link is followed: others may write here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from headgate.intake.hand_over import HandedOver, LocalReceiver, Outcome, Sent
from headgate.settings.intake import IntakeFolder
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError, FileMissing
from uploader.intake.devices import device_of
from uploader.intake.exif import captured_at

REFUSED = "refused"
"""Where a watched folder keeps what was refused for good, each with the reason."""
PATIENCE_SECONDS = 600.0
"""How long a picture that is not whole is tried again, while it does not change."""
_UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".upload", ".partial")


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file as it was seen: by its folder's path and its name there."""

    folder: Path
    name: str
    relative: str  # to the folder that is read
    size: int
    changed_ns: int
    inode: int

    @property
    def path(self) -> Path:
        return self.folder / self.name


def files(top: Path, unread: Callable[[OSError], None] | None = None) -> Iterator[Found]:
    """Regular files below ``top``, oldest first in each folder; hidden ones, unfinished ones and
    what was refused are left out. ``unread`` is called for a folder that cannot be read."""
    try:
        yield from _walked(top, unread)
    except OSError as error:  # of the top: a share that is not mounted any more
        if unread is None:
            raise
        unread(error)


def _walked(top: Path, unread: Callable[[OSError], None] | None) -> Iterator[Found]:
    for folder, folders, names, at in os.fwalk(top, onerror=unread, follow_symlinks=False):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        if Path(folder) == top and REFUSED in folders:
            folders.remove(REFUSED)
        here = []
        for name in names:
            if name.startswith(".") or name.lower().endswith(_UNFINISHED):
                continue
            with contextlib.suppress(OSError):  # it went away
                seen = os.stat(name, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(seen.st_mode):
                    relative = os.path.relpath(os.path.join(folder, name), top)
                    here.append(
                        Found(
                            Path(folder),
                            name,
                            relative,
                            seen.st_size,
                            seen.st_mtime_ns,
                            seen.st_ino,
                        )
                    )
        yield from sorted(here, key=lambda one: (one.changed_ns, one.name))


@contextlib.contextmanager
def opened(found: Found) -> Iterator[BufferedReader | None]:
    """The file, if it still is the one that was seen."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(found.path, flags)
    except OSError:
        yield None
        return
    with os.fdopen(fd, "rb") as file:
        seen = os.fstat(fd)
        same = (seen.st_ino, seen.st_size, seen.st_mtime_ns) == (
            found.inode, found.size, found.changed_ns,
        )  # fmt: skip
        yield file if same and stat.S_ISREG(seen.st_mode) else None


def hand_over(found: Found, device: str, receiver: LocalReceiver) -> HandedOver | None:
    """Hand one file to the receiver; None if it is not there any more, or was changed
    meanwhile."""
    with opened(found) as file:
        if file is None:
            return None
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if receiver.held(digest, device):
            return HandedOver(Outcome.HELD)
        file.seek(0)
        said_at = captured_at(file)
        folder = os.path.dirname(found.relative)
        tags = {"folder": folder} if folder.isprintable() and folder else {}
        sent = Sent(device, found.name, said_at, digest, tags)
        return receiver.hand_over(file, sent)


@dataclass(slots=True)
class _Seen:
    found: Found
    since: float  # the same since then, by a monotonic clock
    try_at: float = 0.0  # not before


@dataclass(slots=True)
class Watched:
    """Takes pictures from one folder of ``intake.folders``. Not thread-safe."""

    settings: IntakeFolder
    receiver: LocalReceiver
    quiet_seconds: float
    tell: Callable[[str, Path, str], None]  # an event, the file or folder, and the reason
    monotonic: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _closed_until: float = 0.0
    _told_unread: set[str] = field(default_factory=set)

    def look(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Look once: hand over what is quiet; how many were taken."""
        now, taken, here = self.monotonic(), 0, set()
        for found in files(self.settings.path, self._unread):
            if stopping():
                return taken
            here.add(found.relative)
            known = self._seen.get(found.relative)
            if known is None or known.found != found:
                self._seen[found.relative] = _Seen(found, now)
            elif now - known.since >= self.quiet_seconds and now >= self._closed_until:
                taken += self._take(known, now)
        for gone in self._seen.keys() - here:
            del self._seen[gone]
        return taken

    def _unread(self, error: OSError) -> None:
        """Say once of each folder that it cannot be read: whatever is in it would wait unseen."""
        if (why := str(error)) not in self._told_unread:
            self._told_unread.add(why)
            self.tell("intake.unreadable", self.settings.path, why)

    def _take(self, seen: _Seen, now: float) -> bool:
        """Hand over one file; whether it was taken. What cannot be removed is not handed over
        again and again."""
        if now < seen.try_at:
            return False
        try:
            return self._hand_over(seen, now)
        except (OSError, DiskError, FileMissing) as error:
            seen.try_at = now + PATIENCE_SECONDS
            self.tell("intake.stuck", seen.found.path, f"it stays where it is: {error}")
            return False

    def _hand_over(self, seen: _Seen, now: float) -> bool:
        found = seen.found
        device = device_of(self.settings.rule, found.relative)
        if device is None:
            self._put_aside(found, "no device is known by the file's name or folder")
            return False
        said = hand_over(found, device, self.receiver)
        if said is None:
            return False
        if said.is_here:
            self._remove(found)
            return said.outcome is Outcome.TAKEN
        if said.is_of_picture and now - seen.since < PATIENCE_SECONDS:
            seen.try_at = now + self.quiet_seconds
        elif said.outcome is Outcome.LATER and not said.is_of_picture:
            self._closed_until = now + said.retry_after
            self.tell("intake.waits", found.path, said.sentence)
        else:
            self._put_aside(found, said.sentence)
        return False

    def _remove(self, found: Found) -> None:
        """Unless it is another file by now, which has to be quiet again."""
        with opened(found) as file:
            if file is not None:
                durable.remove(found.path)
                self.tell("intake.taken", found.path, "")

    def _put_aside(self, found: Found, why: str) -> None:
        """Move it to a folder that is not watched, with the reason in a text file."""
        folder = self.settings.path / REFUSED
        folder.mkdir(mode=0o770, exist_ok=True)
        if folder.is_symlink():
            raise NotADirectoryError(f"{folder} is a link")
        name, number = found.name, 0
        while os.path.lexists(folder / name):
            number += 1
            name = f"{number}-{found.name}"
        durable.move(found.path, folder / name)
        (folder / f"{name}.txt").write_text(f"{why}\n", encoding="utf-8")
        self.tell("intake.refused", found.path, why)
