"""What people do to the uplink: pause uploads, resume them, and limit them for a while."""

from __future__ import annotations

from datetime import timedelta

from headgate.actions import controls
from headgate.actions.errors import ActionRefused, understood
from headgate.host import logs
from headgate.settings.units import Percent, parse_duration, parse_percent
from headgate.spool.budget.limit import Limit
from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import Spool

LIMIT_MAX = 7 * 86400


def pause(spool: Spool, by: Actor, duration: str = "", reason: str = "") -> Limit:
    """Send no images until ``resume``, or for a while."""
    seconds = understood(parse_duration, duration) if duration else None
    if seconds == 0:
        raise ActionRefused("A pause lasts at least 1s.", invalid=True)
    until = None if seconds is None else spool.now() + timedelta(seconds=seconds)
    limit = Limit(Percent(0), until, reason)
    _put(spool, by, Action.PAUSE, limit)
    logs.get().info("uploads.paused", until=until and until.isoformat(), reason=reason)
    return limit


def resume(spool: Spool, by: Actor) -> bool:
    """End a pause; False if there was none."""
    if not spool.uplink.cap().is_pause:
        return False
    _put(spool, by, Action.RESUME, None)
    logs.get().info("uploads.resumed")
    return True


def limit(spool: Spool, by: Actor, share: str, duration: str, reason: str = "") -> Limit:
    """Give images a different share of the link for a while."""
    if not duration:
        raise ActionRefused("A limit needs a duration, such as 30min.", invalid=True)
    percent = understood(parse_percent, share)
    seconds = understood(parse_duration, duration)
    if not percent.hundredths:
        raise ActionRefused("0% would send nothing; pause uploads instead.", invalid=True)
    if not 0 < seconds <= LIMIT_MAX:
        raise ActionRefused(
            "A limit lasts at most 7d; for longer, change uplink.share.", invalid=True
        )
    before = spool.uplink.cap().limit
    if before is not None and before.is_pause:
        raise ActionRefused("Uploads are paused; resume them first.")
    chosen = Limit(percent, spool.now() + timedelta(seconds=seconds), reason)
    _put(spool, by, Action.LIMIT, chosen)
    assert chosen.until is not None
    logs.get().info("limit.set", share=str(percent), until=chosen.until.isoformat(), reason=reason)
    return chosen


def end_limit(spool: Spool, by: Actor) -> None:
    """The settings apply again; a pause ends, too."""
    _put(spool, by, Action.LIMIT_END, None)
    logs.get().info("limit.ended")


def _put(spool: Spool, by: Actor, action: Action, limit: Limit | None) -> None:
    detail = ""
    if limit is not None:
        detail = limit.words if limit.is_pause else f"{limit.share} {limit.words}"
    away = controls.exchange(spool)  # what is set now is later than whatever was set elsewhere
    with spool.site.together():
        spool.uplink.set_limit(limit)
        spool.site.audit.record(by, action, spool.now(), "", detail)
    if not away:
        controls.exchange(spool)
