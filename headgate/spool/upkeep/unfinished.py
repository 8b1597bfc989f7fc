"""What a killed program left half done, finished when the next run begins."""

from __future__ import annotations

from headgate.spool.spool import Spool
from headgate.spool.upkeep import holding, purge, reupload, withdrawal


def finish(spool: Spool) -> None:
    """Only under the drain lock."""
    holding.agree(spool)
    withdrawal.finish(spool)
    purge.finish(spool)
    reupload.finish(spool)
