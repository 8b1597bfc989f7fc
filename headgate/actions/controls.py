"""What was set for the whole site: offered to the other gateways, and taken over from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from headgate.host import logs
from headgate.settings.units import human_size
from headgate.shared.connection import SharedTrouble
from headgate.shared.controls import Record, Records
from headgate.spool.budget import site_timetable
from headgate.spool.budget.uplink import CONTROLS
from headgate.spool.errors import DiskError
from headgate.spool.spool import Spool

_TIMEOUT_SECONDS = 1.0


def known(spool: Spool) -> dict[Record, Any]:
    """The newest that this gateway knows."""
    found = {Record.LIMIT: CONTROLS, Record.TIMETABLE: site_timetable.TIMETABLE}
    return {record: spool.site.get(name) for record, name in found.items()}


def notice_settings(spool: Spool) -> None:
    """Make a change of this gateway's ``uplink.timetable`` the site's. Only for a command that has
    just read its settings."""
    uplink = spool.settings.uplink
    if spool.settings.shares_uplink and site_timetable.notice(
        spool.site, uplink.timetable, uplink.gateway, spool.now()
    ):
        logs.get().info("timetable.changed", entries=len(uplink.timetable))


def follow(spool: Spool, newest: Records) -> None:
    """Take over what another gateway set, if it is newer. What cannot be read is left alone."""
    limit, timetable = newest[Record.LIMIT], newest[Record.TIMETABLE]
    try:
        if isinstance(limit, Mapping) and spool.uplink.follow(limit):
            rate = spool.uplink.site_cap().rate
            logs.get().info("limit.followed", of=limit["gateway"], rate=human_size(rate))
    except (KeyError, TypeError, ValueError, DiskError) as error:
        logs.get().warning("limit.unreadable", why=str(error))
    try:
        if timetable is None:
            uplink = spool.settings.uplink
            site_timetable.begin(spool.site, uplink.timetable, uplink.gateway, spool.now())
        elif isinstance(timetable, Mapping) and site_timetable.follow(spool.site, timetable):
            logs.get().info("timetable.followed", of=timetable["gateway"])
    except (KeyError, TypeError, ValueError, DiskError) as error:
        logs.get().warning("timetable.unreadable", why=str(error))


def exchange(spool: Spool) -> str:
    """Offer what is set here to the other gateways at once, and take over what is newer there; why
    that was not possible, or "". Nothing to do where no uplink is shared."""
    if not spool.settings.shares_uplink:
        return ""
    from headgate.shared import controls  # where an uplink is shared alone
    from headgate.shared.impatient import ImpatientCaller

    url, site = spool.settings.uplink.shared, spool.settings.site.name
    mine = known(spool)
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
