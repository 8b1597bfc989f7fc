"""One round of alerts: evaluate, and send waiting messages. After each run, and from its own line
in cron."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.host import logs
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.spool import Spool
from uploader.alerts import outbox
from uploader.alerts.channel import Channel
from uploader.alerts.evaluate import evaluate
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_LOCK_SECONDS = 2.0
"""Another sender of a check or a message is soon done; the next round is a minute away."""


def tell(spool: Spool, who: str, *, at_work: bool | None = None) -> int:
    """How many messages got out. What cannot get out now stays in the outbox."""
    ways = outbox.channels(spool.settings)
    evaluate(spool, ways, at_work=at_work)
    return let_out(spool, who, ways)


def let_out(spool: Spool, who: str, ways: Sequence[Channel]) -> int:
    """Send what is due; without due messages it neither connects nor takes a lock."""
    alerts = spool.site.alerts
    if not outbox.due(alerts, ways, spool.now()):
        return 0
    try:
        with other_traffic_pacer(spool.uplink, who, _LOCK_SECONDS) as pacer:
            return outbox.send(alerts, ways, pacer, spool.now)
    except (LockHeld, Closed, DiskError) as error:
        logs.get().info("alert.waits", why=str(error))
        return 0


def after_run(spool: Spool) -> None:
    """The round of a run that is about to end. It never fails the run, whatever happens here."""
    try:
        tell(spool, "headgate drain (alerts)", at_work=True)
    except Exception as error:
        logs.get().error("alert.failed", why=f"{type(error).__name__}: {error}")
