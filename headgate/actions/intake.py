"""What people do to take a gateway out of service, and back into it."""

from __future__ import annotations

from headgate.spool.site.audit import Action, Actor
from headgate.spool.spool import SAFE_OFF, Spool


def safe_off(spool: Spool, by: Actor, reason: str = "") -> None:
    """Take the gateway out of service: from now on, and after a restart, the receiver accepts no
    image."""
    with spool.site.together():
        if not spool.is_safe_off():
            note = {"at": spool.now().isoformat(), "who": by.name, "reason": reason}
            spool.site.put(SAFE_OFF, note)
        spool.site.audit.record(by, Action.SAFE_OFF, spool.now(), "", reason)


def safe_on(spool: Spool, by: Actor) -> bool:
    """Accept images again; False if they are accepted."""
    with spool.site.together():
        if not spool.is_safe_off():
            return False
        spool.site.put(SAFE_OFF, None)
        spool.site.audit.record(by, Action.SAFE_ON, spool.now())
    return True
