"""What one message makes happen: known already, at work already, or a drain of its own.

The drain is the command, ``headgate drain --json``, in a process of its own and not in the worker:
it is the very same that cron starts, it may be killed without the worker, its memory ends with it,
and it takes signals as it always does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.host import logs
from headgate.settings.units import counted
from headgate.spool.disk import locks
from headgate.spool.errors import LockHeld
from headgate.spool.site.jobs import (
    ALREADY_DONE,
    ALREADY_RUNNING,
    GIVEN_UP,
    LATELY,
    REFUSED,
    BadJob,
    Job,
    asked_for,
    served_by,
)
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.site import Site
from uploader.queue.celery_config import MOST_DELIVERIES
from uploader.run.bounds import QUEUE_BREAK_OFF_SECONDS

_TOLD = (
    "outcome", "exit_code", "succeeded", "images", "bytes", "wire_bytes", "set_aside", "deferred",
    "message",
)  # fmt: skip
_GRACE_SECONDS = 4.0
BLINK_SECONDS = 0.5
"""As long as a program that only looks may hold the lock, as headgate watch does."""


class Lost(Exception):
    """The drain was killed from outside: the message is to come again."""


class Poison(Exception):
    """The message ended its worker too often: it is to be put aside."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a message's drain needs: where the site is kept, the command's words before "drain",
    and how long a run may take."""

    site: Path
    command: Sequence[str]
    interval_seconds: int
    started: Callable[[int], None] = lambda pid: None  # told the drain's pid, and 0 at its end


def work_for(site: Path, config: str | None, flags: Sequence[str], interval_seconds: int) -> Work:
    """The drain of this very installation, with the worker's own settings."""
    words = [sys.executable, "-P", "-m", "uploader"]
    words += ["--config", config] if config else []
    for flag in flags:
        words += ["--set", flag]
    return Work(site, words, interval_seconds)


def carry_out(work: Work, message: Job, wish: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one message and say what came of it: counts, bytes, outcome.

    Lost, or Poison, if it is not done.
    """
    with closing(Site(work.site)) as site:
        job, known = _admit(work, site, message, wish)
    result = known or _drain(work, job)
    log = logs.get()
    (log.warning if result["succeeded"] is False else log.info)("job.ended", **result)
    return result


def _admit(
    work: Work, site: Site, message: Job, wish: Mapping[str, Any]
) -> tuple[Job, dict[str, Any] | None]:
    """The job on disk, and what is to be said of it without a run, if anything is."""
    now = datetime.now(UTC)
    try:
        fields = asked_for(wish)
    except BadJob as bad:
        job = site.jobs.delivered(message)
        return job, _result(site.jobs.end(job, now, REFUSED, f"the message is no use: {bad}"))
    job = site.jobs.delivered(
        Job(message.id, message.way, message.sender, message.asked_at, **fields)
    )
    if job.way == "queue":
        site.triggers.fired("queue", now, message.sender)
    if job.outcome == GIVEN_UP:
        raise Poison(job.message)
    if job.state == "done":
        return job, _result(job) | {"outcome": ALREADY_DONE, "message": _as(job.outcome, job.run)}
    if at_work := _at_work(work):
        return job, _result(site.jobs.end(job, now, ALREADY_RUNNING, at_work))
    if job.starts >= MOST_DELIVERIES:
        why = f"its drain was begun {counted(job.starts, 'time')} and never ended"
        site.jobs.end(job, now, GIVEN_UP, why, also_running=True)
        raise Poison(why)
    # Looked for after the lock: a run that ended meanwhile is seen here.
    if (since := served_by(job, site.runs(LATELY))) is not None:
        why = _as(since.outcome, since.id)
        return job, _result(site.jobs.end(job, now, ALREADY_DONE, why, since.id))
    site.jobs.begun(job)
    return job, None


def _at_work(work: Work) -> str:
    """Who holds the drain lock, in a sentence; "" if it is free."""
    root = work.site.parent.parent
    try:
        locks.acquire(
            root / "new", work.site.parent / "drain.lock", "headgate worker", 0.5
        ).release()
    except LockHeld as held:
        return str(held)
    return ""


def _as(outcome: str, run: str) -> str:
    return f"by run {run}: {outcome}" if run else outcome


def _drain(work: Work, job: Job) -> dict[str, Any]:
    words = [*work.command, "drain", "--json", "--trigger", job.way]
    words += ["--with-parent", str(os.getpid())]
    words += ["--job", job.id, "--sender", job.sender]
    words += ["--device", job.device] if job.device else []
    words += ["--max-bytes", f"{job.max_bytes}B"] if job.max_bytes else []
    words += ["--max-time", f"{job.max_seconds}s"] if job.max_seconds is not None else []
    # Ctrl-C at the worker's terminal goes to the worker, which signals the drain once.
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    work.started(process.pid)
    try:
        out = _wait(process, work.interval_seconds - QUEUE_BREAK_OFF_SECONDS)
    finally:
        work.started(0)
    return _outcome(work, job, process.returncode, out)


def _wait(process: subprocess.Popen[str], seconds: float) -> str:
    """Wait for the drain, and return what it printed. At the time limit it gets a signal to finish
    its uploads, then one to abort them, then it is killed; a limit of Celery's that strikes
    meanwhile hastens that."""
    wait = seconds
    for signal in (process.terminate, process.terminate, process.kill):
        try:
            return process.communicate(timeout=wait)[0]
        except subprocess.TimeoutExpired:
            pass
        except Exception as hurry:  # SoftTimeLimitExceeded, of whatever class it is
            logs.get().warning("job.hurried", why=type(hurry).__name__)
        wait = _GRACE_SECONDS / 2
        with contextlib.suppress(ProcessLookupError):
            signal()
    return process.communicate()[0]


def _outcome(work: Work, job: Job, code: int, out: str) -> dict[str, Any]:
    with closing(Site(work.site)) as site:
        if code < 0:
            time.sleep(min(2.0**job.starts, 10.0))  # no hot loop while it is killed
            raise Lost(f"the drain was killed by signal {-code}")
        try:
            report = json.loads(out)
        except ValueError:
            report = {"outcome": Outcome.FAILED, "message": "it said why in the log"}
        if "id" not in report:  # no run began
            now = datetime.now(UTC)
            ended = site.jobs.end(job, now, report["outcome"], report["message"])
            return _result(ended) | {"exit_code": code}
    # The report and not the job: a duplicate of this message may have said its own of that.
    report["succeeded"] = report["success"]
    return {"job": job.id, "run": report["id"], **{name: report[name] for name in _TOLD}}


def _result(job: Job) -> dict[str, Any]:
    """The result of the task, also logged."""
    return {"job": job.id, "run": job.run, **{name: getattr(job, name) for name in _TOLD}}
