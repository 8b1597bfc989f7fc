"""Reads the spool for monitoring: the snapshot of the site, forecasts, and what starts runs."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta

from headgate.host import set_clock
from headgate.monitor import devices, forecast_inputs
from headgate.monitor import forecast as estimates
from headgate.monitor.forecast import Forecast
from headgate.monitor.snapshot import Snapshot, TriggerFacts
from headgate.spool.image.image import Count, State
from headgate.spool.site.confirmation import confirmation
from headgate.spool.site.triggers import KINDS, Fired
from headgate.spool.spool import RETRY, Inventory, Spool


def snapshot(spool: Spool, latest: int = 20, runs: int = 10) -> Snapshot:
    """Everything at one instant; its cost does not grow with the backlog. ``latest`` 0 leaves out
    what only a page shows: images, and the flow of the last day."""
    now = spool.now()
    images = spool.inventory()
    oldest = spool.catalog.backlog.oldest_waiting()
    free, size, inodes = spool.free()
    return Snapshot(
        **{state.name: getattr(images, state.name) for state in fields(images)},
        at=now,
        oldest_waiting_at=None if oldest is None else oldest.name.received_at,
        latest=tuple(spool.images(None, latest)),
        runs=spool.site.runs(runs),
        budget=spool.uplink.budget(),
        free_bytes=free,
        disk_bytes=size,
        free_inodes=inodes,
        clocks_off=tuple(spool.catalog.clocks_off(now - timedelta(days=1), 5)),
        oldest_attempts=0 if oldest is None else oldest.attempts,
        oldest_due_at=spool.catalog.backlog.oldest_due_at(now),
        last_success_at=spool.site.last_success_at(),
        proof=spool.site.proof(),
        run_totals=spool.site.run_totals(),
        devices=devices.devices(
            spool.catalog, spool.site, now, spool.settings.alerts.device_silent
        ),
        aside=tuple(spool.images(State.SET_ASIDE, latest)),
        asked=tuple(one.image for one in spool.site.requests() if one.word == RETRY),
        flow=devices.last_day(spool.catalog, now) if latest else (),
        alerts=devices.alerts(spool.site),
        triggers=triggers(spool),
        forecast=_forecast(spool, now, images, None),
        admission=spool.admission(),
        clock_behind=set_clock.behind(now, spool.newest_known_at()),
        refused=spool.refused_lately(now),
        confirmation=confirmation(spool.site, spool.settings),
    )


def forecast(spool: Spool, measured: float | None = None) -> Forecast:
    """When no image waits any more and when the disk is full, the same for everyone who asks.
    ``measured``: bytes a second that the run that asks sees confirmed."""
    return _forecast(spool, spool.now(), spool.inventory(), measured)


def _forecast(spool: Spool, now: datetime, images: Inventory, measured: float | None) -> Forecast:
    disk = spool.disk()
    free = Count(disk.free_inodes, disk.free_bytes - disk.keep_free_bytes)
    return estimates.forecast(
        forecast_inputs.outlook(
            spool,
            now,
            images.waiting + images.sending,
            room=free + images.uploaded_local,  # copies are deleted before anything is refused
            hours=forecast_inputs.hours(spool, now),
            measured=measured,
        )
    )


def wait_for_room(spool: Spool, missing_bytes: int, chance: float) -> int | None:
    """Seconds after which this many bytes will have gone out; None if that cannot be known:
    before the first run, or while nothing goes out."""
    if not spool.site.runs(1):
        return None
    waiting = spool.catalog.totals().waiting
    outlook = forecast_inputs.outlook(spool, spool.now(), waiting)
    return estimates.wait_for_room(outlook, missing_bytes, chance)


def triggers(spool: Spool) -> tuple[TriggerFacts, ...]:
    """Every trigger that is set up or ever fired, in the order of ``KINDS``."""
    settings, known = spool.settings, spool.site.triggers.all()
    queue = settings.uplink.trigger == "queue"
    interval = settings.uplink.interval
    every = {"cron": settings.queue.floor if queue else interval}
    if queue:
        every["queue"] = interval
    found = []
    for kind in KINDS:
        one = known.get(kind, Fired())
        if kind in every or one.at is not None:
            found.append(
                TriggerFacts(
                    kind=kind,
                    configured=kind in every or kind in ("http", "hand"),
                    every_seconds=every.get(kind),
                    last_at=one.at,
                    sender=one.sender,
                    expected_since=one.expected_since,
                )
            )
    return tuple(found)
