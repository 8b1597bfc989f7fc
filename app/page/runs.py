"""The page of the last runs, as ``headgate runs`` lists them."""

from __future__ import annotations

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.page.render import Renderer
from headgate.settings.units import human_duration
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool

SHOWN = 200


def took(run: Run) -> str:
    """How long a run took, in words."""
    if run.ended_at is None:
        return "running"
    return human_duration((run.ended_at - run.started_at).total_seconds())


def add_runs(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/runs``."""

    @app.get("/runs")
    def runs() -> Response:
        gate.identify_viewer(caller(request.environ))
        return render("runs.html", spool.now(), runs=spool.site.runs(SHOWN), took=took)
