"""The only place with fsync, link, rename and unlink of images: each write has numbered steps.

The commit instant of an accepted image is the return of the folder's fsync in ``publish``: from
then on the image is ours, through a kill or a power cut, on any disk that honours a flush. A failed
fsync is final for its file: the kernel drops the dirty pages and a second fsync returns OK with the
data gone (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from headgate.spool.disk.xattrs import ATTRIBUTE, ATTRIBUTE_MAX, SENT_ATTRIBUTE
from headgate.spool.errors import AttributesError, DiskError, FileMissing
from headgate.spool.image.names import Name

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE = 0o660
_FOLDER_MODE = 0o2770
_TRIES = 20
_PROBE = "probe-"
_PROBE_SECONDS = 3600.0


class _disk:
    """An OSError inside is DiskError, which says what was being done."""

    __slots__ = ("_doing", "_error")

    def __init__(self, doing: str, error: type[DiskError] = DiskError) -> None:
        self._doing = doing
        self._error = error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise self._error(error, self._doing) from error


class Incoming:
    """One image on its way in: a file in tmp/ that is hashed as it is written.

    Leaving the context unlinks the file unless it was published; nothing outlives an abort.
    """

    def __init__(self, tmp: Path, prefix: str = "") -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self.file = f"{tmp}/{prefix}{secrets.token_hex(16)}.part"
        with _disk("opening a file in tmp/"):
            self.fd = os.open(self.file, _NEW_FILE, _FILE_MODE)
        self._open = True
        self.published = False

    def write(self, chunk: bytes | memoryview) -> None:
        """Append; DiskError when the disk refuses."""
        view = memoryview(chunk)
        self._hash.update(view)
        self.size += len(view)
        with _disk("writing an image"):
            while view:
                view = view[os.write(self.fd, view) :]

    @property
    def path(self) -> Path:
        """The file, while it is in tmp/."""
        return Path(self.file)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written, as 64 hex digits."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file and, if it was not published, unlink it. Idempotent."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(OSError):  # a failed close after a failed write says nothing new
            os.close(self.fd)
        if not self.published:
            with contextlib.suppress(OSError):  # tmp/ is emptied at the next start anyhow
                os.unlink(self.file)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Folder:
    """A minute folder that is open, and whose entries in its parents are on disk."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0
        self.dropped = False


class Folders:
    """The minute folders below new/, made durable once and remembered by descriptor, not by name.

    A sweeper may remove an emptied folder and another thread make it again: the name then looks as
    before, but its parents were not fsynced since. A link through a descriptor of the removed
    folder gives ENOENT, so what is remembered here can never stand for the wrong folder.
    """

    def __init__(self, base: Path, keep: int = 4) -> None:
        self._base = base
        self._keep = keep
        self._lock = threading.Lock()
        self._known: dict[str, _Folder] = {}

    @contextlib.contextmanager
    def durable(self, folder: str) -> Iterator[int]:
        """A descriptor of the folder; its way up to new/ is on disk when this returns."""
        with self._lock:
            known = self._known.get(folder)
            if known is not None:
                known.users += 1
        if known is None:
            made = _Folder(make_folder(self._base, folder))
            with self._lock:
                known = self._known.setdefault(folder, made)
                known.users += 1
                if known is not made:
                    os.close(made.fd)
                for old in list(self._known)[: -self._keep]:
                    self._drop(old)
        try:
            yield known.fd
        finally:
            with self._lock:
                known.users -= 1
                if known.dropped and not known.users:
                    os.close(known.fd)

    def forget(self, folder: str) -> None:
        """Make the folder again next time: it is gone, or its fsync failed."""
        with self._lock:
            self._drop(folder)

    def _drop(self, folder: str) -> None:
        known = self._known.pop(folder, None)
        if known is not None:
            known.dropped = True
            if not known.users:
                os.close(known.fd)

    def close(self) -> None:
        with self._lock:
            for folder in list(self._known):
                self._drop(folder)


