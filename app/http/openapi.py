"""The receiver's API as an OpenAPI 3.1 document, made from the tables that it works by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.refusals import REFUSALS
from app.responses import PROBLEM
from app.upload import fields
from headgate.settings.table import ReceiverSettings
from headgate.spool.image.image import State
from headgate.spool.image.names import MEDIA_TYPES

Schema = dict[str, Any]

_ANY_UPLOAD = (
    "bad_length", "short_body", "empty_image", "bad_field", "metadata_too_large", "unauthorized",
    "forbidden", "wrong_device", "not_urgent", "too_slow", "key_conflict", "too_large",
    "content_encoding", "bad_coding", "unsupported_body", "unsupported_image", "truncated_image",
    "no_picture", "digest_mismatch", "too_many_pixels", "too_many_requests", "too_many_at_once",
    "too_many_headers", "internal", "intake_spent", "stopping", "safe_off", "disk_trouble",
    "disk_full",
    "length_required",
)  # fmt: skip
_FORM = ("bad_multipart", "form_too_large", "wrong_field", "no_image", "two_files")
_JOB = (
    "bad_job", "bad_length", "short_body", "too_slow",
    "may_not_drain", "too_many_jobs", "jobs_busy",
)  # fmt: skip
_WHO = ("unauthorized", "forbidden", "wrong_device")
_VIEWER = ("login_required", "forbidden")
_CLOSED = ("stopping", "safe_off", "disk_trouble", "disk_full", "intake_spent")

_TEXT: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_MAYBE_WHOLE: Schema = {"type": ["integer", "null"]}
_MAYBE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}

_SAID: Mapping[str, Schema] = {
    "device": {**_TEXT, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    "captured_at": {**_TEXT, "maxLength": 40, "description": "ISO 8601, or the EXIF format."},
    "sequence": {**_WHOLE, "maximum": fields.SEQUENCE_MAX},
    "tags": {**_TEXT, "description": "site=north, lens=wide"},
    "priority": {**_TEXT, "enum": ["normal", "urgent"]},
    "sha256": {**_TEXT, "pattern": "^[0-9A-Fa-f]{64}$", "description": "Of the image."},
    "idempotency_key": {**_TEXT, "maxLength": fields.KEY_MAX},
}


def description(receiver: ReceiverSettings) -> Schema:
    """The document, with this receiver's own limits in it."""
    status = str(receiver.upload_status)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate receiver",
            "version": "1",
            "description": "Receives images and answers once they are safe on disk.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}, {"basic": []}, {"digest": []}, {"login": []}],
        "paths": _paths(_form(receiver.field[0]), status, receiver.max_image),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "digest": {"type": "http", "scheme": "digest"},
                "login": {"type": "apiKey", "in": "cookie", "name": "headgate"},
            },
            "schemas": {
                "Receipt": _receipt(),
                "Accepted": _accepted(),
                "Limits": {"type": "object", "required": ["accepting", "server_time"]},
                "Gaps": _gaps(),
                "Job": _job(),
                "Problem": _problem(),
            },
        },
    }


