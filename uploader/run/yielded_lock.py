"""The drain lock for a person who moves images: the run under way makes room."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from headgate.spool.disk.locks import Lock
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool
from uploader.run.drain import YIELD

WAIT_SECONDS = 30.0


@contextlib.contextmanager
def yielded_lock(spool: Spool, who: str) -> Iterator[Lock]:
    """LockHeld if the run does not end in time: one that a person started does not yield."""
    try:
        lock = spool.hold_drain_lock(who, 0)
    except LockHeld:
        spool.site.add_request(YIELD, "", spool.now())
        lock = spool.hold_drain_lock(who, WAIT_SECONDS)
    with lock:
        yield lock
