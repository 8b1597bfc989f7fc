"""The numbers of runs on their way: kept with their own time, sent when the way is open."""

from __future__ import annotations

from headgate.host import logs
from headgate.monitor.collect import snapshot
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.site.metric_points import Point
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from uploader.cloudwatch.metrics import NAMESPACE, data, numbers
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_POINTS = 20
"""In one request; of its 1,000 numbers and 1 MB at most, a quarter and a tenth."""
_REQUESTS = 5
_LOCK_SECONDS = 2.0


def after_run(spool: Spool, run: Run) -> None:
    """Keep this run's numbers, and send what waits. Never fails the run."""
    if spool.settings.alerts.cloudwatch != "on":
        return
    try:
        facts = snapshot(spool, latest=0, runs=1)
        spool.site.points.add(Point(facts.at, numbers(facts, run)))
        send(spool)
    except Exception as error:
        logs.get().error("cloudwatch.failed", why=f"{type(error).__name__}: {error}")


def send(spool: Spool) -> int:
    """How many points were taken; the others wait for the next run."""
    # Imports boto3, which only those pay for who send something.
    from uploader.cloudwatch.client import CloudWatchTrouble, client

    points, site, taken = spool.site.points, spool.settings.site.name, 0
    if not points.oldest(1):
        return 0
    try:
        with other_traffic_pacer(
            spool.uplink, "headgate drain (CloudWatch)", _LOCK_SECONDS
        ) as pacer:
            for _ in range(_REQUESTS):
                if not (batch := points.oldest(_POINTS)):
                    break
                made = [one for point in batch for one in data(point.at, point.numbers, site)]
                try:
                    with client(spool.settings, pacer) as cloudwatch:
                        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=made)
                except CloudWatchTrouble as trouble:
                    logs.get().warning("cloudwatch.waits", why=str(trouble), points=len(batch))
                    if not trouble.permanent:
                        break
                else:
                    taken += len(batch)
                points.drop(batch)
    except (LockHeld, Closed, DiskError) as error:
        logs.get().info("cloudwatch.waits", why=str(error))
    return taken
