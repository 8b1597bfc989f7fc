"""Jobs that wait on disk and that no worker takes: carried out by cron's watch."""

from __future__ import annotations

from datetime import timedelta

from headgate.spool.errors import LockHeld
from headgate.spool.site.jobs import Job
from headgate.spool.spool import Spool
from uploader.run.bounds import RunRequest
from uploader.run.start import AlreadyDone, run

_WORKERS = timedelta(minutes=2)
"""How long a job is the worker's, where there is one."""


def carry_out(spool: Spool) -> int:
    """Run requested drains that no other process takes; how many runs that were.

    Where a run is under way they wait for the next look.
    """
    runs = 0
    while job := _next(spool):
        try:
            run(spool, order_for(job))
        except LockHeld:
            break
        except AlreadyDone:
            continue
        runs += 1
        left = spool.site.jobs.get(job.id)
        if left is not None and left.state == "queued":
            break  # this should not happen, and must not go on forever
    return runs


def order_for(job: Job) -> RunRequest:
    """The run that a job asks for."""
    return RunRequest(
        trigger=job.way,
        sender=job.sender,
        job=job.id,
        device=job.device,
        max_seconds=job.max_seconds,
        max_bytes=job.max_bytes,
    )


def _next(spool: Spool) -> Job | None:
    queue = spool.settings.uplink.trigger == "queue"
    since = spool.now() - (_WORKERS if queue else timedelta(0))
    return next((job for job in spool.site.jobs.queued() if job.asked_at <= since), None)
