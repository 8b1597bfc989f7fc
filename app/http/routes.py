"""The addresses that devices use, and how every error becomes a refusal of the table."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote

from flask import Flask, Response, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from app import responses
from app.admission.admission import Gate
from app.admission.auth import Principal
from app.http import openapi
from app.http.error_responses import Troubles
from app.http.limits import cached, limits
from app.http.metrics import CONTENT_TYPE, Metrics
from app.http.request import caller
from app.refusals import Refused
from app.responses import Answer, mark
from app.upload.fields import HEADERS
from headgate.monitor.documents import gaps_fields
from headgate.shared.connection import SharedTrouble
from headgate.spool.image.names import device_name
from headgate.spool.spool import Spool

GAPS_MAX = 1000
"""Gaps in one answer, the oldest; filling them shows the next ones."""

_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_REF = re.compile(r"[0-9a-f]{64}|[A-Za-z0-9._-]{1,160}")


def is_ref(ref: str) -> bool:
    """Whether this may be the id of an image, or the SHA-256 of one."""
    return _REF.fullmatch(ref) is not None


def add_routes(app: Flask, gate: Gate, spool: Spool, metrics: Metrics, troubles: Troubles) -> None:
    """Add the routes for uploads, receipts, the handshake (/limits) and the two checks (/healthz,
    /readyz)."""

    @app.post("/uploadImage", provide_automatic_options=False)
    @app.post("/images", provide_automatic_options=False)
    def upload() -> Response:
        # The front answers uploads. What comes here is one that a strict receiver does not know.
        raise Refused("method_not_allowed", allowed="POST, OPTIONS")

    @app.route("/uploadImage", methods=["OPTIONS"], endpoint="options_upload_image")
    @app.route("/images", methods=["OPTIONS"], endpoint="options_images")
    def handshake() -> Answer:
        response = _limits(gate, spool)
        response.headers["Allow"] = "POST, OPTIONS"
        return response

    @app.get("/limits")
    def get_limits() -> Answer:
        return _limits(gate, spool)

    @app.get("/images/<ref>")
    def receipt(ref: str) -> Answer:
        sender = gate.reader(caller(request.environ))
        held = spool.receipt(ref, sender.sees_only) if is_ref(ref) else None
        named = device_name(request.headers.get(HEADERS["device"], ""))
        if key := request.headers.get(HEADERS["idempotency_key"], ""):
            # Of several images with these bytes the one that was sent with this key.
            held = spool.receipt_by_key(sender.sends_for(named), key)
            if held is not None and ref not in (held.id, held.sha256):
                held = None
        if held is not None:
            return responses.receipt(held)
        if spool.elsewhere is None or not is_ref(ref):
            raise Refused("no_receipt")
        device = sender.sends_for(named) if key else sender.sees_only or named
        try:
            found = spool.elsewhere.receipt(ref, device, key)
        except SharedTrouble as trouble:
            raise Refused("gateways_away", reason=str(trouble)) from None
        if found is None:
            raise Refused("no_receipt")
        return responses.foreign(found)

    @app.get("/devices/<device>/gaps")
    def gaps(device: str) -> Answer:
        sender = gate.reader(caller(request.environ))
        if sender.sees_only and device != sender.sees_only:
            raise Refused("wrong_device", device=sender.device, named=device[:64])
        found = spool.catalog.gaps(device, GAPS_MAX)
        if found is None:
            raise Refused("no_sequence")
        return _uncached(responses.document(gaps_fields(found)))

    @app.get("/healthz")
    def alive() -> Answer:
        return _uncached(responses.document({"alive": True}))

    @app.get("/readyz")
    def accepting() -> Answer:
        gate.check_open(spool.settings.receiver.max_image)
        return _uncached(responses.document({"accepting": True}))

    @app.get("/metrics")
    def scrape() -> Answer:
        gate.identify_scraper(caller(request.environ))
        return _uncached(Answer(metrics.exposition(), 200, CONTENT_TYPE))

    @app.get("/problems/<code>")
    def problem(code: str) -> Answer:
        return responses.problem_page(code)

    @app.get("/openapi.json")
    def described() -> Answer:
        response = responses.document(openapi.description(spool.settings.receiver))
        response.headers["Cache-Control"] = "max-age=60"
        return response

    _add_errors(app, troubles)


def _limits(gate: Gate, spool: Spool) -> Answer:
    # Anyone may ask; only a token that came along has to be right.
    sender = Principal()
    if caller(request.environ).authorization:
        sender = gate.identify(caller(request.environ))
    known = limits(gate, spool.settings, spool.catalog, sender, datetime.now(UTC))
    response = responses.document(known)
    response.headers["Cache-Control"] = cached(known)
    response.headers["Vary"] = "Authorization"
    return response


def login_address(path: str) -> str:
    """The address of the log-in page that leads back to ``path`` afterwards."""
    return "/login" if path == "/" else f"/login?next={quote(path, safe='/')}"


def for_a_person() -> bool:
    """Whether a browser asked, and shows the answer to a person."""
    return "text/html" in request.headers.get("Accept", "")


def bare_page(text: str, status: int) -> Response:
    """HTML that runs no script, and is kept by no cache."""
    response = Response(text, status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Cache-Control"] = "no-store"
    return response


def _told(refused: Refused) -> Response:
    """What a person sees of a refusal."""
    row = refused.refusal
    text = render_template(
        "people/refused.html", code=row.code, title=row.title, sentence=refused.sentence
    )
    response = bare_page(text, row.status)
    if refused.retry_after:
        response.headers["Retry-After"] = str(refused.retry_after)
    return response


def _uncached(response: Answer) -> Answer:
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_errors(app: Flask, troubles: Troubles) -> None:
    @app.errorhandler(Exception)
    def trouble(error: Exception) -> ResponseReturnValue:
        if isinstance(error, HTTPException) and error.response is not None:  # a redirect
            return Response(status=error.code, headers=error.get_headers())
        told = None
        if isinstance(error, Refused) and error.refusal.for_people and for_a_person():
            told = error
        looks = request.method in ("GET", "HEAD")
        if told is not None and looks and told.refusal.code == "login_required":
            where = request.full_path if request.query_string else request.path
            return Response(status=303, headers={"Location": login_address(where)})
        answer = troubles.answer(error, request.path, request.remote_addr or "")
        return answer if told is None else _told(told)

    @app.after_request
    def marked(response: Response) -> Response:
        mark(response.headers)
        return response
