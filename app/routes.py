"""The addresses that devices use, and how every error becomes a refusal of the table."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from app import admission, answers, body, fields, intake, stalls
from app.refusals import Refused
from app.upload import Uploads
from spool.logs import get as get_log
from spool.names import MEDIA_TYPES

_REF = re.compile(r"[0-9a-f]{64}|[A-Za-z0-9._-]{1,160}")


def limits(uploads: Uploads, now: datetime) -> dict[str, object]:
    """The handshake: all that a sender needs to know before it sends."""
    try:
        uploads.check_open(uploads.max_image)
        accepting, reason = True, ""
    except Refused as refused:
        accepting, reason = False, refused.refusal.code
    return {
        "accepting": accepting,
        "reason": reason,
        "max_image": uploads.max_image,
        "types": sorted(MEDIA_TYPES.values()),
        "field": uploads.spool.settings["receiver.field"],
        "form_fields": list(fields.FIELDS),
        "headers": sorted(fields.HEADERS.values()),
        "max_parts": intake.PARTS_MAX,
        "max_field_bytes": intake.FIELD_BYTES_MAX,
        "max_headers": admission.MAX_HEADERS,
        "chunked": {"multipart": True, "raw": False},
        "body_seconds": body.BODY_SECONDS,
        "min_rate": stalls.MIN_RATE,
        "upload_status": uploads.spool.settings["receiver.upload_status"],
        "server_time": answers.instant(now),
    }


def add_routes(app: Flask, uploads: Uploads) -> None:
    """Uploads, receipts, the handshake and the two checks."""

    @app.post("/uploadImage", provide_automatic_options=False)
    def upload_image() -> Response:
        return uploads.receive(request.environ, raw_allowed=False)

    @app.post("/images", provide_automatic_options=False)
    def images() -> Response:
        return uploads.receive(request.environ, raw_allowed=True)

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
        held = uploads.spool.receipt(ref) if _REF.fullmatch(ref) else None
        if held is None:
            raise Refused("no_receipt")
        return answers.receipt(held)

    @app.get("/healthz")
    def alive() -> Response:
        return _uncached(answers.document({"alive": True}))

    @app.get("/readyz")
    def accepting() -> Response:
        uploads.check_open(uploads.max_image)
        return _uncached(answers.document({"accepting": True}))

    @app.get("/problems/<code>")
    def problem(code: str) -> Response:
        return answers.problem_page(code)

    _add_errors(app)


def _limits(uploads: Uploads) -> Response:
    response = answers.document(limits(uploads, datetime.now(UTC)))
    response.headers["Cache-Control"] = "max-age=60"
    return response


def _uncached(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _add_errors(app: Flask) -> None:
    log = get_log()

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        log.info(
            "request.refused",
            code=error.refusal.code,
            path=request.path,
            peer=request.remote_addr or "",
            reason=error.sentence,
        )
        return answers.refusal(error)

    @app.errorhandler(HTTPException)
    def flask_error(error: HTTPException) -> Response:
        status = error.code or 500
        if 300 <= status < 400 and error.response is not None:
            return Response(status=status, headers=error.get_headers())
        if status == 404:
            return answers.refusal(Refused("not_found"))
        if status == 405:
            allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
            return answers.refusal(Refused("method_not_allowed", allowed=allowed))
        if status < 500:
            return answers.refusal(Refused("bad_request", reason=error.name.lower()))
        return mistake(error)

    @app.errorhandler(Exception)
    def mistake(error: Exception) -> Response:
        log.error("request.failed", path=request.path, exc_info=error)
        return answers.refusal(Refused("internal"))

    @app.after_request
    def plain(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "headgate"
        return response
