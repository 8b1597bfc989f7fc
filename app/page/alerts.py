"""The pages of alerts: what became of them, and what each means and what to do.

Of Markdown it reads what the texts of the docs use: paragraphs, lists, blocks of commands, `code`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller, cursor
from app.page.render import Renderer
from app.refusals import Refused
from headgate.monitor import alert_help, devices
from headgate.monitor.grouping import grouped, since
from headgate.monitor.rules import BY_CODE
from headgate.spool.spool import Spool

A_PAGE = 100
_CODE = re.compile(r"`([^`]+)`")


def add_alerts(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/alerts`` and ``/help/<code>``."""

    @app.get("/alerts")
    def alerts_page() -> Response:
        gate.identify_viewer(caller(request.environ))
        code, before = request.args.get("code", ""), cursor(request.args.get("before", ""))
        code = code if code in BY_CODE else ""
        found = spool.site.alerts.history.entries(code=code, limit=A_PAGE + 1, cursor=before)
        return render(
            "alerts.html",
            spool.now(),
            groups=grouped(devices.alerts(spool.site)),
            events=found[:A_PAGE],
            code=code,
            rules=BY_CODE,
            more=found[A_PAGE - 1].number if len(found) > A_PAGE else None,
            since=since,
        )

    @app.get("/help/<code>")
    def help_page(code: str) -> Response:
        gate.identify_viewer(caller(request.environ))
        text, rule = alert_help.sections().get(code), BY_CODE.get(code)
        if text is None or rule is None:
            raise Refused("not_found")
        return render("help.html", spool.now(), code=code, rule=rule, blocks=blocks(text))


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph or a list, each of whose lines is text and code in turn; or commands."""

    kind: Literal["text", "list", "commands"]
    lines: tuple[tuple[str, ...], ...]


def blocks(text: str) -> list[Block]:
    """One section, read."""
    found = []
    for block in re.split(r"\n\n+(?=[^ ])", text):
        if block.startswith("```"):
            typed = tuple((line.removeprefix("$ "),) for line in block.split("\n")[1:-1])
            found.append(Block("commands", typed))
        elif block.startswith("- "):
            items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
            found.append(Block("list", tuple(map(_parts, items))))
        else:
            found.append(Block("text", (_parts(block),)))
    return found


def _parts(text: str) -> tuple[str, ...]:
    """Text and code in turn; a line break of the source is a space."""
    return tuple(_CODE.split(" ".join(text.split())))
