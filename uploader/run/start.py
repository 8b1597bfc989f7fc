"""Putting a run together: lock, ledger, pacer, sender, workers; and taking it apart again."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from datetime import timedelta

import structlog

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.spool.budget.uplink import Part
from headgate.spool.disk.locks import Lock
from headgate.spool.errors import LockHeld
from headgate.spool.site.confirmation import server_name
from headgate.spool.site.jobs import ALREADY_DONE, LATELY, served_by
from headgate.spool.site.outcome import Ending, Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from uploader.alerts.heartbeat import Heartbeat
from uploader.alerts.notify import after_run
from uploader.destination.contract import Sender
from uploader.run import announced, destination, lease, retry_policy
from uploader.run.bounds import BY_QUEUE, RunRequest, bounds_of
from uploader.run.concurrency import FIRST, Parallel
from uploader.run.drain import YIELD, Drain, RunContext
from uploader.run.progress import ProgressWatcher
from uploader.run.report import run_id, with_rest
from uploader.run.seen import Lookout
from uploader.run.signals import Signals
from uploader.run.workers import Workers
from uploader.wire.connection import Cutoff
from uploader.wire.http import Timeouts
from uploader.wire.other_traffic import permitted
from uploader.wire.pacer import Pacer

LOCK_WAIT_SECONDS = 15.0
BLINK_SECONDS = 0.5
"""As long as a look at the lock takes (``headgate watch``), which is no run."""
CONNECTIONS = "connections"
"""The site's memory of how many connections were of use, by endpoint and bucket."""


class AlreadyDone(Exception):
    """A run since the job was asked for left nothing of it to do; the sentence says which."""


def drain_lock(spool: Spool, order: RunRequest) -> Lock:
    """The lock within 15 s; a run started by hand asks the one under way to make room.

    A message of the queue does not wait: its duplicates are to end at once. LockHeld otherwise.
    """
    who = f"headgate drain ({order.trigger})"
    try:
        return spool.hold_drain_lock(who, 0)
    except LockHeld:
        if order.trigger == "hand":
            spool.site.add_request(YIELD, "", spool.now())
    try:
        wait = BLINK_SECONDS if order.trigger in BY_QUEUE else LOCK_WAIT_SECONDS
        return spool.hold_drain_lock(who, wait)
    except LockHeld:
        spool.site.skip_run()
        raise


def run(spool: Spool, order: RunRequest) -> Run:
    """Carry out one run from start to end; returns what is to be said of it.

    LockHeld if another one is at it; AlreadyDone if its job was done before it had the lock.
    """
    if not order.job:  # of a job that was noted when it was asked for
        spool.site.triggers.fired(order.trigger, spool.now(), order.sender)
    heartbeat = Heartbeat(spool)
    with Signals() as signals:
        with drain_lock(spool, order) as lock:
            _check_unserved(spool, order)
            heartbeat.start()
            report = _run(spool, order, lock, signals)
            spool.site.jobs.finish(report)
        if not signals.broke_off:
            with signals.telling():
                _tell(spool, report, heartbeat)
    return report


def _tell(spool: Spool, report: Run, heartbeat: Heartbeat) -> None:
    """Tell observers how the run ended: heartbeat, alerts, CloudWatch."""
    with structlog.contextvars.bound_contextvars(run=report.id):
        heartbeat.end(_told_elsewhere(report))
        after_run(spool)
        if spool.settings.alerts.cloudwatch == "on":
            from uploader.cloudwatch import publish  # others do not pay for it

            publish.after_run(spool, report)


def _told_elsewhere(report: Run) -> int:
    """What a monitor hears: a run that had nothing to do, while what was tried before is not
    confirmed, is no good news."""
    code = report.exit_code or int(Exit.OK)
    return code if code or report.success else int(Exit.NOTHING_CONFIRMED)


def _check_unserved(spool: Spool, order: RunRequest) -> None:
    """AlreadyDone if a run has done this job: of duplicates that begin at the same time one gets
    the lock first, and does it all."""
    job = spool.site.jobs.get(order.job) if order.job else None
    served = None if job is None else served_by(job, spool.site.runs(LATELY))
    if job is not None and served is not None:
        ended = spool.site.jobs.end(
            job, spool.now(), ALREADY_DONE, f"by run {served.id}: {served.outcome}", served.id
        )
        raise AlreadyDone(ended.message)


