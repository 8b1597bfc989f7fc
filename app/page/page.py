"""The status page and the same facts as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from flask import Flask, Response, request

from app import responses
from app.admission.admission import Gate
from app.http.request import caller
from app.page import words
from app.page.alerts import add_alerts
from app.page.chart import HEIGHT, WIDTH, Range, curves
from app.page.find import add_find
from app.page.fleet import add_fleet
from app.page.pictures import add_pictures
from app.page.render import Renderer
from app.page.runs import add_runs, took
from app.page.wall import QUERY_MAX, Asked, wall
from app.responses import Answer
from headgate.monitor import wording
from headgate.monitor.documents import status_fields
from headgate.monitor.grouping import NAMED, grouped, since
from headgate.monitor.receiver import open_to_all
from headgate.monitor.summary import Place, verdict
from headgate.settings.settings import Settings
from headgate.spool.site.holds import Kind
from headgate.spool.spool import Spool

PHOTO = "docs/photos/china.jpg"
REFRESH_SECONDS = 15
_KEPT = ("q", "group", "show", "range", "page")
"""What links on the page keep of its address."""


def _percent(part: int, whole: int) -> float:
    return 0.0 if whole <= 0 else round(min(100.0, 100 * part / whole), 1)


def _asked(args: Mapping[str, str]) -> Asked:
    """The part of the wall that an address names; what it gets wrong counts as left out."""
    page = args.get("page", "")
    return Asked(
        query=args.get("q", "")[:QUERY_MAX],
        group=args.get("group", "")[:QUERY_MAX],
        urgent_only=args.get("show") == "urgent",
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
    )


def curl(settings: Settings, host: str) -> str:
    """The line that posts a photograph of this repository to the receiver that shows it."""
    usable = re.fullmatch(r"[A-Za-z0-9.\-:\[\]]{1,260}", host)
    where = host if usable else settings.receiver.bind
    return f"curl -F {settings.receiver.field[0]}=@{PHOTO} http://{where}/uploadImage"


def add_pages(app: Flask, gate: Gate, spool: Spool) -> None:
    """``/``, ``/status.json`` and thumbnails."""
    settings = spool.settings
    render = Renderer(settings)
    add_pictures(app, gate, spool, render)
    add_alerts(app, gate, spool, render)
    add_fleet(app, gate, spool, render)
    add_find(app, gate, spool, render)
    add_runs(app, gate, spool, render)

    def place() -> Place:
        return Place(open_to_all(spool), risk=str(spool.risk() or ""))

    @app.get("/status.json")
    def status_json() -> Answer:
        gate.identify_viewer(caller(request.environ))
        facts, here = gate.snapshot(), place()
        response = responses.document(status_fields(facts, verdict(facts, here), settings))
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/")
    def status_page() -> Response:
        gate.identify_viewer(caller(request.environ))
        facts, here = gate.snapshot(), place()
        asked = _asked(request.args)
        range_ = Range.named(request.args.get("range", ""))
        flow = facts.flow
        if range_ is not Range.DAY:
            flow = tuple(spool.catalog.flow(range_.begins(facts.at), range_.step_minutes))
        held = {
            one.subject.name: one.words
            for one in spool.site.holds.all()
            if one.subject.kind is Kind.DEVICE
        }
        kept = {name: request.args.get(name, "")[:QUERY_MAX] for name in _KEPT}
        if "still" in request.args:
            kept["still"] = "1"
        return render(
            "status.html",
            facts.at,
            refresh_seconds=0 if "still" in request.args else REFRESH_SECONDS,
            still="still" in request.args,
            facts=facts,
            place=here,
            verdict=verdict(facts, here),
            budget_percent=_percent(facts.budget.used, facts.budget.budget),
            disk_percent=_percent(facts.disk_bytes - facts.free_bytes, facts.disk_bytes),
            floor_percent=_percent(facts.admission.keep_free_bytes, facts.disk_bytes),
            range=range_,
            ranges=tuple(Range),
            curves=curves(flow, facts.at, 60.0 * facts.budget.rate, range_),
            chart=(WIDTH, HEIGHT),
            backlog=wording.backlog(facts),
            disk_full=wording.disk(facts),
            wall=wall(facts.devices, facts.alerts, spool.site.labels.all(), facts.at, asked, held),
            asked=asked,
            here=partial(words.address, "/", kept),
            curl=curl(settings, request.host),
            took=took,
            groups=grouped(facts.alerts),
            since=since,
            alerts_named=NAMED,
        )
