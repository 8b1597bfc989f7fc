"""The page that finds images by what their receipts say, as ``headgate find`` does."""

from __future__ import annotations

import threading
from functools import partial

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.http.routes import is_ref
from app.page import words
from app.page.render import Renderer
from headgate.monitor import search
from headgate.monitor.search import Misread, Wanted
from headgate.spool.image.image import State
from headgate.spool.query import By, Page
from headgate.spool.spool import Spool

A_PAGE = 50
SEARCHES_MAX = 2
"""Searches in one process at once: of years of receipts one may take seconds, and every other
thread is there for images."""
_FIELDS = ("device", "since", "until", "by", "state", "sequence", "tag")
_TEXT_MAX = 300


def add_find(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/find``."""
    searching = threading.BoundedSemaphore(SEARCHES_MAX)

    @app.get("/find")
    def find() -> Response:
        gate.identify_viewer(caller(request.environ))
        asked = {name: request.args.get(name, "")[:_TEXT_MAX].strip() for name in _FIELDS}
        cursor = request.args.get("cursor", "")
        page, trouble = Page((), more=False), None
        try:
            wanted = Wanted(
                asked["device"],
                asked["since"],
                asked["until"],
                By.CAPTURE if asked["by"] == By.CAPTURE else By.ARRIVAL,
                search.states([asked["state"]] if asked["state"] else ()),
                asked["sequence"],
                tuple(asked["tag"].split(",")),
                cursor if is_ref(cursor) else "",
                A_PAGE,
            )
            if not searching.acquire(blocking=False):
                raise Misread("search", "others are under way; try it again in a moment")
            try:
                page = spool.find(search.query(spool, wanted))
            finally:
                searching.release()
        except Misread as misread:
            trouble = misread
        return render(
            "find.html",
            spool.now(),
            asked=asked,
            page=page,
            trouble=trouble,
            is_first=not cursor,
            states=[state.value for state in State],
            here=partial(words.address, "/find", asked),
        )
