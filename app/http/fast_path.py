"""In front of Flask: uploads, which are nearly all requests, are answered without its dispatch.

Flask's request, response and routing cost as much as receiving a small image (docs/PERFORMANCE.md).
Everything else, and every other method of the same addresses, is Flask's; refusals and mistakes
become answers in the one place that does that for Flask as well (``app.http.error_responses``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from app.http import request
from app.http.error_responses import Troubles
from app.http.metrics import Metrics
from app.refusals import Refused
from app.responses import Answer, mark
from app.upload.request import UploadRequest
from headgate.host.logs import get as get_log
from headgate.spool.disk.cpu_turns import CpuTurns

RAW_ALLOWED = {"/uploadImage": False, "/images": True}
"""The addresses of uploads, and whether the body may be the image itself."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Front:
    """A WSGI application around Flask's own."""

    def __init__(
        self,
        flask: Wsgi,
        receive: Callable[[UploadRequest], Answer],
        note_refused: Callable[[str], None],
        cpu_turns: CpuTurns,
        metrics: Metrics,
        troubles: Troubles,
    ) -> None:
        self._flask = flask
        self._receive = receive
        self._note_refused = note_refused
        self._cpu_turns = cpu_turns
        self._metrics = metrics
        self._troubles = troubles
        self._log = get_log().bind()  # bound once: a line that is not wanted costs nothing

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        raw_allowed = RAW_ALLOWED.get(environ["PATH_INFO"])
        if raw_allowed is None or environ["REQUEST_METHOD"] != "POST":
            return self._flask(environ, start_response)
        with self._cpu_turns:
            return self._upload(environ, raw_allowed)(environ, start_response)

    def _upload(self, environ: dict[str, Any], raw_allowed: bool) -> Answer:
        began = time.monotonic()
        try:
            answer = self._receive(request.upload(environ, raw_allowed))
            self._metrics.acknowledged(time.monotonic() - began)
        except Exception as error:
            if not isinstance(error, Refused) or error.refusal.counts:
                self._note_refused(error.refusal.code if isinstance(error, Refused) else "internal")
            path, peer = environ["PATH_INFO"], environ.get("REMOTE_ADDR", "")
            answer = self._troubles.answer(error, path, peer)
        mark(answer.headers)
        self._log.debug(
            "upload.answered",
            status=answer.status_code,
            seconds=round(time.monotonic() - began, 4),
            peer=environ.get("REMOTE_ADDR", ""),
        )
        return answer