def make_folder(base: Path, folder: str) -> int:
    """Make ``base/day/minute`` durable and open it; the caller closes the descriptor.

    A sweeper may remove either level in between, hence the tries.
    """
    day = base / folder.partition("/")[0]
    with _disk(f"making the folder {folder}"):
        for _ in range(_TRIES):
            try:
                for path in (day, base / folder):
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(path, _FOLDER_MODE)
                fd = os.open(base / folder, _FOLDER)
            except FileNotFoundError:
                continue
            try:
                # Also if it already existed: the program that made it may have died before this.
                sync_folder(day)
                sync_folder(base)
            except FileNotFoundError:
                os.close(fd)
                continue
            except BaseException:
                os.close(fd)
                raise
            return fd
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(base / folder))


_ALONE: AbstractContextManager[None] = contextlib.nullcontext()
"""Around a wait for the disk, where no other thread could compute meanwhile."""


def commit(folder: int, waiting: AbstractContextManager[None] = _ALONE) -> None:
    """Flush a minute folder: all that was linked there before is ours from here on."""
    with _disk("flushing the minute folder to disk"), waiting:
        os.fsync(folder)


def publish(
    incoming: Incoming,
    attribute: bytes,
    name: Name,
    folders: Folders,
    committed: Callable[[int, Name], None] = lambda folder, _: commit(folder),
    waiting: AbstractContextManager[None] = _ALONE,
) -> Name:
    """Make one received image durable under ``name`` in new/; the only way into new/.

    Returns the name it has: bumped by microseconds where the first was taken. ``committed`` calls
    ``commit`` for the folder that it is given, once for several images perhaps. ``waiting``
    stands around a flush. DiskError means not acknowledged; a file that was linked by then stays
    for the uploader, as a surplus.
    """
    with _disk("writing the image's attributes", AttributesError):
        os.setxattr(incoming.fd, ATTRIBUTE, attribute)  # 1. before the fsync: one commit for both
    with _disk("flushing the image to disk"), waiting:
        os.fsync(incoming.fd)  # 2. never repeated for this file
    for _ in range(_TRIES):
        with folders.durable(name.folder) as folder:
            try:
                # 3. link, not rename: a name that is taken is an error, not an overwrite
                os.link(incoming.file, name.file, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                name = name.bumped()
                continue
            except FileNotFoundError:  # the folder was swept; make it again, parents and all
                folders.forget(name.folder)
                continue
            except OSError as error:
                raise DiskError(error, "linking the image into new/") from error
            incoming.published = True  # it is the uploader's from here on, acknowledged or not
            with _disk("unlinking the image from tmp/"):
                os.unlink(incoming.file)  # 4.
            try:
                committed(folder, name)  # 5.
            except DiskError:
                folders.forget(name.folder)
                raise
            return name
    raise DiskError(
        OSError(errno.ENOENT, os.strerror(errno.ENOENT)), f"linking {name.file} into new/"
    )


def move(source: Path | str, target: Path | str) -> None:
    """Rename within the spool; Missing if the source is gone, FileExistsError if the target is not.

    Only the holder of the drain lock moves, so looking before the rename is no race. The folders
    are fsynced by the caller, once a batch.
    """
    if os.access(target, os.F_OK, follow_symlinks=False):  # without the cost of an exception
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        os.rename(source, target)
    except FileNotFoundError as error:
        raise FileMissing(os.path.basename(source)) from error
    except OSError as error:
        raise DiskError(error, f"moving {os.path.basename(source)}") from error


def move_over(source: Path, target: Path) -> None:
    """Rename a file of the state (never an image), replacing the target."""
    with _disk(f"moving {source.name}"):
        os.rename(source, target)
        sync_folder(target.parent)


def remove(path: Path | str) -> bool:
    """Unlink; False if it was not there. The caller syncs the folder where that matters."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DiskError(error, f"removing {os.path.basename(path)}") from error
    return True


def remove_empty(folder: Path) -> bool:
    """Remove a folder if it is empty; False if it is not, or is gone."""
    try:
        os.rmdir(folder)
    except OSError:
        return False
    return True


def sync_folder(path: Path) -> None:
    """fsync a folder, so that the names in it are on disk. Plain OSError."""
    fd = os.open(path, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folders(paths: set[Path]) -> None:
    """fsync each folder that is still there; DiskError otherwise."""
    with _disk("flushing folders to disk"):
        for path in sorted(paths):
            with contextlib.suppress(FileNotFoundError):
                sync_folder(path)


def write_file(path: Path, data: bytes, *, mode: int = 0) -> None:
    """Replace a small file of ours by ``data``, all or nothing, durable when it returns. ``mode``:
    another than that of the spool's files."""
    with _disk(f"writing {path.name}"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        write_file_in(folder, path.name, data, mode=mode)
    finally:
        os.close(folder)


def write_file_in(folder: int, name: str, data: bytes, *, mode: int = 0) -> None:
    """Replace a small file of ours in a folder that is open, which no link can lead elsewhere
    meanwhile."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    with _disk(f"writing {name}"):
        with contextlib.suppress(FileNotFoundError):  # rename(2) would replace a device as well
            mode_there = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode_there) or stat.S_ISLNK(mode_there)):
                raise OSError(errno.EINVAL, "it is not a regular file")
        fd = os.open(temporary, _NEW_FILE, _FILE_MODE, dir_fd=folder)
        try:
            try:
                if mode:
                    os.fchmod(fd, mode)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)


def write_records(fd: int, records: Sequence[tuple[bytes, int]]) -> None:
    """Overwrite small records of ours in place, each at its offset, on disk when it returns."""
    with _disk("writing a ledger record"):
        for data, offset in records:
            if os.pwrite(fd, data, offset) != len(data):
                raise OSError(errno.EIO, "a short write")
        os.fdatasync(fd)


def make_root(root: Path, folders: tuple[str, ...]) -> None:
    """Make the spool's own folders, durable, for one user and one group."""
    with _disk(f"making the spool {root}"):
        os.makedirs(root, _FOLDER_MODE, exist_ok=True)
        missing = [root / folder for folder in folders if not (root / folder).is_dir()]
        if missing:  # flushed before they are made: a start that ends in between is made good
            for path in root.resolve().parents:  # any of them may have been made just now
                with contextlib.suppress(PermissionError):  # then by another user
                    sync_folder(path)
        for path in missing:
            os.mkdir(path, _FOLDER_MODE)
            fd = os.open(path, _FOLDER | os.O_NOFOLLOW)
            try:
                os.fchmod(fd, _FOLDER_MODE)  # the set-group-ID bit: mkdir(2) ignores it
            finally:
                os.close(fd)
        for path in (*(root / folder for folder in folders), root, root.parent):
            sync_folder(path)


def probe(root: Path) -> None:
    """Write, attribute, flush, link, flush the folder, read back: a new file, as an image's is.

    DiskError names the step that failed. By writing, because after an error a file system may
    still call itself read-write.
    """
    data = secrets.token_bytes(4096)
    with Incoming(root / "tmp", _PROBE) as incoming:
        incoming.write(data)
        with _disk("writing 2 KB of attributes", AttributesError):
            os.setxattr(incoming.fd, ATTRIBUTE, b"x" * 2048)
            os.setxattr(incoming.fd, SENT_ATTRIBUTE, b"x" * ATTRIBUTE_MAX)
        linked = root / "state" / incoming.path.name
        with _disk("flushing a probe to disk"):
            os.fsync(incoming.fd)
            # Out of the page cache, so that reading it back asks the disk.
            os.posix_fadvise(incoming.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            with _disk("linking a probe"):
                os.link(incoming.path, linked, follow_symlinks=False)
                sync_folder(linked.parent)
            with _disk("reading a probe back"):
                if linked.read_bytes() != data:
                    raise OSError(errno.EIO, "the bytes read back are not those written")
        finally:
            with contextlib.suppress(OSError):
                os.unlink(linked)


def empty_tmp(tmp: Path, prefix: str = "") -> int:
    """Unlink what was being received when the receiver last died, or only those of its files whose
    names begin with ``prefix``; how many there were.

    A probe may be another program's, at this very moment: only an old one goes.
    """
    found = 0
    with _disk("emptying tmp/"):
        for entry in list(os.scandir(tmp)):
            if not entry.is_file(follow_symlinks=False) or not entry.name.startswith(prefix):
                continue
            if entry.name.startswith(_PROBE):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime + _PROBE_SECONDS < time.time():
                        os.unlink(entry.path)
                continue
            os.unlink(entry.path)
            found += 1
    return found


def switch_link(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``, or lead one that is there elsewhere, in one
    instant (rename(2)); durable when it returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with _disk(f"linking {path.name}"):
        os.symlink(target, temporary)
        try:
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)
