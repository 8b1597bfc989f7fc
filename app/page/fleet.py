"""The page of all gateways of a site that share an uplink."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.page.render import Renderer
from app.refusals import Refused
from headgate.monitor.fleet import Fleet
from headgate.monitor.fleet_reports import TIMEOUT_SECONDS, Reports
from headgate.monitor.fleet_words import law, lines, sentence, timetable
from headgate.settings.settings import Settings
from headgate.shared.connection import SharedTrouble
from headgate.shared.impatient import ImpatientCaller
from headgate.spool.spool import Spool

REFRESH_SECONDS = 15
_KEPT_SECONDS = 2.0


class _Reader:
    """Reads the reports for all that look at the page: a Redis that hangs holds one thread of the
    receiver, and for a moment only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._caller = ImpatientCaller(TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._kept: Fleet | None = None
        self._read_at = 0.0

    def read(self) -> Fleet:
        """All gateways, as of two seconds ago at the most. SharedTrouble."""
        with self._lock:
            now = time.monotonic()
            if self._kept is None or now - self._read_at >= _KEPT_SECONDS:
                self._kept = None
                self._kept, self._read_at = self._caller.call(self._ask), now
            return self._kept

    def _ask(self) -> Fleet:
        with closing(Reports(self._settings.uplink.shared, self._settings.site.name)) as reports:
            return reports.read()


def add_fleet(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/fleet``, where gateways share an uplink."""
    reader = _Reader(spool.settings)

    @app.get("/fleet")
    def fleet_page() -> Response:
        gate.identify_viewer(caller(request.environ))
        if not spool.settings.shares_uplink:
            raise Refused("not_found")
        now, trouble, found = spool.now(), "", None
        try:
            found = reader.read()
        except SharedTrouble as error:
            trouble = str(error).rstrip(".")
        return render(
            "fleet.html",
            now,
            status=200 if found is not None else 503,
            refresh_seconds=REFRESH_SECONDS,
            found=found,
            trouble=trouble,
            own=spool.settings.uplink.gateway,
            lines=[] if found is None else lines(found, now),
            timetable="" if found is None else timetable(found),
            law="" if found is None else law(found.totals),
            sentence="" if found is None else sentence(found),
        )
