"""What a forecast goes by, read from the spool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from headgate.monitor import forecast
from headgate.monitor.forecast import Doubt, Forecast, Outlook
from headgate.settings.settings import Settings
from headgate.spool.budget.uplink import Uplink
from headgate.spool.catalog import traffic
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.site.site import Site

_INTERVALS = 3
"""How many of the last intervals say what comes in and goes out now."""
_OVERDUE_INTERVALS = 2
_RUNS = 50
"""So many are looked through for one that came by itself."""
_START = timedelta(minutes=1)
"""What cron and a run's own start may take."""


class Prospects:
    """One a spool; all who ask are told the same."""

    def __init__(self, settings: Settings, catalog: Catalog, site: Site, uplink: Uplink) -> None:
        self._interval = timedelta(seconds=settings.uplink.interval)
        self._catalog, self._site, self._uplink = catalog, site, uplink

    def forecast(
        self, now: datetime, backlog: Count, room: Count, measured: float | None = None
    ) -> Forecast:
        """``room``: bytes and files above what is kept free, copies that may go included;
        ``measured``: bytes a second that the run that asks sees confirmed."""
        hours = self._catalog.flow(now - traffic.KEEP, 60)
        hour = now.replace(minute=0, second=0, microsecond=0)
        ended = [one for one in hours if one.at < hour]
        return forecast.forecast(self._outlook(now, backlog, room, ended, measured))

    def wait_for_room(self, now: datetime, missing_bytes: int, chance: float) -> int | None:
        """Seconds after which so many bytes will have gone out; None if nothing tells: before the
        first run, or while nothing goes out."""
        if not self._site.runs(1):
            return None
        backlog = self._catalog.totals().waiting
        return forecast.wait_for_room(
            self._outlook(now, backlog, Count(), (), None), missing_bytes, chance
        )

    def _outlook(
        self,
        now: datetime,
        backlog: Count,
        room: Count,
        hours: Sequence[Flow],
        measured: float | None,
    ) -> Outlook:
        minute = now.replace(second=0, microsecond=0)
        minutes = self._catalog.flow(minute - _INTERVALS * self._interval, 1)
        return Outlook(
            now=now,
            waiting=backlog,
            room=room,
            rate_at=self._uplink.rates(),
            minutes=[one for one in minutes if one.at < minute],
            hours=hours,
            doubt=self._doubt(now, at_work=measured is not None),
            measured=measured,
            daily=self._uplink.daily(),
        )

    def _doubt(self, now: datetime, *, at_work: bool) -> Doubt:
        """Whether the next runs can be counted on: one comes by itself, and the last ones confirmed
        what they tried. ``at_work``: a run asks; then only that counts."""
        proof = self._site.proof()
        if at_work:
            return Doubt.NOTHING_CONFIRMED if proof.fruitless_runs else Doubt.NONE
        runs = self._site.runs(_RUNS)
        if not self._comes(runs, now):
            return Doubt.NO_RUN
        ended = next((run for run in runs if run.ended_at is not None), None)
        if ended is not None and ended.outcome is Outcome.UPLINK_DOWN:
            return Doubt.UPLINK_DOWN
        if ended is not None and (
            ended.outcome is Outcome.FAILED
            or (ended.outcome is Outcome.KILLED and not ended.images)
        ):
            return Doubt.RUNS_FAIL
        if proof.fruitless_runs:
            return Doubt.NOTHING_CONFIRMED
        return Doubt.NONE if proof.confirmed_at is not None else Doubt.NEVER_CONFIRMED

    def _comes(self, runs: Sequence[Run], now: datetime) -> bool:
        """Whether another run will come by itself. One by hand makes no schedule."""
        by_itself = [run for run in runs if run.trigger != "hand"]
        heard = max((run.ended_at or run.started_at for run in by_itself), default=None)
        due = _OVERDUE_INTERVALS * self._interval + _START
        if heard is not None and now - heard <= due:
            return True
        return bool(runs) and runs[0].ended_at is None and self._goes_out(now)

    def _goes_out(self, now: datetime) -> bool:
        since = now - self._interval
        return any(one.uploaded.images for one in self._catalog.flow(since, 1))
