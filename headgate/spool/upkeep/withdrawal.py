"""Withdraws the receipts of images that the bucket confirmed and lost, and that have no copy here.

Each gets a line among the lost first, and its receipt goes last: a kill in between leaves a note by
which the next run finishes. Only the holder of the drain lock may do this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from headgate.spool.image import names
from headgate.spool.image.image import Item, Receipt, State
from headgate.spool.site.gone import Stage
from headgate.spool.spool import Spool

_LOSING = "losing"  # the site's memory of images whose receipts are being withdrawn


def lose(spool: Spool, receipts: Sequence[Receipt], now: datetime) -> None:
    """Withdraw the receipts of images that are neither in the bucket nor here."""
    spool.site.put(_LOSING, [one.id for one in receipts])
    for one in receipts:
        reason = (
            f"the bucket {one.bucket} confirmed it and does not hold it any more, as {one.key}, "
            "and its copy here was pruned"
        )
        item = Item(
            one.name, one.sha256, one.size, State.UPLOADED,
            key=one.key_given, sequence=one.sequence,
        )  # fmt: skip
        spool.site.gone.lose(item, now, reason)
    finish(spool)


def finish(spool: Spool) -> None:
    """Withdraw the receipts of images that have their line among the lost, also after a kill."""
    for ident in spool.site.get(_LOSING) or ():
        line = spool.site.gone.get(ident)
        if line is not None and line.stage is Stage.LOST:
            spool.withdraw(names.parse(f"{line.id}.{line.ext}").day, [ident])
    spool.site.put(_LOSING, None)
