"""Small disks of their own, and images that fill them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.spool.disk.room import BLOCK

SIZE = 200_000


FLOOR = 2_000_000


def image(number: int) -> bytes:
    """A JPEG by its structure, of ``SIZE`` bytes, no two alike."""
    top = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xda\x00\x02"
    scan = b"%08d" % number
    return top + scan + bytes(SIZE - len(top) - len(scan) - 2) + b"\xff\xd9"


@contextlib.contextmanager
def disk(folder: Path, megabytes: int, *options: str, kind: str = "ext4") -> Iterator[Path]:
    """A file system of its own, mounted from a file."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a file system")
    if shutil.which(f"mkfs.{kind}") is None:
        package = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}[kind]
        pytest.skip(f"mkfs.{kind} is not installed (Debian: {package})")
    file, point = folder / "disk.img", folder / "disk"
    with file.open("wb") as out:
        out.truncate(megabytes * 1024 * 1024)
    usual = {"ext4": ["-b", str(BLOCK), "-m", "0"], "xfs": []}[kind]
    make = [f"mkfs.{kind}", "-q", *usual, *options, str(file)]
    subprocess.run(make, check=True, capture_output=True)
    point.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", str(file), str(point)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a loop device cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def free_bytes(point: Path) -> int:
    found = os.statvfs(point)
    return found.f_bavail * found.f_frsize


def leave_free(point: Path, wanted: int) -> Path:
    """A file that takes all but ``wanted`` bytes, to the block or so."""
    filler = point / "filler"
    with filler.open("wb") as out:
        for _ in range(8):  # extents take blocks of their own
            os.posix_fallocate(out.fileno(), 0, out.seek(0, os.SEEK_END) + max(
                1, free_bytes(point) - wanted))  # fmt: skip
            if free_bytes(point) - wanted < BLOCK:
                break
    return filler