def _paths(form: Schema, status: str, max_image: int) -> Schema:
    raw = {kind: {"schema": {**_TEXT, "format": "binary", "maxLength": max_image}}
           for kind in (*sorted(MEDIA_TYPES.values()), "application/octet-stream")}  # fmt: skip
    multipart = {"multipart/form-data": {"schema": form}}
    handshake = _operation(
        "The server's limits and capabilities", {"200": _json("Limits")}, ("unauthorized",)
    )
    page = {"200": {"description": "The page.", "content": {"text/html": {"schema": _TEXT}}}}
    facts = {"200": _json({"type": "object"})}
    metrics = {"200": {"description": "Metrics.", "content": {"text/plain": {"schema": _TEXT}}}}
    return {
        "/uploadImage": {
            "post": _upload(multipart, status, (*_ANY_UPLOAD, *_FORM)),
            "options": handshake,
        },
        "/images": {
            "post": _upload({**multipart, **raw}, status, (*_ANY_UPLOAD, *_FORM)),
            "options": handshake,
        },
        "/images/{ref}": {
            "parameters": [_in_path("ref", "An id, or a SHA-256 as 64 hex digits.")],
            "get": _operation(
                "The receipt of an image",
                {"200": _json("Receipt")},
                (*_WHO, "no_receipt", "gateways_away"),
            ),
        },
        "/images/{ref}/thumbnail": {
            "parameters": [_in_path("ref", "An id, or a SHA-256 as 64 hex digits.")],
            "get": _operation(
                "A thumbnail of an image",
                {"200": {"description": "A JPEG.", "content": {"image/jpeg": {}}}},
                (*_VIEWER, "no_receipt", "no_thumbnail", "thumbnails_busy"),
            ),
        },
        "/images/{ref}/original": {
            "parameters": [_in_path("ref", "An id, or a SHA-256 as 64 hex digits.")],
            "get": _operation(
                "An image as it arrived",
                {
                    "200": {"description": "The image.", "content": {"image/*": {}}},
                    "302": {"description": "A link to the bucket is at Location."},
                },
                (*_VIEWER, "no_receipt", "no_original", "downloads_busy"),
            ),
        },
        "/images/{ref}/view": {
            "parameters": [_in_path("ref", "An id, or a SHA-256 as 64 hex digits.")],
            "get": _operation(
                "The page of an image",
                {"200": {"description": "HTML.", "content": {"text/html": {}}}},
                (*_VIEWER, "no_receipt"),
            ),
        },
        "/devices/{device}": {
            "parameters": [_in_path("device", "The device's name.")],
            "get": _operation(
                "The page of a device",
                {"200": {"description": "HTML.", "content": {"text/html": {}}}},
                (*_VIEWER, "no_device"),
            ),
        },
        "/devices/{device}/gaps": {
            "parameters": [_in_path("device", "The device's name.")],
            "get": _operation(
                "Sequence numbers that never arrived",
                {"200": _json("Gaps")},
                (*_WHO, "no_sequence"),
            ),
        },
        "/jobs/drain": {
            "post": {
                **_operation(
                    "Start a drain",
                    {
                        "202": _json(
                            "Job", "The job is stored on disk; Location shows its progress."
                        )
                    },
                    (*_WHO, *_JOB),
                ),
                "requestBody": {
                    "required": False,
                    "content": {"application/json": {"schema": _job_request()}},
                },
            },
        },
        "/jobs/{job}": {
            "parameters": [_in_path("job", "A job's id.")],
            "get": _operation(
                "The state and result of a job",
                {"200": _json("Job")},
                (*_WHO, "may_not_drain", "no_job"),
            ),
        },
        "/limits": {"get": handshake},
        "/healthz": {"get": _operation("The receiver is alive", facts)},
        "/readyz": {"get": _operation("The receiver would accept an image now", facts, _CLOSED)},
        "/problems/{code}": {
            "parameters": [_in_path("code", "The code of a refusal.")],
            "get": _operation("What a refusal means", facts, ("not_found",)),
        },
        "/alerts": {"get": _operation("The page of alerts", page, _VIEWER)},
        "/help/{code}": {
            "parameters": [_in_path("code", "The code of an alert.")],
            "get": _operation("What to do about an alert", page, _VIEWER),
        },
        "/": {"get": _operation("The status page", page, _VIEWER)},
        "/find": {"get": _operation("The page that finds images", page, _VIEWER)},
        "/fleet": {"get": _operation("The page of all gateways of the site", page, _VIEWER)},
        "/runs": {"get": _operation("The page of the last runs", page, _VIEWER)},
        "/metrics": {"get": _operation("Metrics for Prometheus", metrics, _WHO[:2])},
        "/status.json": {"get": _operation("The facts of the status page as JSON", facts, _VIEWER)},
        "/openapi.json": {"get": _operation("This document", facts)},
    }


