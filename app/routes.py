"""The addresses that devices use, and how every error becomes a refusal of the table."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app import answers, openapi
from app.credentials import Sender
from app.handshake import cached, limits
from app.metrics import CONTENT_TYPE, Metrics
from app.refusals import Refused
from app.upload import Uploads
from spool.logs import get as get_log

GAPS_MAX = 1000
"""Gaps in one answer, the oldest; filling them shows the next ones."""

_REF = re.compile(r"[0-9a-f]{64}|[A-Za-z0-9._-]{1,160}")


def add_routes(app: Flask, uploads: Uploads, metrics: Metrics) -> None:
    """Uploads, receipts, the handshake and the two checks."""

    def receive(*, raw_allowed: bool) -> Response:
        began = time.monotonic()
        response = uploads.receive(request.environ, raw_allowed)
        metrics.acknowledged(time.monotonic() - began)
        return response

    @app.post("/uploadImage", provide_automatic_options=False)
    def upload_image() -> Response:
        return receive(raw_allowed=False)

    @app.post("/images", provide_automatic_options=False)
    def images() -> Response:
        return receive(raw_allowed=True)

    @app.route("/uploadImage", methods=["OPTIONS"], endpoint="options_upload_image")
    @app.route("/images", methods=["OPTIONS"], endpoint="options_images")
    def handshake() -> Response:
        response = _limits(uploads)
        response.headers["Allow"] = "POST, OPTIONS"
        return response

    @app.get("/limits")
    def get_limits() -> Response:
        return _limits(uploads)

    @app.get("/images/<ref>")
    def receipt(ref: str) -> Response:
        sender = uploads.gate.identify(request.environ)
        held = uploads.spool.receipt(ref) if _REF.fullmatch(ref) else None
        if held is None or (sender.device and held.device != sender.device):
            raise Refused("no_receipt")
        return answers.receipt(held)

    @app.get("/devices/<device>/gaps")
    def gaps(device: str) -> Response:
        sender = uploads.gate.identify(request.environ)
        if sender.device and device != sender.device:
            raise Refused("wrong_device", device=sender.device, named=device[:64])
        found = uploads.spool.catalog.gaps(device, GAPS_MAX)
        if found is None:
            raise Refused("no_sequence")
        return _uncached(answers.document(answers.gaps_fields(found)))

    @app.get("/healthz")
    def alive() -> Response:
        return _uncached(answers.document({"alive": True}))

    @app.get("/readyz")
    def accepting() -> Response:
        uploads.gate.check_open(uploads.max_image)
        return _uncached(answers.document({"accepting": True}))

    @app.get("/metrics")
    def scrape() -> Response:
        return _uncached(Response(metrics.exposition(), content_type=CONTENT_TYPE))

    @app.get("/problems/<code>")
    def problem(code: str) -> Response:
        return answers.problem_page(code)

    @app.get("/openapi.json")
    def described() -> Response:
        response = answers.document(openapi.description(uploads))
        response.headers["Cache-Control"] = "max-age=60"
        return response

    _add_errors(app, metrics)


def _limits(uploads: Uploads) -> Response:
    # Anybody may ask; only a token that came along has to be right.
    sender = Sender()
    if request.environ.get("HTTP_AUTHORIZATION"):
        sender = uploads.gate.identify(request.environ)
    known = limits(uploads, sender, datetime.now(UTC))
    response = answers.document(known)
    response.headers["Cache-Control"] = cached(known)
    response.headers["Vary"] = "Authorization"
    return response


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_errors(app: Flask, metrics: Metrics) -> None:
    log = get_log()

    def refusal(error: Refused) -> Response:
        metrics.refused(error.refusal.code)
        return answers.refusal(error)

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        log.info(
            "request.refused",
            code=error.refusal.code,
            path=request.path,
            peer=request.remote_addr or "",
            reason=error.sentence,
        )
        return refusal(error)

    @app.errorhandler(HTTPException)
    def flask_error(error: HTTPException) -> Response:
        status = error.code or 500
        if 300 <= status < 400 and error.response is not None:
            return Response(status=status, headers=error.get_headers())
        if status == 404:
            return refusal(Refused("not_found"))
        if status == 405:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
            return refusal(Refused("method_not_allowed", allowed=allowed))
        if status < 500:
            return refusal(Refused("bad_request", reason=error.name.lower()))
        return mistake(error)

    @app.errorhandler(Exception)
    def mistake(error: Exception) -> Response:
        log.error("request.failed", path=request.path, exc_info=error)
        return refusal(Refused("internal"))

    @app.after_request
    def plain(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "headgate"
        return response
