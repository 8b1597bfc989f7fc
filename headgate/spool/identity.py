"""Which spool belongs at a path: its identity, remembered outside it.

Where a disk is not mounted, the folder below its mount point is empty, and a fresh spool there
would hide what is acknowledged into it once the disk is back, and know no device's token. So a
spool has an identity of its own, ``identity``, that is remembered where the disk is not:

1. in ``/var/lib/headgate/identities/``, which an installation makes;
2. next to the settings file; these two if one is in use, and no flag names the spool;
3. next to the spool's folder, which helps where the disk is mounted at the spool itself.

The first of them that may be written is used; all are read. Entries are kept by path, so that two
spools on one machine are two. A spool that was moved or restored to another path is itself there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from headgate.host import mounts
from headgate.settings.settings import Settings
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError, SpoolElsewhere

INSTALLED = Path("/var/lib/headgate/identities")
"""Made by tmpfiles.d and by ``headgate install``, for both users."""
ADOPT = "headgate spool adopt"
FILE = "identity"
"""In the spool's own folder, so that it outlives the state, which can be rebuilt."""


@dataclass(frozen=True, slots=True)
class RememberedSpool:
    """What is remembered of the spool at a path."""

    path: str
    identity: str
    since: str
    source: str = ""  # what was mounted there: "/dev/sdb1"
    mounted_at: str = ""

    @property
    def name(self) -> str:
        """A short name for people."""
        return self.identity[:8]


def _places(settings: Settings) -> Iterator[Path]:
    digest = hashlib.sha256(os.fsencode(settings.spool.path)).hexdigest()[:16]
    # A path that only this call names (an upgrade's trial, a test) is nothing to keep for good.
    if settings.file is not None and settings.origin.get("spool.path") != "flag":
        yield INSTALLED / f"{digest}.json"
        yield settings.file.absolute().parent / f".headgate-spool-{digest}.json"
    yield settings.spool.path.parent / f".headgate-spool-{digest}.json"


def remembered(settings: Settings) -> tuple[RememberedSpool, Path] | None:
    """The spool that belongs at this path, and the file that says so; None if none was there."""
    for file in _places(settings):
        with contextlib.suppress(OSError, ValueError, TypeError):
            entry = RememberedSpool(**json.loads(file.read_text(encoding="utf-8")))
            if entry.path == str(settings.spool.path) and entry.identity:
                return entry, file
    return None


def identity_of(root: Path) -> str:
    """The identity of the spool that is there; empty if it has none."""
    try:
        return (root / FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def check(settings: Settings) -> None:
    """SpoolElsewhere if another spool, or none, is where one is known to be."""
    known = remembered(settings)
    if known is None:
        return
    entry, file = known
    root = settings.spool.path
    found = identity_of(root)
    if found == entry.identity:
        return
    if found:
        what = f"{root} holds another spool ({found[:8]}) than the one that belongs there"
    elif (root / "state").exists():
        what = f"the spool at {root} has no identity, so it is not the one that belongs there"
    else:
        what = f"there is no spool at {root}, and there was one"
    mount = entry.mounted_at
    disk = f"{entry.source}, which was mounted at {mount}" if mount not in ("", "/") else "its disk"
    raise SpoolElsewhere(
        f"{what} ({entry.name}, known since {entry.since[:10]}, remembered in {file}): nothing is "
        f"received or sent, because images would be taken into the wrong place. Mount {disk}"
        f"{f' (mount {mount})' if mount not in ('', '/') else ''} and start again. Only if that "
        f"spool is gone for good: {ADOPT}"
    )


def settle(settings: Settings, now: datetime) -> None:
    """Give the spool an identity if it has none, and remember it. What cannot be written is left
    for the next time: doctor tells of it."""
    root = settings.spool.path
    with contextlib.suppress(DiskError):
        if not (identity := identity_of(root)):
            identity = str(uuid.uuid4())
            durable.write_file(root / FILE, f"{identity}\n".encode())
        if remembered(settings) is None:
            _remember(settings, _entry(root, identity, now))


def _entry(root: Path, identity: str, now: datetime) -> RememberedSpool:
    mount = mounts.mount_of(root)
    since = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return RememberedSpool(str(root), identity, since, mount.source, mount.point)


def _remember(settings: Settings, entry: RememberedSpool) -> None:
    data = (json.dumps(asdict(entry), indent=2) + "\n").encode()
    for file in _places(settings):
        try:
            durable.write_file(file, data)
        except DiskError:
            continue
        return


def forget(settings: Settings) -> list[Path]:
    """Whatever belonged at this path: the spool that is there now may. What was forgotten;
    DiskError if that could not be removed."""
    return [file for file in _places(settings) if durable.remove(file)]


@dataclass(frozen=True, slots=True)
class Memory:
    """How well a spool is known, for doctor."""

    identity: str = ""
    file: str = ""  # where it is remembered; empty: nowhere
    on_its_own_disk: bool = False  # so both would be missing together


def memory(settings: Settings) -> Memory:
    """How well the spool that is there is known."""
    known = remembered(settings)
    if known is None:
        return Memory(identity_of(settings.spool.path))
    entry, file = known
    with contextlib.suppress(OSError):
        disk = settings.spool.path.stat().st_dev
        apart = file.stat().st_dev != disk or disk == os.stat("/").st_dev
        return Memory(entry.identity, str(file), not apart)
    return Memory(entry.identity, str(file))
