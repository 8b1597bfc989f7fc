"""The record of a run, on disk and for the progress line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.settings.units import counted
from headgate.spool.image.image import Item, Totals
from headgate.spool.site.outcome import HELD_BACK, Ending, Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from uploader.run import retry_policy
from uploader.wire.errors import SendError
from uploader.wire.pacer import Pacer


@dataclass(slots=True)
class Progress:
    """What a run has done so far."""

    images: int = 0
    bytes: int = 0
    set_aside: int = 0
    deferred: int = 0
    picked_images: int = 0
    picked_bytes: int = 0
    message: str = ""
    failures: dict[str, int] = field(default_factory=dict)
    attempts: int = 0
    confirmed_at: datetime | None = None
    failing_since: datetime | None = None
    last_error: str = ""  # of an attempt that failed

    def failed(self, error: SendError, now: datetime) -> None:
        """Count an attempt that failed."""
        self.failures[error.kind.value] = self.failures.get(error.kind.value, 0) + 1
        if error.code not in retry_policy.OF_THE_FILE:
            self.attempts += 1
            self.failing_since = self.failing_since or now
            self.last_error = error.message

    def finished(self, items: Sequence[Item], now: datetime) -> None:
        """Count images that are confirmed and in done/."""
        self.confirmed_at, self.failing_since = now, None
        self.images += len(items)
        self.bytes += sum(item.size for item in items)


class RunReport:
    """One run's line in the books. ``of_all``: the run is for every device's images."""

    def __init__(
        self, spool: Spool, pacer: Pacer, run: Run, progress: Progress, *, of_all: bool
    ) -> None:
        self._spool, self._pacer, self._run = spool, pacer, run
        self._progress, self._of_all = progress, of_all
        self._noted_sent = 0  # of the bytes that left

    def save(self) -> Run:
        """Write down how far the run has come."""
        progress = self._progress
        left, self._noted_sent = self._pacer.sent - self._noted_sent, self._pacer.sent
        if left:
            self._spool.catalog.note_sent(left, self._spool.now())
        self._run = replace(
            self._run,
            images=progress.images,
            bytes=progress.bytes,
            wire_bytes=self._pacer.sent,
            set_aside=progress.set_aside,
            deferred=progress.deferred,
            message=progress.message,
            failures=dict(progress.failures),
            attempts=progress.attempts,
            confirmed_at=progress.confirmed_at,
            failing_since=progress.failing_since,
        )
        return self._spool.site.save_run(self._run)

    def end(self, ending: Ending, code: Exit, gone: str) -> Run:
        """Write down how the run ended. ``gone``: what is said of objects that were confirmed once
        and are not in the bucket any more, which is an error."""
        progress = self._progress
        if gone:
            logs.get().error("bucket.gone", why=gone)
            if code is Exit.OK:
                code, progress.message = Exit.ERROR, gone
        run = with_rest(self.save(), self._spool.catalog.totals())
        outcome, code = retry_policy.conclude(
            ending.outcome,
            code,
            picked=progress.picked_images,
            attempts=progress.attempts,
            confirmed=progress.images,
            set_aside=progress.set_aside,
        )
        run = replace(run, outcome=outcome, exit_code=int(code), ended_at=self._spool.now())
        return self._spool.site.save_run(replace(run, message=self._message(run, ending)))

    def _message(self, run: Run, ending: Ending) -> str:
        """The message of the outcome."""
        tried, failed = run.attempts, run.failed_attempts
        last = f": {self._progress.last_error}" if self._progress.last_error else ""
        then = f" Then: {ending}." if ending.outcome in HELD_BACK else ""
        if run.exit_code == Exit.NOTHING_CONFIRMED:
            return f"{counted(tried, 'attempt')}, and no image was confirmed{last}{then}"
        if run.outcome in (Outcome.FAILED, Outcome.UPLINK_DOWN):
            return run.message
        if run.mostly_failed:
            return f"{failed:,} of {counted(tried, 'attempt')} failed{last}{then}"
        due = self._spool.catalog.next_due()
        if run.outcome is Outcome.NOTHING_TO_DO and due is not None and self._of_all:
            word = counted(run.waiting, "image", ("waits", "wait"))
            return f"{word} for the next attempt, at {due:%H:%M:%S} UTC or later"
        return run.message


def with_rest(run: Run, totals: Totals) -> Run:
    """The run with what it leaves behind. With nothing left, no attempt can be called fruitless."""
    waiting = totals.waiting + totals.sending
    settled = not waiting.images and not totals.set_aside.images
    since = None if settled else run.failing_since
    return replace(run, waiting=waiting.images, settled=settled, failing_since=since)


def run_id(now: datetime) -> str:
    """Names a run in logs and on the page."""
    return f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}"
