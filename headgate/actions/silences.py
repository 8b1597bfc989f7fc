"""What people do to alerts: silence one for a while, and end that."""

from __future__ import annotations

from datetime import timedelta

from headgate.actions.errors import ActionRefused, understood
from headgate.monitor.rules import BY_CODE
from headgate.settings.units import parse_duration
from headgate.spool.site.alert_history import AlertEvent, EventKind
from headgate.spool.site.alerts import EVERYTHING, Silence
from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import Spool

LONGEST = 30 * 86400


def silence(spool: Spool, by: Actor, what: str, duration: str, reason: str = "") -> Silence:
    """Send no messages about ``what`` for a while: a code, CODE:DEVICE, or all."""
    _require_rule(what)
    if not duration:
        raise ActionRefused("A silence needs a duration, such as 2h.", invalid=True)
    seconds = understood(parse_duration, duration)
    if not 0 < seconds <= LONGEST:
        raise ActionRefused("A silence lasts at most 30d.", invalid=True)
    chosen = Silence(what, spool.now() + timedelta(seconds=seconds), reason)
    said = f"until {chosen.until:%Y-%m-%d %H:%M} UTC" + (f": {reason}" if reason else "")
    with spool.site.together():
        spool.site.alerts.silence(chosen)
        _remember(spool, by, EventKind.SILENCED, what, said)
        spool.site.audit.record(by, Action.SILENCE, spool.now(), what, said)
    return chosen


def end_silence(spool: Spool, by: Actor, what: str) -> None:
    """Messages about ``what`` are sent again."""
    _require_rule(what)
    with spool.site.together():
        if not spool.site.alerts.end_silence(what):
            raise ActionRefused(f"{what} was not silenced", missing=True)
        _remember(spool, by, EventKind.SILENCE_ENDED, what)
        spool.site.audit.record(by, Action.SILENCE_END, spool.now(), what)


def _remember(spool: Spool, by: Actor, kind: EventKind, what: str, said: str = "") -> None:
    code, _, subject = what.partition(":")
    event = AlertEvent(spool.now(), kind, code, subject, said, who=by.name)
    spool.site.alerts.history.record([event])


def _require_rule(what: str) -> None:
    code = what.partition(":")[0]
    if what != EVERYTHING and code not in BY_CODE:
        raise ActionRefused(
            f"there is no alert {code}; use one of {', '.join(BY_CODE)}, or all", invalid=True
        )
