"""After an unclean stop, of the receiver or of one of its processes: add to the catalog what its
files say and its lost rows do not."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk import durable
from headgate.spool.disk.layout import Files, read_metadata, read_reason, read_sent
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.image.image import Count, Metadata, State
from headgate.spool.image.names import Name
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.gone import Gone, purged_id


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
        found = [(name, State.WAITING) for name in files.names_in(files.new / folder)]
        found += [(name, State.SET_ASIDE) for name in aside if name.folder == folder]
        rows = catalog.minutes.rows(folder)  # most have one: asked once for all of them
        for name, state in found:
            if name.id in rows:
                continue
            if catalog.get(name.id) is None and receipts.get(name.id) is None:
                waits = state is State.WAITING
                path = files.in_new(name) if waits else files.in_aside(name)
                meta = _metadata(path, name)
                if meta is not None:
                    error = "" if waits else read_reason(path)
                    restored += catalog.restore(name, meta, state, error=error)
        restored += _restore_uploaded(folder, files, catalog, receipts, gone)
        # What has a row, a receipt or a line: a run moves images meanwhile, in both directions.
        for _ in range(2):
            arrived.update(receipts.in_folder(folder))
            arrived.update(gone.in_folder(folder))
            arrived.update(catalog.minutes.rows(folder))
        for name in files.names_in(files.done / folder):
            if name.id not in arrived and (size := _size(files.in_done(name))) is not None:
                arrived[name.id] = size
        for ident in [*arrived]:  # a purge that was killed: both of its lines count the image
            if purged_id(ident) in arrived:
                del arrived[ident]
        catalog.minutes.recount(folder, _count(arrived.values()))
    return restored


def _restore_uploaded(
    folder: str, files: Files, catalog: Catalog, receipts: Receipts, gone: Gone
) -> int:
    """Restore the rows of images that a run had proved and moved to done/ when the power went,
    before their receipts: the next run finds each there, and writes its receipt. How many."""
    moved = files.names_in(files.done / folder)
    known = {**receipts.in_folder(folder), **gone.in_folder(folder)}
    restored = 0
    for name in moved:
        if name.id in known:
            continue
        # In this order: a run writes the receipt before it drops the row.
        if catalog.get(name.id) or receipts.get(name.id) or gone.get(name.id):
            continue
        path = files.in_done(name)
        if not _is_proved(path) or receipts.damaged(name.day):
            continue  # verify --repair, which the totals ask for, looks at what it is
        if (meta := _metadata(path, name)) is not None:
            restored += catalog.restore(name, meta, State.WAITING)
    return restored


def _is_proved(path: Path) -> bool:
    """Whether the file says that the bucket confirmed it; what cannot be read says nothing."""
    try:
        return read_sent(path) is not None
    except (OSError, DiskError, FileMissing):
        return False


def adopt(
    files: Files, catalog: Catalog, receipts: Receipts, gone: Gone, folders: Iterable[str]
) -> int:
    """Restore the rows of what a process of the receiver linked into these folders before it died,
    while others go on; how many were missing.

    What another process has just linked, and will add itself, may be among them: its row is there
    a little earlier then, and counts once (``Catalog.add_all``).
    """
    restored = 0
    for folder in folders:
        durable.sync_folders({files.new / folder})
        for name in files.names_in(files.new / folder):
            if catalog.get(name.id) or receipts.get(name.id) or gone.get(name.id):
                continue
            meta = _metadata(files.in_new(name), name)
            if meta is not None:
                restored += catalog.restore(
                    name, meta, State.WAITING, unknown=True, received=True, locked=False
                )
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
    """The size of a file; None for what is no file, or is gone."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _count(sizes: Iterable[int]) -> Count:
    known = list(sizes)
    return Count(len(known), sum(known))
