"""What a job and the wish for one look like, for the OpenAPI document. Pure."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_MAYBE_WHOLE: Schema = {"type": ["integer", "null"]}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_MAYBE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}


def asked(device: Schema) -> Schema:
    """The body of POST /jobs/drain, with the schema of a device's name."""
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
            "device": device,
        },
    }


def job() -> Schema:
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