def _operation(summary: str, responses: Schema, refused: Iterable[str] = ()) -> Schema:
    by_status: dict[int, list[str]] = {}
    for code in ("bad_request", "not_found", *refused):
        codes = by_status.setdefault(REFUSALS[code].status, [])
        if code not in codes:
            codes.append(code)
    problems = {
        str(status): {
            "description": ", ".join(codes),
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, codes in sorted(by_status.items())
    }
    return {"summary": summary, "responses": {**responses, **problems}}


def _upload(content: Schema, status: str, refused: Iterable[str]) -> Schema:
    operation = _operation(
        "Upload an image",
        {
            status: _json("Accepted", "Stored durably: it survives a power cut."),
            "200": _json("Accepted", "It was already stored."),
        },
        refused,
    )
    headers = [
        {"name": fields.HEADERS[name], "in": "header", "schema": schema}
        for name, schema in _SAID.items()
    ]
    headers.append({"name": "Content-Digest", "in": "header", "schema": _TEXT})
    return {
        **operation,
        "parameters": headers,
        "requestBody": {"required": True, "content": content},
    }


def _form(field: str) -> Schema:
    image = {"type": "string", "format": "binary"}
    return {
        "type": "object",
        "required": [field],
        "properties": {field: image, **{k: v for k, v in _SAID.items() if k != field}},
    }


def _json(schema: str | Schema, what: str = "As described.") -> Schema:
    inner = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"description": what, "content": {"application/json": {"schema": inner}}}


def _in_path(name: str, what: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": what, "schema": _TEXT}


def _receipt() -> Schema:
    properties = {
        "id": _TEXT,
        "sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$"},
        "size": _WHOLE,
        "device": _TEXT,
        "received_at": _INSTANT,
        "state": {**_TEXT, "enum": [state.value for state in State]},
        "local": {"type": "boolean"},
        "safe_to_erase": {"type": "boolean"},
    }
    later = {
        "media_type": _TEXT,
        "reason": _TEXT,
        "idempotency_key": _TEXT,
        "warnings": {"type": "array", "items": _TEXT},
        "complete": {"type": "boolean", "description": "false: the image lacks its end"},
        "device_name": _TEXT,
        "bucket": _TEXT,
        "key": _TEXT,
        "etag": _TEXT,
        "version_id": _MAYBE_TEXT,
        "uploaded_at": _INSTANT,
        "gateway": {**_TEXT, "description": "the gateway that has it, if it is another one"},
        "as_of": {**_INSTANT, "description": "when that gateway said so"},
    }
    return {"type": "object", "required": list(properties), "properties": {**properties, **later}}


def _accepted() -> Schema:
    return {
        "allOf": [
            {"$ref": "#/components/schemas/Receipt"},
            {
                "type": "object",
                "required": ["duplicate"],
                "properties": {"duplicate": {"type": "boolean"}},
            },
        ]
    }


def _gaps() -> Schema:
    numbers = {"first": _WHOLE, "last": _WHOLE}
    gap = {"type": "object", "required": ["first", "last"], "properties": numbers}
    properties = {
        "device": _TEXT,
        "since": _INSTANT,
        **numbers,
        "missing": _WHOLE,
        "gaps": {"type": "array", "items": gap},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _problem() -> Schema:
    properties = {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer", "enum": sorted({r.status for r in REFUSALS.values()})},
        "code": {**_TEXT, "enum": sorted(REFUSALS)},
        "retry": {"type": "boolean"},
        "detail": _TEXT,
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _job_request() -> Schema:
    """The body of POST /jobs/drain."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "max_time": {
                **_TEXT,
                "description": "Maximum duration, such as 2min",
                "maxLength": 100,
            },
            "max_bytes": {**_TEXT, "description": "Maximum bytes, such as 500MB", "maxLength": 100},
            "device": _SAID["device"],
        },
    }


def _job() -> Schema:
    """A job, in any of its states."""
    properties = {
        "id": _TEXT,
        "state": {**_TEXT, "enum": ["queued", "running", "done"]},
        "asked_at": _INSTANT,
        "asked_by": _TEXT,
        "max_seconds": _MAYBE_WHOLE,
        "max_bytes": _MAYBE_WHOLE,
        "device": _MAYBE_TEXT,
        "started_at": _MAYBE_INSTANT,
        "ended_at": _MAYBE_INSTANT,
        "run": _MAYBE_TEXT,
        "outcome": _MAYBE_TEXT,
        "exit_code": _MAYBE_WHOLE,
        "succeeded": {
            "type": ["boolean", "null"],
            "description": "null until it is done, or if another run was already active",
        },
        **dict.fromkeys(("images", "bytes", "wire_bytes", "set_aside", "deferred"), _WHOLE),
        "message": _TEXT,
    }
    return {"type": "object", "required": list(properties), "properties": properties}
