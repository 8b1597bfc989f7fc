"""Which other gateways of the site have fallen silent, of those that this one is to report: who
notices first reports one, and goes on doing so, so that there is one message and not one from each.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime

from headgate.host import logs
from headgate.monitor.fleet_reports import TIMEOUT_SECONDS, Reports
from headgate.settings.instants import read_rfc3339, rfc3339
from headgate.shared.connection import SharedTrouble
from headgate.shared.impatient import ImpatientCaller
from headgate.spool.spool import Spool

_KNOWN = "silent_gateways"
"""The site's memory of what the last look found, for a look that cannot reach Redis."""


def silent_gateways(spool: Spool) -> Mapping[str, datetime]:
    """When each of them last reported. While Redis is away nothing begins, and nothing ends."""
    uplink, known = spool.settings.uplink, spool.site.get(_KNOWN) or {}

    def ask() -> dict[str, datetime]:
        with closing(Reports(uplink.shared, spool.settings.site.name)) as reports:
            return reports.take_silent(uplink.gateway)

    try:
        with closing(ImpatientCaller(TIMEOUT_SECONDS)) as caller:
            found = caller.call(ask)
    except SharedTrouble as trouble:
        logs.get().warning("fleet.unread", reason=str(trouble))
        read = {name: read_rfc3339(at) for name, at in known.items()}
        return {name: at for name, at in read.items() if at is not None}
    noted = {name: rfc3339(at) for name, at in found.items()}
    if noted != known:
        spool.site.put(_KNOWN, noted or None)
    return found