def _run(spool: Spool, order: RunRequest, lock: Lock, signals: Signals) -> Run:
    log = logs.get()
    with contextlib.ExitStack() as stack:
        for request in spool.site.requests():
            if request.word == YIELD:
                spool.site.complete_request(request)
        uplink = spool.uplink
        stack.enter_context(lease.kept(spool))
        ledger = uplink.open_ledger(Part.DRAIN)
        stack.callback(ledger.close)
        if ledger.warning:
            log.warning("ledger.spent", why=ledger.warning)
        started = spool.now()
        report = Run(run_id(started), started, trigger=order.trigger)
        spool.site.jobs.take_up(report, order.job, bounded=order.bounded)
        structlog.contextvars.bind_contextvars(run=report.id)
        stack.callback(structlog.contextvars.unbind_contextvars, "run")
        bounds = bounds_of(spool.settings, order)
        if bounds.seconds is not None and ledger.blocked_seconds > bounds.seconds:
            left = spool.now() + timedelta(seconds=ledger.blocked_seconds)
            until = f"the ledger counts as spent until {left:%H:%M:%S} UTC"
            return _nothing_may_leave(spool, report, Ending(Outcome.BUDGET_SPENT, until))
        if why := uplink.blocked_reason(Part.DRAIN, ledger):
            return _nothing_may_leave(spool, report, why)
        pacer = Pacer(
            ledger,
            lambda: permitted(uplink, Part.DRAIN),
            blocked_reason=lambda: uplink.blocked_reason(Part.DRAIN, ledger),
        )
        stack.callback(lambda: pacer.end(Ending(Outcome.DONE)))
        cutoff = Cutoff()
        sender = stack.enter_context(destination.opened(spool, pacer, cutoff))
        workers = Workers(
            sender, lambda item: spool.files.new_file(item.name), destination.describes(spool)
        )
        watch = ProgressWatcher(spool, pacer) if order.show_progress else None
        if watch is not None:
            stack.callback(watch.close)
        context = RunContext(
            spool,
            stack.enter_context(announced.mover(spool, lock)),
            workers,
            pacer,
            _parallel(spool, stack),
            cutoff,
            lookout=_lookout(spool, sender),
            patience=Timeouts.for_rate(max(1, spool.settings.usual_rate)).longest,
        )
        drain = Drain(context, report, bounds, watch or (lambda progress: None))
        log.info("run.started", trigger=order.trigger)
        signals.guard(drain)
        report = drain.go()
        if warning := retry_policy.clock_warning(sender.clock_offset):
            log.warning("clock.off", seconds=round(sender.clock_offset or 0), why=warning)
            if not report.message:
                report = spool.site.save_run(replace(report, message=warning))
        if watch is not None:
            watch.close()
        log.info(
            "run.ended",
            outcome=report.outcome,
            images=report.images,
            bytes=report.bytes,
            wire_bytes=report.wire_bytes,
            set_aside=report.set_aside,
            deferred=report.deferred,
            why=report.message,
        )
        return report


def _nothing_may_leave(spool: Spool, report: Run, why: Ending) -> Run:
    """The ledger counts as spent for longer than this run may take, or the gate is shut."""
    report = replace(
        with_rest(report, spool.catalog.totals()),
        ended_at=spool.now(),
        outcome=why.outcome,
        exit_code=int(Exit.OK),
        message=why.message,
    )
    return spool.site.save_run(report)


def _lookout(spool: Spool, sender: Sender) -> Lookout | None:
    by_status = spool.settings.destination.proof == "status"
    over_http = spool.settings.destination.kind == "http"
    if (over_http and by_status) or spool.settings.s3.check_copies == "off":
        return None
    return Lookout(sender)


def _parallel(spool: Spool, stack: contextlib.ExitStack) -> Parallel:
    """As many connections as the settings say, or as the last run ended with, to begin with."""
    fixed = spool.settings.uplink.parallel
    if isinstance(fixed, int):
        return Parallel(time.monotonic(), fixed, fewest=fixed, most=fixed)
    server = server_name(spool.settings)
    known = (spool.site.get(CONNECTIONS) or {}).get(server, FIRST)
    parallel = Parallel(time.monotonic(), known)

    def remember() -> None:
        if parallel.count != known:
            spool.site.put(CONNECTIONS, {server: parallel.count})

    stack.callback(remember)
    return parallel
