"""One answer to one request: a status, headers and a body that is all there.

It is a WSGI application (PEP 3333), so the front calls it, and a Flask view may return it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Answer:
    """Headers are set by assignment, as Flask's response has them; each name once.

    ``challenges`` go out in lines of their own: browsers read no second one in a line.
    """

    __slots__ = ("_body", "challenges", "headers", "status_code")

    def __init__(self, body: bytes, status: int, content_type: str) -> None:
        self.status_code = status
        self._body = body
        self.challenges: tuple[str, ...] = ()
        self.headers = {"Content-Type": content_type, "Content-Length": str(len(body))}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        challenges = [("WWW-Authenticate", challenge) for challenge in self.challenges]
        start_response(_STATUS[self.status_code], [*self.headers.items(), *challenges])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self._body]


def mark(headers: Any) -> None:
    """The headers of every answer, whoever made it."""
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "headgate"
