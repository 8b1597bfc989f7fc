"""The spool's disk: its file system, journal and barriers, attributes, room. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from headgate.host.mounts import Risk, RiskKind
from headgate.monitor.rules import BY_CODE, DISK_LOW, FREE_INODES, NEARLY_FULL
from headgate.settings.units import human_size
from headgate.spool.disk.room import Admission
from uploader.cli.doctor.findings import Finding, loses, ok, warning

_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space is \040
_MOVE = 'mkfs.ext4 a local disk, mount it, and name it: [spool] path = "..."'


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What is known of the file system that the spool is on."""

    path: str
    kind: str  # "ext4"
    source: str  # "/dev/sda1"
    mounted_at: str
    options: Set[str]  # as in /proc/self/mountinfo, of the mount and of the file system
    risk: Risk | None  # of its kind of file system
    probe_fails: str  # why a write with attributes, flushed and read back, does not work; "" if so
    admission: Admission  # what it has room for
    volatile_cache: bool | None  # whether the disk says that it has one; None: it does not say
    own_mount: bool  # nothing else fills it
    no_attributes: bool = False  # it is the attributes that the probe could not write
    known_in: str = ""  # the file outside it that remembers which spool belongs here
    known_on_itself: bool = False  # that lies on the same disk, and goes missing with it


def judge(disk: DiskFacts) -> Iterator[Finding]:
    """Every way in which this disk would lose what it was given."""
    if disk.probe_fails:
        mend = "touch the folder as the user headgate, and see dmesg | tail"
        if disk.no_attributes:
            mend = _MOVE
        yield loses("disk", f"{disk.path} accepts no image: {disk.probe_fails}", mend)
    else:
        said = "accepts durable writes, with 3.5 KB of attributes"
        yield ok("disk", f"{disk.path} is on {disk.kind} and {said}")
    if disk.risk is not None and disk.risk.kind is RiskKind.UNTESTED:
        yield warning("disk", disk.risk.sentence, _MOVE)
    elif disk.risk is not None:
        journal = f"stop the receiver, umount it, tune2fs -j {disk.source}, mount it"
        mend = journal if disk.risk.kind is RiskKind.NO_JOURNAL else _MOVE
        yield loses("disk", disk.risk.sentence, mend)
    barrier = next((o for o in ("nobarrier", "barrier=0") if o in disk.options), "")
    if barrier:
        yield loses(
            "barriers",
            f"{disk.mounted_at} is mounted with {barrier}: a flush does not reach the disk, and a "
            "power cut loses what was acknowledged",
            f"mount -o remount,barrier=1 {disk.mounted_at}, and take {barrier} out of /etc/fstab",
        )
    elif "data=writeback" in disk.options:
        yield ok("barriers", "data=writeback does not matter: each image is flushed")
    if disk.volatile_cache:
        yield ok("cache", f"{disk.source} has a volatile cache, which each flush empties")
    yield from _room(disk)
    yield from _identity(disk)
    if not disk.own_mount:
        yield warning(
            "disk",
            f"{disk.path} shares its file system with other programs, which may fill it",
            "mount a disk of its own there; until then, keep_free under [spool] is the only "
            "reserve",
        )


def _identity(disk: DiskFacts) -> Iterator[Finding]:
    if disk.known_in and not disk.known_on_itself:
        yield ok("identity", f"which spool belongs here is remembered in {disk.known_in}")
        return
    where = f"only on its own disk ({disk.known_in})" if disk.known_in else "nowhere"
    yield warning(
        "identity",
        f"which spool belongs at {disk.path} is remembered {where}: while the disk is not mounted, "
        "images would be stored in the empty folder below",
        "name the spool in a settings file whose folder its user may write, or let headgate "
        "install make /var/lib/headgate/identities",
    )


def _room(disk: DiskFacts) -> Iterator[Finding]:
    seen = disk.admission
    free = human_size(seen.free_bytes)
    if seen.missing_bytes:
        yield loses(
            "room",
            seen.sentence,
            "headgate drain --until-empty, or free space on it: du -xsh /* | sort -h",
        )
    elif seen.free_bytes < seen.needed_bytes + NEARLY_FULL.wrong * seen.keep_free_bytes:
        low = DISK_LOW.sentence.format(free=free, needed=human_size(seen.needed_bytes))
        yield warning("room", low, f"{DISK_LOW.fix} shows for how long")
    else:
        yield ok("room", f"{free} are free")
    if seen.missing_inodes:
        why = "too few inodes are left: uploads are refused"
        yield loses("inodes", why, "df -i; then delete files")
    elif seen.free_inodes < FREE_INODES.wrong:
        pace = "and each image takes one"
        few = BY_CODE["inodes-soon"].sentence.format(inodes=seen.free_inodes, pace=pace)
        yield warning("inodes", few, "mkfs.ext4 -i 16384 when the disk is made again")
