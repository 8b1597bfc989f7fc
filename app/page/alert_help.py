"""The page that says what an alert means and what to do, from the text of the docs.

Of Markdown it reads what those texts use: paragraphs, lists, blocks of commands, `code` and links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from flask import Flask, Response, request

from app.admission.admission import Gate
from app.http.request import caller
from app.page.render import Renderer
from app.refusals import Refused
from headgate.monitor import alert_help
from headgate.monitor.rules import BY_CODE
from headgate.spool.spool import Spool

_CODE = re.compile(r"`([^`]+)`")


def add_help(app: Flask, gate: Gate, spool: Spool, render: Renderer) -> None:
    """``/help/<code>``."""

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
