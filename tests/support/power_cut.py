"""Power cuts: a file system of its own that is shut down as if the power had gone, and a witness
outside it."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.wait import wait_until

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of linux/fs.h
NO_LOG_FLUSH = 2
CUTS_A_DISK = 25
"""Then a new file system is made: the old one would be full."""
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}

marks = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_POWER_CUT") != "1",
        reason="HEADGATE_TEST_POWER_CUT=1 is not set: this mounts file systems of its own",
    ),
]
"""What a test module that cuts the power sets as its ``pytestmark``."""


class Disk:
    """A file system in a file, on a loop device of its own."""

    def __init__(self, image: Path, mount: Path, kind: str) -> None:
        self.image, self.mount, self.kind = image, mount, kind
        self.device = ""
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(400 * 1024**2)
        make = {"ext4": ["mkfs.ext4", "-q", "-b", "4096"], "xfs": ["mkfs.xfs", "-q"]}[kind]
        subprocess.run([*make, str(image)], check=True, capture_output=True)

    def attach(self) -> None:
        found = subprocess.run(
            ["losetup", "--find", "--show", str(self.image)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.device = found.stdout.strip()
        subprocess.run(["mount", "-t", self.kind, self.device, str(self.mount)], check=True)

    def cut(self) -> None:
        """Shut it down without a flush of its log: what is not on the device is lost."""
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def detach(self) -> None:
        unmount = ["umount", str(self.mount)]
        wait_until(
            lambda: subprocess.run(unmount, capture_output=True).returncode == 0,
            "the file system is let go",
        )
        subprocess.run(["losetup", "-d", self.device], check=True)
        self._await_release()

    def _await_release(self) -> None:
        """A copy of the mount in another namespace keeps the file system alive; mounted a second
        time beside that, it would be damaged by the test itself."""
        find = ["losetup", "-j", str(self.image)]
        wait_until(
            lambda: not subprocess.run(find, capture_output=True, timeout=60).stdout,
            f"nothing else holds {self.device}, mounted",
            every=0.1,
        )


@contextmanager
def attached(disk: Disk) -> Iterator[Disk]:
    disk.attach()
    try:
        yield disk
    finally:
        disk.detach()


def disks(folder: Path, kind: str, cuts: int) -> Iterator[tuple[Disk, range]]:
    """New file systems of this kind, each with the numbers of the cuts that it is for; skips the
    test where none can be made or mounted."""
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed (Debian: {PACKAGES[kind]})")
    for first in range(0, cuts, CUTS_A_DISK):
        disk = Disk(folder / f"disk-{first}", folder / f"mount-{first}", kind)
        try:
            with attached(disk):
                pass
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no {kind} can be mounted from a file here: {error}")
        yield disk, range(first, min(first + CUTS_A_DISK, cuts))
        disk.image.unlink()


def note_acked(image: str, sha256: str) -> None:
    """Write to the witness (stdout) that an image was acknowledged; threads and processes may."""
    # In one call: whole, and no other's within it (O_APPEND).
    os.write(1, f"{image} {sha256}\n".encode())


class Witness:
    """A file outside the disk that is cut; the stdout of the program that receives."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, file: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a test's file as a program; what it acknowledges is kept."""
        with self._path.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, file, *words], stdout=out, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    @property
    def acked(self) -> dict[str, str]:
        """The SHA-256 of each acknowledged image, by id. A line is whole, or it was never
        acknowledged."""
        lines = self._path.read_text().split("\n")[:-1] if self._path.exists() else []
        return dict(_pair(line.split()) for line in lines)


def _pair(words: Sequence[str]) -> tuple[str, str]:
    image, sha256 = words
    return image, sha256
