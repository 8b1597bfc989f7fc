"""After an unclean stop: add to the catalog what its files say and its lost rows do not."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk import durable
from headgate.spool.disk.layout import Files, read_metadata, read_reason
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.image.image import Count, Metadata, State
from headgate.spool.image.names import Name
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.gone import Gone


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start found: uploads that were cut off, and images whose rows were lost."""

    cut_off: int = 0
    restored: int = 0


def scan(files: Files, catalog: Catalog, receipts: Receipts, gone: Gone) -> int:
    """Restore the rows of the named minute folders from their files; how many were missing.

    Bounded by the folders that the catalog names: the one that was filled when it stopped, the one
    before, and any in which an accept was still under way.
    """
    restored = 0
    aside = files.names_in(files.aside)
    for folder in catalog.minutes.named():
        arrived: dict[str, int] = {}
        # On disk before it is known: the receiver may have died between its link and its fsync.
        durable.sync_folders({files.new / folder})
        for name in files.names_in(files.new / folder):
            item = catalog.get(name.id)
            if item is None and receipts.get(name.id) is None:
                meta = _metadata(files.in_new(name), name)
                if meta is None:
                    continue
                restored += catalog.restore(name, meta, State.WAITING)
                arrived[name.id] = meta.size
            else:
                arrived[name.id] = item.size if item is not None else 0
        for name in aside:
            if name.folder == folder:
                item = catalog.get(name.id)
                if item is None:
                    path = files.in_aside(name)
                    meta = _metadata(path, name)
                    if meta is None:
                        continue
                    catalog.restore(name, meta, State.SET_ASIDE, error=read_reason(path))
                    arrived[name.id] = meta.size
                else:
                    arrived[name.id] = item.size
        arrived.update(receipts.in_folder(folder))
        arrived.update(gone.in_folder(folder))
        for name in files.names_in(files.done / folder):
            if name.id not in arrived:
                item = catalog.get(name.id)
                size = item.size if item is not None else _size(files.in_done(name))
                if size is not None:
                    arrived[name.id] = size
        catalog.minutes.recount(folder, _count(arrived.values()))
    return restored


def _metadata(path: Path, name: Name) -> Metadata | None:
    """What the file says of itself; None if it cannot be read:
    ``headgate.spool.upkeep.verify`` names such files, and one of them must not keep the others
    waiting."""
    try:
        return read_metadata(path, name)
    except (OSError, DiskError, FileMissing):
        return None


def _size(path: Path) -> int | None:
    """None for what is no file, or is gone."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _count(sizes: Iterable[int]) -> Count:
    known = list(sizes)
    return Count(len(known), sum(known))
