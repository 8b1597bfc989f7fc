"""What an exception is answered with, and what the log says of it: one rule for Flask and front."""

from __future__ import annotations

from werkzeug.exceptions import HTTPException

from app import responses
from app.http.metrics import Metrics
from app.refusals import Refused
from app.responses import Answer
from headgate.host.logs import get as get_log

PATH_MOST = 200
"""Characters of an address in the log: a client may send tens of thousands."""


class Troubles:
    """Refusals are answered as they are; of anything else only the log has the cause."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = get_log()

    def answer(self, error: Exception, path: str, peer: str) -> Answer:
        """The answer to a request of ``path`` that ended in ``error``."""
        path = path[:PATH_MOST]
        if isinstance(error, Refused):
            self._log.info(
                "request.refused",
                code=error.refusal.code,
                path=path,
                peer=peer,
                reason=error.sentence,
            )
            return self._refusal(error)
        if isinstance(error, HTTPException):
            status = error.code or 500
            if status == 404:
                return self._refusal(Refused("not_found"))
            if status == 405:
                allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
                return self._refusal(Refused("method_not_allowed", allowed=allowed))
            if status < 500:
                return self._refusal(Refused("bad_request", reason=error.name.lower()))
        self._log.error("request.failed", path=path, exc_info=error)
        return self._refusal(Refused("internal"))

    def _refusal(self, refused: Refused) -> Answer:
        self._metrics.refused(refused.refusal.code)
        return responses.refusal(refused)
