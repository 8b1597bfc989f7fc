"""Makes receipts of an older version fast to search, one day at a time."""

from __future__ import annotations

from headgate.spool.spool import Spool

_LEFT = "receipts.unindexed.2"
"""The site's memory of the days without indexes: each new day has them from its start. The number
in its name changes with each new index, so that every day gets it."""


def add_to_one_day(spool: Spool) -> str:
    """Add the search indexes to one day that lacks them; only under the drain lock. Which day, ""
    if all have them: 2.88 million rows take seconds."""
    days = spool.site.get(_LEFT)
    if days is None:
        days = spool.receipts.days()
    day = days.pop() if days else ""
    if day:
        spool.receipts.add_search_indexes(day)
    spool.site.put(_LEFT, days)
    return day
