"""Puts uploaded images back in the queue, so that runs send them to where the settings say now.

Only the holder of the drain lock may do this. The images of a batch are noted first, so that a kill
is made good when the next run begins: at every instant something counts each of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from headgate.spool.disk import durable, xattrs
from headgate.spool.disk.layout import read_metadata
from headgate.spool.image import names
from headgate.spool.image.image import Metadata, Receipt, State
from headgate.spool.spool import Spool

_NOTE = "reuploading"
"""The site's memory of the files of a batch."""


def put_back(spool: Spool, batch: Sequence[Receipt]) -> int:
    """Put images that have a copy in done/ back in the queue; how many."""
    spool.site.put(_NOTE, [one.name.file for one in batch])
    return finish(spool)


def bring_copy(spool: Spool, receipt: Receipt, data: bytes) -> None:
    """Write an image that came from the bucket to where its copy was. DiskError."""
    os.close(durable.make_folder(spool.files.done, receipt.name.folder))
    path = spool.files.in_done(receipt.name)
    durable.write_file(path, data)
    xattrs.set_attribute(path, xattrs.ATTRIBUTE, _known(receipt).encode())


def finish(spool: Spool) -> int:
    """Move the file, add the row, withdraw the receipt; also after a kill."""
    done = 0
    for file in spool.site.get(_NOTE) or ():
        name = names.parse(file)
        receipt = spool.receipts.get(name.id)
        if receipt is None:
            continue
        source, target = spool.files.in_done(name), spool.files.in_new(name)
        if source.exists():
            os.close(durable.make_folder(spool.files.new, name.folder))
            if target.exists():
                durable.remove(source)  # the same name is the same image
            else:
                durable.move(source, target)
            durable.sync_folders({source.parent, target.parent})
        elif not target.exists():
            continue
        xattrs.clear_attribute(target, xattrs.SENT_ATTRIBUTE)
        spool.catalog.reopen(name, read_metadata(target, name), State.WAITING)
        spool.withdraw(name.day, [name.id])
        done += 1
    spool.site.put(_NOTE, None)
    return done


def _known(receipt: Receipt) -> Metadata:
    captured = receipt.captured_at.isoformat() if receipt.captured_at else ""
    return Metadata(
        receipt.sha256,
        receipt.size,
        receipt.media_type,
        captured_at=captured,
        sequence=receipt.sequence,
        key=receipt.key_given,
        tags=receipt.tags,
        remarks=receipt.remarks,
    )
