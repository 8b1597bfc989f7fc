"""The Redis server through which gateways lend each other the uplink: whether it can. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.spool.budget.site_timetable import SiteTimetable
from uploader.cli.doctor.findings import Finding, ok, warning


def judge(
    trouble: str | None, floor: str, timetable: SiteTimetable | None = None
) -> Iterator[Finding]:
    """``trouble``: why Redis did not answer, "" if it did; None where no uplink is shared.
    ``timetable``: the site's, where one is known."""
    if trouble:
        yield warning(
            "shared-uplink",
            f"{trouble}: this gateway sends at its floor, {floor}/s, and borrows nothing",
            "start Redis, or correct uplink.shared",
        )
    elif trouble is not None:
        yield ok("shared-uplink", f"Redis answers; {floor}/s are this gateway's own without it")
    if timetable is not None and timetable.differs:
        yield warning(
            "site-timetable",
            f"the timetable in force is from {timetable.gateway}; uplink.timetable here differs",
            f"write what {timetable.gateway} has into uplink.timetable; or change it here, for all",
        )
    elif timetable is not None and timetable.worth_saying:
        yield ok("site-timetable", f"the site's timetable is {timetable.words}")
