"""One round of alerts: evaluate, and send waiting messages. After each run, and from its own line
in cron."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.host import logs
from headgate.monitor.checks import Signs
from headgate.spool.budget.uplink import Uplink
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.site.alerts import Alerts
from headgate.spool.spool import Spool
from uploader.alerts import outbox
from uploader.alerts.channel import Channel
from uploader.alerts.evaluate import evaluate, look
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_LOCK_SECONDS = 2.0
"""Another sender of a check or a message is soon done; the next round is a minute away."""


def tell(spool: Spool, who: str, *, at_work: bool | None = None) -> int:
    """How many messages got out. What cannot get out now stays in the outbox."""
    ways = outbox.channels(spool.settings)
    judge(spool, ways, at_work=at_work)
    return let_out(spool.site.alerts, spool.uplink, who, ways)


def judge(spool: Spool, ways: Sequence[Channel], *, at_work: bool | None = None) -> Signs:
    """Look at everything, and put what is to be said into the outbox; what was seen. ``at_work``:
    the caller is a run; None: look whether there is one."""
    signs = look(spool, ways, at_work=at_work)
    evaluate(signs, spool.settings.site.name, spool.site.alerts, ways)
    return signs


def let_out(alerts: Alerts, uplink: Uplink, who: str, ways: Sequence[Channel]) -> int:
    """Send what is due; without due messages it neither connects nor takes a lock."""
    if not outbox.due(alerts, ways, uplink.now()):
        return 0
    try:
        with other_traffic_pacer(uplink, who, _LOCK_SECONDS) as pacer:
            return outbox.send(alerts, ways, pacer, uplink.now)
    except (LockHeld, Closed, DiskError) as error:
        logs.get().info("alert.waits", why=str(error))
        return 0


def after_run(spool: Spool) -> None:
    """The round of a run that is about to end. It never fails the run, whatever happens here."""
    try:
        tell(spool, "headgate drain (alerts)", at_work=True)
    except Exception as error:
        logs.get().error("alert.failed", why=f"{type(error).__name__}: {error}")
