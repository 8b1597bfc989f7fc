"""The Celery application: one task, one queue, and a clock where it is wanted."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery import Celery, Task, bootsteps, signals
from celery.exceptions import Reject
from celery.worker import state
from kombu.entity import Exchange, Queue

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.spool.site.jobs import Job, new_id
from headgate.spool.site.site import Site
from uploader.queue import execute
from uploader.queue.celery_config import TASK, Broker, configuration
from uploader.queue.message import ASKED_AT, SENDER, sender_of, sent_at, usable_id

LOOK_SECONDS = 2.0
"""How soon a job that was asked for over HTTP is noticed."""


CHILD_KILLED = (
    "its child was killed, and Celery would keep a processor busy from now on; the worker ends, so "
    "that the service manager starts it again"
)


class _Pid:
    """The pid of the drain under way, in memory that the worker shares with its child."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def set(self, pid: int) -> None:
        self._memory[:8] = struct.pack("q", pid)

    def get(self) -> int:
        return int(struct.unpack("q", self._memory[:8])[0])


def make_app(to: Broker, work: execute.Work, *, beat: bool = False) -> Celery:
    """The application of one gateway. With ``beat`` its clock sends a message each interval."""
    app = Celery("headgate", set_as_current=False)
    app.conf.update(configuration(to, work.interval_seconds))
    # The default exchange: a message goes to the queue by its name, and nothing has to be bound.
    app.conf.task_queues = [
        Queue(name, Exchange(""), routing_key=name)  # type: ignore[no-untyped-call]
        for name in ((to.queue, to.dead) if to.kind == "redis" else (to.queue,))
    ]
    if beat:
        app.conf.beat_scheduler = "celery.beat:Scheduler"  # in memory: no file that can be damaged
        app.conf.beat_schedule = {
            "drain": {
                "task": TASK,
                "schedule": timedelta(seconds=work.interval_seconds),
                # What no one took until the next one is not worth taking.
                "options": {"expires": work.interval_seconds, "headers": {SENDER: "beat"}},
            }
        }
    pid = _Pid()
    work = replace(work, started=pid.set)

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def drain(self: Task, **wish: Any) -> dict[str, Any]:
        message = _message(self.request)
        try:
            return execute.carry_out(work, message, wish)
        except execute.Lost as lost:
            logs.get().warning("job.lost", job=message.id, why=str(lost))
            raise Reject(str(lost), requeue=True) from lost
        except execute.Poison as poison:
            logs.get().error("job.given_up", job=message.id, why=str(poison))
            if to.kind == "redis":
                _put_aside(app, to, message, wish, str(poison))
            raise Reject(str(poison), requeue=False) from poison

    def stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
        if headers is not None:
            headers.setdefault(ASKED_AT, datetime.now(UTC).isoformat())

    def finish(**_: Any) -> None:
        """The worker ends: so does the drain, after what it is sending."""
        if running := pid.get():
            with contextlib.suppress(ProcessLookupError):
                os.kill(running, signal.SIGTERM)

    def begin(**_: Any) -> None:
        """The clock's first message is not an interval away."""
        app.send_task(
            TASK, queue=to.queue, expires=work.interval_seconds, retry=False,
            headers={SENDER: "beat"},
        )  # fmt: skip

    if beat:
        signals.worker_ready.connect(begin, weak=False)
    # Celery keeps weak references unless told otherwise.
    signals.before_task_publish.connect(stamp, weak=False)
    signals.worker_shutting_down.connect(finish, weak=False)
    app.steps["consumer"].add(_looks_for_jobs(to, work.site))
    app.steps["consumer"].add(EndsWithItsChild)
    return app


class EndsWithItsChild(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the worker that ends it once its pool has replaced a child.

    After a child was killed, the event loop may go on with the descriptor of its pipe, which is
    always ready, and take a whole processor for good (celery issues 2142 and 3712). A worker that
    the service manager starts again has no such descriptor. Nothing is lost: a message counts as
    done only when its run has ended, and its job is on disk.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._entry: Any = None
        self._children: frozenset[int] = frozenset()

    def start(self, consumer: Any) -> None:
        def children() -> frozenset[int]:
            return frozenset(consumer.pool.info["processes"])

        # Before the first look: one that was killed until then would pass for the first of all.
        self._children = self._children or children()

        def look() -> None:
            if self._children - children() and state.should_terminate is None:
                logs.get().error("worker.child_killed", why=CHILD_KILLED)
                state.should_terminate = Exit.ERROR.value

        self._entry = consumer.timer.call_repeatedly(LOOK_SECONDS, look)

    def stop(self, consumer: Any) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None


def _message(request: Any) -> Job:
    """The job that a message stands for: which it is, who asked and when. What for comes later."""
    now = datetime.now(UTC)
    headers = request.headers or {}
    known = {name: request.get(name) or headers.get(name) for name in (ASKED_AT, SENDER)}
    id_ = str(request.id) if usable_id(request.id) else new_id()
    return Job(id_, "queue", sender_of(known), min(now, sent_at(known, now)))


def _put_aside(app: Celery, to: Broker, job: Job, wish: dict[str, Any], why: str) -> None:
    """Redis has no dead letters, so they are put into a queue that no worker reads."""
    app.send_task(
        TASK, kwargs=wish, task_id=job.id, queue=to.dead, ignore_result=True,
        headers={SENDER: job.sender, "headgate_why": why},
    )  # fmt: skip


def _looks_for_jobs(to: Broker, site: Path) -> type[bootsteps.StartStopStep]:
    """A step of the worker that sends itself what was asked for over HTTP: so the receiver needs no
    way to the broker, and what a broker lost is on disk."""

    class LooksForJobs(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **kwargs: Any) -> None:
            super().__init__(consumer, **kwargs)
            self._entry: Any = None
            self._sent: set[str] = set()
            self._first = True

        def start(self, consumer: Any) -> None:
            look = self._look_for(consumer.app)
            look()  # before any message is taken, so that all that waits is of earlier days
            self._entry = consumer.timer.call_repeatedly(LOOK_SECONDS, look)

        def stop(self, consumer: Any) -> None:
            if self._entry is not None:
                self._entry.cancel()
                self._entry = None

        def _look_for(self, app: Celery) -> Callable[[], None]:
            def look() -> None:
                # Opened for each look: the worker forks, and SQLite must not be open then.
                with closing(Site(site)) as opened:
                    queued = opened.jobs.queued()
                # Messages that wait on disk since before are those of a worker that was stopped.
                for job in queued:
                    if job.id not in self._sent and (self._first or job.way == "http"):
                        _send(app, to, job)
                        self._sent.add(job.id)
                self._first = False

            def try_to_look() -> None:
                try:
                    look()
                except Exception as error:
                    logs.get().warning("job.unsent", why=f"{type(error).__name__}: {error}")

            return try_to_look

    return LooksForJobs


def _send(app: Celery, to: Broker, job: Job) -> None:
    wish = {
        "max_time": None if job.max_seconds is None else f"{job.max_seconds}s",
        "max_bytes": f"{job.max_bytes}B" if job.max_bytes else None,
        "device": job.device or None,
    }
    app.send_task(
        TASK,
        kwargs={name: value for name, value in wish.items() if value is not None},
        task_id=job.id,
        queue=to.queue,
        retry=False,
        headers={SENDER: job.sender, ASKED_AT: job.asked_at.isoformat()},
    )
