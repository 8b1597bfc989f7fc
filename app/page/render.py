"""One page of HTML from its template, with what all of them need."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response, render_template

from app.page import words
from app.page.placeholder import WIDTH_OF_NOT_YET
from headgate.settings.instants import rfc3339
from headgate.settings.settings import Settings
from headgate.settings.units import counted, human_duration, human_size
from headgate.spool.image.names import device_shown

RENEW_SECONDS = 5
"""With a script, which fetches only what changed."""
PICTURES_SECONDS = 30
"""With a script, between two pictures of one camera: each new one has to be decoded."""
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Renderer:
    """Renders the pages of one receiver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(
        self, template: str, now: datetime, *, status: int = 200, refresh_seconds: int = 0,
        still: bool = False, **more: Any,
    ) -> Response:  # fmt: skip
        """``refresh_seconds`` 0: it does not renew itself; ``still``: and runs no script."""
        text = render_template(
            template,
            now=now,
            settings=self._settings,
            refresh_seconds=refresh_seconds,
            renew_seconds=RENEW_SECONDS,
            pictures_seconds=PICTURES_SECONDS,
            scripts=not still,
            not_yet=WIDTH_OF_NOT_YET,
            size=human_size,
            counted=counted,
            shown=device_shown,
            duration=human_duration,
            ago=words.ago(now),
            utc=words.utc,
            coarse=words.coarse,
            clock=words.clock,
            short_clock=words.short_clock,
            minute_clock=words.minute_clock,
            zone=words.zone,
            path=words.path,
            typed=words.typed,
            iso=rfc3339,
            **more,
        )
        response = Response(text, status=status, content_type="text/html; charset=utf-8")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = _POLICY
        return response
