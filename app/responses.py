"""Responses to clients: receipts, refusals and other JSON documents, each ended by a newline.

An ``Answer`` is a WSGI application (PEP 3333): the fast path calls it, and a Flask view returns it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from app.refusals import REFUSALS, Refusal, Refused
from headgate.monitor.documents import receipt_fields
from headgate.settings.instants import rfc3339
from headgate.spool.image.image import Foreign, Receipt

_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
PROBLEM = "application/problem+json"
KEEP_ALIVE_SECONDS = 60
"""How long a connection may rest between two requests, as its client reads in ``Keep-Alive`` (RFC
2068, 19.7.1.1). The server waits longer, so that no request in time meets a closed connection."""


class Answer:
    """One response to a client: a status, headers and a complete body.

    Headers are set by assignment, as Flask's response has them; each name once.

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
    """The headers that every answer has."""
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Keep-Alive"] = f"timeout={KEEP_ALIVE_SECONDS}"
    headers["Server"] = "headgate"


def document(value: Any, status: int = 200, content_type: str = "application/json") -> Answer:
    """A JSON document, ended by a newline."""
    text = json.dumps(value, ensure_ascii=False) + "\n"
    return Answer(text.encode(), status, content_type)


def _with_receipt_headers(response: Answer, receipt: Receipt) -> Answer:
    response.headers["Safe-To-Erase"] = "true" if receipt.safe_to_erase else "false"
    response.headers["Cache-Control"] = "no-store"
    return response


def receipt(held: Receipt) -> Answer:
    """The receipt of a requested image."""
    return _with_receipt_headers(document(receipt_fields(held)), held)


def foreign(found: Foreign) -> Answer:
    """The receipt of a requested image that another gateway has: which one, and as of when it said
    so."""
    said = {"gateway": found.gateway, "as_of": rfc3339(found.as_of)}
    return _with_receipt_headers(document(receipt_fields(found.receipt) | said), found.receipt)


def accepted(held: Receipt, duplicate: bool, upload_status: int) -> Answer:
    """The acknowledgement: only ever made when the image is durable."""
    response = document(
        receipt_fields(held) | {"duplicate": duplicate}, 200 if duplicate else upload_status
    )
    response.headers["Location"] = f"/images/{held.id}"
    return _with_receipt_headers(response, held)


def several(
    held: list[tuple[Receipt, bool]], refused: list[tuple[str, Refused]], upload_status: int
) -> Answer:
    """The acknowledgement of several pictures of one request, and of what was refused
    (207, as RFC 4918 has it for an answer of several outcomes)."""
    receipts = [receipt_fields(one) | {"duplicate": duplicate} for one, duplicate in held]
    members: dict[str, object] = {"images": receipts}
    status = 200 if all(duplicate for _, duplicate in held) else upload_status
    if refused:
        status = 207
        members["refused"] = [{"file": name, **_problem(one)} for name, one in refused]
    response = document(members, status)
    response.headers["Location"] = f"/images/{held[0][0].id}"
    return _with_receipt_headers(response, held[0][0])


def _problem(refused: Refused) -> dict[str, object]:
    members = problem_type(refused.refusal) | {"detail": refused.sentence}
    known = {"reason", "hint"}
    return members | {k: v for k, v in refused.facts.items() if k not in members.keys() | known}


def refusal(refused: Refused) -> Answer:
    """The problem document, with the headers that belong to its status."""
    row = refused.refusal
    response = document(_problem(refused), row.status, PROBLEM)
    if refused.retry_after:
        response.headers["Retry-After"] = str(refused.retry_after)
    if row.status == 401:
        response.challenges = (*(refused.challenges or ()), 'Basic realm="headgate"', "Bearer")
    if row.status == 405 and "allowed" in refused.facts:
        response.headers["Allow"] = str(refused.facts["allowed"])
    response.headers["Cache-Control"] = "no-store"
    return response


def problem_type(row: Refusal) -> dict[str, object]:
    """What is the same in every answer of this kind (RFC 9457 section 3.1)."""
    return {
        "type": f"/problems/{row.code}",
        "title": row.title,
        "status": row.status,
        "code": row.code,
        "retry": row.retry,
    }


def problem_page(code: str) -> Answer:
    """What a problem's ``type`` leads to."""
    row = REFUSALS.get(code)
    if row is None:
        raise Refused("not_found")
    response = document(problem_type(row) | {"detail": row.sentence})
    response.headers["Cache-Control"] = "max-age=3600"
    return response
