"""Runs that follow one another at once, as only tests let them, wait for no second in between."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.spool.budget import slots
from headgate.spool.budget.ledger import LedgerState, boottime
from headgate.spool.budget.slots import SECOND, DamagedSlots, first_slot
from headgate.spool.budget.uplink import Part
from headgate.spool.disk.locks import Lock
from headgate.spool.errors import LockHeld
from headgate.spool.spool import Spool


def skip_seconds(spool: Spool) -> None:
    """Let the seconds go by that the next run would wait, because bytes of the last one may have
    left in them. Nothing where a program holds the ledger, or it is blocked or damaged: those
    are what tests look at."""
    for part in Part:
        with contextlib.suppress(LockHeld), _lock(spool, part):
            _skip(spool.files.state / part)


def runs_wait_for_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for what runs in this process."""
    monkeypatch.setattr(slots, "first_slot", lambda _charges, blocked_until: blocked_until)


def _lock(spool: Spool, part: Part) -> Lock:
    if part is Part.DRAIN:
        return spool.hold_drain_lock("a test", 0)
    return spool.uplink.hold_rest_lock("a test", 0)


def _skip(path: Path) -> None:
    try:
        state = LedgerState.decode(path.read_bytes())
    except (OSError, DamagedSlots):
        return
    header = state.header
    now = header.base + boottime()
    wait = first_slot(state.charges, 0) * SECOND - now
    if 0 < wait <= 2 * SECOND and header.blocked_until * SECOND <= now:
        header = replace(header, base=header.base + wait, sequence=header.sequence + 1)
        path.write_bytes(replace(state, header=header).encode())
