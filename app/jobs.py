"""Drains that are asked for over HTTP: ``POST /jobs/drain`` and ``GET /jobs/<id>``.

The receiver runs no uploads: it has neither the rights nor the credentials. It puts the job on disk
and answers 202; whoever may run drains takes it up (``spool.jobs``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Flask, request

from app import answers, oidc
from app.answer import Answer
from app.credentials import may_command, presented
from app.refusals import Refused
from app.upload import Uploads
from spool import names, units
from spool.jobs import Job, TooManyJobs, new_id

BODY_MAX = 4096
"""Bytes of what a job may say."""
FIELDS = ("max_time", "max_bytes", "device")
_MOST_SECONDS = 86400


def add_jobs(app: Flask, uploads: Uploads) -> None:
    """Their two addresses."""
    spool = uploads.spool

    @app.post("/jobs/drain", provide_automatic_options=False)
    def drain() -> Answer:
        sender, now = _who(uploads), spool.now()
        most = int(spool.settings["jobs.rate"])
        try:
            job = Job(new_id(), "http", sender, now, **asked_for(_body()))
            job = spool.site.jobs.ask(job, most)
        except TooManyJobs as many:
            raise Refused("too_many_jobs", limit=most, retry_after=many.wait_seconds) from None
        spool.site.triggers.fired("http", now, sender)
        answer = answers.document(job_fields(job), 202)
        answer.headers["Location"] = f"/jobs/{job.id}"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @app.get("/jobs/<job>")
    def job(job: str) -> Answer:
        if _identity() is not None:
            _who(uploads)
        else:
            uploads.gate.identify(request.environ)
        found = spool.site.jobs.get(job)
        if found is None:
            raise Refused("no_job")
        answer = answers.document(job_fields(found))
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _identity() -> str | None:
    """The identity token that came along; None if there is none."""
    shown = presented(request.environ.get("HTTP_AUTHORIZATION", ""))
    return shown.token if shown is not None and oidc.looks_like_one(shown.token) else None


def _who(uploads: Uploads) -> str:
    """Who asks; Refused unless this sender may start drains. A device's own token may not."""
    token = _identity()
    if token is not None:
        return oidc.check(uploads.spool, token)
    sender = uploads.gate.identify(request.environ)
    may_command(request.environ, sender)
    if sender.device and not sender.may_drain:
        raise Refused(
            "may_not_drain",
            reason="The right belongs to a token (headgate device add NAME --drain).",
        )
    return sender.device or "this machine"


def _body() -> Mapping[str, Any]:
    said = request.stream.read(BODY_MAX + 1)
    if len(said) > BODY_MAX:
        raise _bad(f"it has more than {BODY_MAX} bytes")
    if not said.strip():
        return {}
    try:
        document = json.loads(said)
    except (ValueError, RecursionError):
        raise _bad("it is no JSON") from None
    if not isinstance(document, dict):
        raise _bad("it is no JSON object")
    return document


def asked_for(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's JSON asks for, as fields of ``Job``; Refused for what cannot be used."""
    if unknown := [name for name in document if name not in FIELDS]:
        raise _bad(f"{unknown[0][:40]!r} is none of {', '.join(FIELDS)}")
    found: dict[str, Any] = {}
    try:
        if "max_time" in document:
            found["max_seconds"] = units.parse_duration(_text(document, "max_time"))
            if not 0 < found["max_seconds"] <= _MOST_SECONDS:
                raise _bad("max_time is not from 1s to 1d")
        if "max_bytes" in document:
            found["max_bytes"] = units.parse_size(_text(document, "max_bytes"))
            if not 0 < found["max_bytes"] < 2**62:
                raise _bad("max_bytes is no size that can be sent")
    except units.UnitError as error:
        raise _bad(str(error)[:200]) from None
    if "device" in document:
        found["device"] = _text(document, "device")
        if not names.DEVICE.fullmatch(found["device"]):
            raise _bad("device is no name of a device")
    return found


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document[name]
    if not isinstance(value, str) or len(value) > 100:
        raise _bad(f'{name} is no text, as in {{"max_time": "2min"}}')
    return value


def _bad(reason: str) -> Refused:
    return Refused("bad_job", reason=reason)


def job_fields(job: Job) -> dict[str, object]:
    """A job as whoever asked reads it."""

    def instant(name: str) -> str | None:
        at = getattr(job, name)
        return None if at is None else answers.instant(at)

    return {
        "id": job.id,
        "state": job.state,
        "asked_at": instant("asked_at"),
        "asked_by": job.sender,
        "max_seconds": job.max_seconds,
        "max_bytes": job.max_bytes or None,
        "device": job.device or None,
        "started_at": instant("started_at"),
        "ended_at": instant("ended_at"),
        "run": job.run or None,
        "outcome": job.outcome or None,
        "exit_code": job.exit_code,
        "images": job.images,
        "bytes": job.bytes,
        "wire_bytes": job.wire_bytes,
        "set_aside": job.set_aside,
        "deferred": job.deferred,
        "message": job.message,
    }
