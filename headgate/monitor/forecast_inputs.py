"""What a forecast is computed from, read from the spool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from headgate.monitor.forecast import Doubt, Outlook
from headgate.monitor.rules import RUN_LATE
from headgate.spool.catalog import traffic
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import NONE, Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool

_INTERVALS = 3
"""How many of the last intervals say what comes in and goes out now."""
_RUNS = 50
"""How many runs are searched for one that a schedule started."""


def outlook(
    spool: Spool,
    now: datetime,
    backlog: Count,
    *,
    room: Count = NONE,
    hours: Sequence[Flow] = (),
    measured: float | None = None,
) -> Outlook:
    """``room``: bytes and files above what is kept free, copies that may go included;
    ``measured``: bytes a second that the run that asks sees confirmed."""
    minute = now.replace(second=0, microsecond=0)
    minutes = spool.catalog.flow(minute - _INTERVALS * _interval(spool), 1)
    return Outlook(
        now=now,
        waiting=backlog,
        room=room,
        rate_at=spool.uplink.rates(),
        minutes=[one for one in minutes if one.at < minute],
        hours=hours,
        doubt=_doubt(spool, now, at_work=measured is not None),
        measured=measured,
        daily=spool.uplink.daily(),
    )


def hours(spool: Spool, now: datetime) -> list[Flow]:
    """What came in and went out in each hour of the last days; not in the present hour."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return [one for one in spool.catalog.flow(now - traffic.KEEP, 60) if one.at < hour]


def _interval(spool: Spool) -> timedelta:
    return timedelta(seconds=spool.settings.uplink.interval)


def _doubt(spool: Spool, now: datetime, *, at_work: bool) -> Doubt:
    """Whether the next runs can be counted on: one comes by itself, and the last ones confirmed
    what they tried. ``at_work``: a run asks; then only the second matters."""
    proof = spool.site.proof()
    if at_work:
        return Doubt.NOTHING_CONFIRMED if proof.fruitless_runs else Doubt.NONE
    runs = spool.site.runs(_RUNS)
    if not _comes(spool, runs, now):
        return Doubt.NO_RUN
    ended = next((run for run in runs if run.ended_at is not None), None)
    if ended is not None and ended.outcome is Outcome.UPLINK_DOWN:
        return Doubt.UPLINK_DOWN
    if ended is not None and (
        ended.outcome is Outcome.FAILED or (ended.outcome is Outcome.KILLED and not ended.images)
    ):
        return Doubt.RUNS_FAIL
    if proof.fruitless_runs:
        return Doubt.NOTHING_CONFIRMED
    return Doubt.NONE if proof.confirmed_at is not None else Doubt.NEVER_CONFIRMED


def _comes(spool: Spool, runs: Sequence[Run], now: datetime) -> bool:
    """Whether another run will come by itself. One by hand makes no schedule."""
    by_itself = [run for run in runs if run.trigger != "hand"]
    heard = max((run.ended_at or run.started_at for run in by_itself), default=None)
    due = timedelta(seconds=RUN_LATE.seconds(spool.settings.uplink.interval))
    if heard is not None and now - heard <= due:
        return True
    return bool(runs) and runs[0].ended_at is None and _goes_out(spool, now)


def _goes_out(spool: Spool, now: datetime) -> bool:
    flow = spool.catalog.flow(now - _interval(spool), 1)
    return any(one.uploaded.images for one in flow)
