"""A spool in a test's folder, and a disk that fails or crashes at the call one asks for."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from headgate.host.board import Board
from headgate.settings.settings import Settings, combine
from headgate.spool.disk import durable
from headgate.spool.disk.durable import Incoming
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Metadata, Sent
from headgate.spool.spool import Accepted, Spool, utc_now
from headgate.spool.upkeep.mover import Mover

DISK_CALLS = frozenset(
    {
        "open", "write", "pwrite", "fsync", "fdatasync", "link", "unlink", "rename", "mkdir",
        "rmdir", "setxattr", "removexattr",
    }
)  # fmt: skip
"""What reaches the disk; a call that only reads cannot lose anything."""


def folder_in_memory() -> Path:
    """A folder on tmpfs where that keeps attributes (Linux 6.6): flushes cost nothing there."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="headgate-", dir="/dev/shm"))
        os.setxattr(folder, "user.headgate", b"x")
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="headgate-"))
    return folder


class Clock:
    """A wall clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def advance(self, **how: float) -> None:
        self.at += timedelta(**how)


class Crash(BaseException):
    """The program ended here; nothing after it ran."""


class Disk:
    """Stands before ``os`` in ``headgate.spool.disk.durable``: counts the calls, notes them, fails
    the nth."""

    def __init__(self, nth: int = 0, code: int = errno.EIO, crash: str = "") -> None:
        self.nth, self.code, self.crash = nth, code, crash
        self.calls: list[tuple[str, Any]] = []
        self.failed_fsync: list[int] = []
        self.fired = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in DISK_CALLS:
            return real

        def call(*args: Any, **more: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **more)
            assert not (name == "fsync" and args[0] in self.failed_fsync), "fsync tried again"
            self.calls.append((name, args[0]))
            if len(self.calls) != self.nth:
                return real(*args, **more)
            self.fired = True
            if self.crash == "before":
                raise Crash
            if self.crash == "after":
                real(*args, **more)
                raise Crash
            if name == "fsync":
                self.failed_fsync.append(args[0])
            raise OSError(self.code, os.strerror(self.code))

        return call

    @contextmanager
    def __call__(self) -> Iterator[Disk]:
        with mock.patch.object(durable, "os", self):
            yield self


def settings_for(root: Path, **flags: str) -> Settings:
    """Settings with the spool below ``root``; ``spool__keep_done="1h"`` sets spool.keep_done."""
    return combine(None, None, {}, {k.replace("__", "."): v for k, v in flags.items()}, root)


def open_spool(
    root: Path,
    now: Callable[[], datetime] | None = None,
    board: Board | None = None,
    **flags: str,
) -> Spool:
    """The spool below ``root``, as a receiver opens it, or one of its processes."""
    return Spool.open(settings_for(root, **flags), now=now or utc_now, board=board)


def put(spool: Spool, data: bytes, device: str = "cam-1", **more: Any) -> Accepted:
    """Accept these bytes as an image, the way the receiver does."""
    with spool.incoming() as incoming:
        incoming.write(data)
        meta = Metadata(incoming.sha256, incoming.size, "image/jpeg", **more)
        return spool.accept(incoming, device, meta)


def upload_all(spool: Spool) -> int:
    """Finish everything that waits as a run does, without a bucket; how many images."""
    items = spool.catalog.after(0, 1000)
    with spool.hold_drain_lock("a test", 0) as lock:
        spool.catalog.claim(items)
        sent = [(item, Sent("bucket", f"k/{item.name.file}", "etag")) for item in items]
        Mover(spool, lock).finish(sent, spool.now())
    return len(items)


def images_below(root: Path) -> dict[str, list[str]]:
    """Where every image lies, by walking the folders: id -> ["new", ...]."""
    found: dict[str, list[str]] = {}
    for top in ("new", "done", "aside"):
        for path in sorted((root / top).rglob("*.jpg")):
            found.setdefault(path.stem, []).append(top)
    return found


class Failing(Spool):
    """A real spool on a disk that fails at one step while it is told to."""

    step = ""
    code = errno.EIO

    def fail(self, step: str) -> None:
        if self.step == step:
            raise DiskError(OSError(self.code, os.strerror(self.code)), step)

    def incoming(self) -> Incoming:
        self.fail("open")
        incoming = super().incoming()
        if self.step == "write":

            def write(_chunk: object) -> None:
                self.fail("write")

            incoming.write = write  # type: ignore[method-assign]
        return incoming

    def accept(self, *told: Any) -> Accepted:
        self.fail("accept")
        return super().accept(*told)

    def probe(self) -> None:
        if self.step:
            self.fail(self.step)
        super().probe()
