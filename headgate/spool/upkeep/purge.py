"""Erases images for good: files, thumbnails, and whatever the books say of them but their number.

Only the holder of the drain lock may do this. The images of a batch are noted first, so that a kill
at any point is made good when the next run begins, or the same purge.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from headgate.spool.disk import durable
from headgate.spool.image import names
from headgate.spool.image.image import Receipt
from headgate.spool.image.names import Name
from headgate.spool.spool import Spool

_PURGING = "purging"
"""The site's memory of the files of a batch, with the sizes of their images."""


def carry_out(spool: Spool, batch: Sequence[Receipt]) -> None:
    """Erase these images here; they are not in the bucket any more, or never were."""
    spool.site.put(_PURGING, [(one.name.file, one.size) for one in batch])
    finish(spool)


def finish(spool: Spool) -> None:
    """Erase those of the note, also after a kill. Each is counted before what counted it goes."""
    noted = spool.site.get(_PURGING)
    if not noted:
        return
    images = sorted((names.parse(file), int(size)) for file, size in noted)
    erase_files(spool, [name for name, _ in images])
    spool.site.gone.purged([(name.id, size) for name, size in images], spool.now())
    for day, some in groupby(images, lambda image: image[0].day):
        spool.withdraw(day, [name.id for name, _ in some])
    spool.catalog.drop([name.id for name, _ in images])
    spool.site.put(_PURGING, None)


def erase_files(spool: Spool, images: Sequence[Name]) -> None:
    """Delete every copy of an image on this disk."""
    folders = set()
    for name in images:
        for path in spool.files.places(name):
            durable.remove(path)
            folders.add(path.parent)
        spool.thumbnails.forget(name.id)
    durable.sync_folders(folders)
