"""What was set for the whole site: offered to the other gateways, and taken over from them."""

from __future__ import annotations

from contextlib import closing

from headgate.host import logs
from headgate.settings.units import human_size
from headgate.shared.connection import SharedTrouble
from headgate.spool.budget.uplink import CONTROLS
from headgate.spool.errors import DiskError
from headgate.spool.spool import Spool

_TIMEOUT_SECONDS = 1.0


def follow(spool: Spool, controls: object) -> None:
    """Take over what another gateway set, if it is newer. What cannot be read is left alone."""
    try:
        if isinstance(controls, dict) and spool.uplink.follow(controls):
            rate = spool.uplink.site_cap().rate
            logs.get().info("limit.followed", of=controls["gateway"], rate=human_size(rate))
    except (KeyError, TypeError, ValueError, DiskError) as error:
        logs.get().warning("limit.unreadable", why=str(error))


def exchange(spool: Spool) -> str:
    """Offer what is set here to the other gateways at once, and take over what is newer there; why
    that was not possible, or "". Nothing to do where no uplink is shared."""
    if not spool.settings.shares_uplink:
        return ""
    from headgate.shared import controls  # where an uplink is shared alone
    from headgate.shared.impatient import ImpatientCaller

    url, site = spool.settings.uplink.shared, spool.settings.site.name
    mine = spool.site.get(CONTROLS)
    try:
        with closing(ImpatientCaller(2 * _TIMEOUT_SECONDS)) as caller:
            newest = caller.call(
                lambda: controls.exchange(url, site, mine, timeout_seconds=_TIMEOUT_SECONDS)
            )
    except SharedTrouble as trouble:
        logs.get().warning("limit.not-shared", why=str(trouble))
        return str(trouble)
    follow(spool, newest)
    return ""
