"""Drains that are asked for over HTTP: ``POST /jobs/drain`` and ``GET /jobs/<id>``.

The receiver runs no uploads: it has neither the rights nor the credentials. It puts the job on disk
and answers 202; a process that may run drains takes it up (``headgate.spool.site.jobs``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from flask import Flask, request

from app import responses
from app.admission import oidc
from app.admission.admission import Gate
from app.admission.auth import presented
from app.http.request import caller
from app.http.small_body import small_body
from app.refusals import Refused
from app.responses import Answer
from app.upload.stalled import Stalls
from headgate.host.foreign_json import read_json
from headgate.monitor.documents import job_fields
from headgate.spool.site.jobs import BadJob, Job, TooManyJobs, asked_for, new_id
from headgate.spool.spool import Spool

BODY_MAX = 4096
"""Bytes of what a job may say."""
READERS_MAX = 4
"""Jobs that are read at once, however slow they come: every other thread is there for images."""


def add_jobs(app: Flask, gate: Gate, spool: Spool, stalls: Stalls) -> None:
    """Add the routes ``POST /jobs/drain`` and ``GET /jobs/<id>``."""
    readers = threading.BoundedSemaphore(READERS_MAX)

    @app.post("/jobs/drain", provide_automatic_options=False)
    def drain() -> Answer:
        sender, now = _who(gate, spool), spool.now()
        most = spool.settings.jobs.rate
        try:
            job = Job(new_id(), "http", sender, now, **asked_for(_body(stalls, readers)))
            job = spool.site.jobs.ask(job, most)
        except BadJob as bad:
            raise _bad(str(bad)) from None
        except TooManyJobs as many:
            raise Refused("too_many_jobs", limit=most, retry_after=many.wait_seconds) from None
        spool.site.triggers.fired("http", now, sender)
        answer = responses.document(job_fields(job), 202)
        answer.headers["Location"] = f"/jobs/{job.id}"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @app.get("/jobs/<job>")
    def job(job: str) -> Answer:
        if _identity() is not None:
            _who(gate, spool)
        else:
            gate.identify(caller(request.environ))
        found = spool.site.jobs.get(job)
        if found is None:
            raise Refused("no_job")
        answer = responses.document(job_fields(found))
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _identity() -> str | None:
    """The identity token that came along; None if there is none."""
    shown = presented(caller(request.environ).authorization)
    return shown.token if shown is not None and oidc.looks_like_one(shown.token) else None


def _who(gate: Gate, spool: Spool) -> str:
    """Who asks; Refused unless this sender may start drains. A device's own token may not."""
    token = _identity()
    if token is not None:
        return oidc.check(spool, token)
    sender = gate.identify_commander(caller(request.environ))
    if sender.device and not sender.may_drain:
        raise Refused(
            "may_not_drain",
            reason="This needs a token with that permission (headgate device add NAME --drain).",
        )
    return sender.device or "this machine"


def _body(stalls: Stalls, readers: threading.BoundedSemaphore) -> Mapping[str, Any]:
    if not readers.acquire(blocking=False):
        raise Refused("jobs_busy", limit=READERS_MAX)
    try:
        said = small_body(request.environ, BODY_MAX, _too_long, stalls)
    finally:
        readers.release()
    if not said.strip():
        return {}
    try:
        document = read_json(said)
    except ValueError:
        raise _bad("it is not JSON") from None
    if not isinstance(document, dict):
        raise _bad("it is not a JSON object")
    return document


def _too_long() -> Refused:
    return _bad(f"it has more than {BODY_MAX} bytes")


def _bad(reason: str) -> Refused:
    return Refused("bad_job", reason=reason)
