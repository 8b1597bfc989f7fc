"""What kind of file system the spool is on, and what is unsafe about it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MEMORY = {"tmpfs", "ramfs"}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"}
_KNOWN = {"ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs"}
_SYSTEM = frozenset(
    (
        "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/opt", "/proc",
        "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local",
        "/usr/share", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool",
        "/var/tmp",
    )
)  # fmt: skip
"""Folders that everything else lies in: no spool is made of one."""
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space is \040; nothing but ASCII is escaped


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system (proc_pid_mountinfo(5)); ``options`` are the mount's and its own."""

    point: str = ""
    kind: str = ""
    source: str = ""
    options: frozenset[str] = frozenset()


def mount_of(path: Path, mountinfo: str | None = None) -> Mount:
    """The mount that holds ``path``, the last one where several lie upon each other; an empty one
    where the kernel does not say."""
    if mountinfo is None:
        try:
            mountinfo = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
        except OSError:
            return Mount()
    best = Mount()
    text = os.path.realpath(path)
    for line in mountinfo.split("\n"):
        left, found, right = line.partition(" - ")
        if not found:
            continue
        fields = left.split(" ")
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        kind, source, own = right.split(" ")[:3]
        inside = text == point or text.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best.point):
            options = frozenset(fields[5].split(",")) | frozenset(own.split(","))
            best = Mount(point, kind, source, options)
    return best


def _has_journal(source: str) -> bool:
    """Whether this mounted ext4 has one; True where the kernel does not say."""
    task = Path("/sys/fs/ext4", Path(os.path.realpath(source)).name, "journal_task")
    try:
        return task.read_text().strip() != "<none>"  # the kernel's fs/ext4/sysfs.c
    except OSError:
        return True


class RiskKind(StrEnum):
    """Why a file system may not keep what it acknowledged."""

    UNKNOWN = "unknown"
    MEMORY = "memory"
    NETWORK = "network"
    NO_JOURNAL = "no journal"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Risk:
    """Why an acknowledgement may not survive a power cut here, and what to do."""

    kind: RiskKind
    sentence: str
    fix: str = ""

    def __str__(self) -> str:
        return "; ".join(part for part in (self.sentence, self.fix) if part)


def risk(path: Path) -> Risk | None:
    """What is unsafe about the file system of this folder; None if nothing is."""
    mount = mount_of(path)
    kind = mount.kind
    if not mount.point:
        why = "the kind of file system is unknown (no /proc): a power cut may lose images"
        return Risk(RiskKind.UNKNOWN, why)
    if kind in _MEMORY:
        why = f"{path} is on {kind}, in memory: a power cut or reboot loses every image in it"
        return Risk(RiskKind.MEMORY, why)
    if kind in _NETWORK or kind.startswith("nfs"):
        why = f"{path} is on {kind}, over the network: locks and flushes may not hold"
        return Risk(RiskKind.NETWORK, why, "use a local disk")
    if kind == "ext4" and not _has_journal(mount.source):
        why = f"{path} is on ext4 without a journal: a power cut may lose images"
        return Risk(RiskKind.NO_JOURNAL, why, "add one with tune2fs -j")
    if kind not in _KNOWN:
        why = f"{path} is on {kind or 'an unknown file system'}, where power cuts were not tested"
        return Risk(RiskKind.UNTESTED, why)
    return None


_CHOOSE = "give the spool a folder of its own in spool.path"


def of_the_system(path: str) -> str:
    """Why no spool may be made of this folder, by its name alone; empty if one may."""
    clean = os.path.normpath(path)
    if clean not in _SYSTEM:
        return ""
    return f"{clean} is a folder of the system: {_CHOOSE}, as {clean.rstrip('/')}/headgate"


def foreign(path: Path, own: tuple[str, ...]) -> str:
    """Why no spool may be made of this folder: it holds other things than a spool's (``own``).
    Empty if one may, or if there is no such folder."""
    try:
        others = sorted(set(os.listdir(path)) - {*own, "lost+found"})
    except OSError:
        return ""
    if not others:
        return ""
    shown = ", ".join(repr(name) for name in others[:3])
    return f"{path} holds other files than a spool's ({shown}): {_CHOOSE}"
