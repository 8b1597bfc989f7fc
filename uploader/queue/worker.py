"""The worker in the foreground: Celery's, with our log and no banner."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from headgate.host import logs
from headgate.settings.settings import Settings
from uploader.queue.celery_app import make_app
from uploader.queue.celery_config import Broker
from uploader.queue.execute import Work

_STEPS = {
    "without_gossip": True,
    "without_mingle": True,
    "without_heartbeat": True,
}
"""What several workers tell each other; there is one."""


class _ToOurs(logging.Handler):
    """Celery's log as events of ours, one a line."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {record.exc_info[1]}"
        logs.get().log(record.levelno, "worker.says", source=record.name, text=text.strip())


def start(to: Broker, work: Work, settings: Settings, *, beat: bool) -> int:
    """Take messages until told to stop; the exit code.

    SIGTERM or Ctrl-C once: the drain finishes what it is sending. The pool has one child, which
    keeps Celery's time limits. If it is killed, the worker ends with exit code 1 and the message is
    delivered again.
    """
    if settings.s3.profile:
        os.environ["AWS_PROFILE"] = settings.s3.profile  # kombu asks boto3 for no other
    # Celery warns of root because of pickle, which is not read here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    signals.setup_logging.connect(_log, weak=False)
    app = make_app(to, work, beat=beat)
    worker: Any = app.Worker(
        pool="prefork",
        concurrency=1,
        queues=[to.queue],
        hostname=f"{to.queue}@{os.uname().nodename}",
        beat=beat,
        quiet=True,
        loglevel="INFO",
        **_STEPS,
    )
    logs.get().info(
        "worker.started", broker=to.kind, queue=to.queue, beat=beat, every=work.interval_seconds
    )
    worker.start()
    logs.get().info("worker.stopped")
    return int(worker.exitcode or state.should_terminate or 0)


def _log(**_: Any) -> None:
    logger = logging.getLogger()
    logger.handlers[:] = [_ToOurs()]
    logger.setLevel(logging.INFO)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)  # our own events say more
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
