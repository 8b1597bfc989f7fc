"""One run: requests, reconcile, prune, then pick, send, confirm and finish until it must end.

The loop below is the only thread that moves files and writes the catalog; the workers only send. So
a kill at any point leaves each image in exactly one place, and those being sent marked as such.
"""

from __future__ import annotations

import gc
import math
import os
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.monitor import collect
from headgate.settings.units import human_duration
from headgate.spool import recovery, sqlite
from headgate.spool.disk.reserve import LOW_BYTES, LOW_INODES
from headgate.spool.errors import DiskError, LockHeld
from headgate.spool.image.image import Item, Presence, State, Totals
from headgate.spool.site.outcome import HELD_BACK, Ending, Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from uploader.run import retry_policy
from uploader.run.bounds import Bounds
from uploader.run.breaker import LIMIT, Breaker
from uploader.run.concurrency import Parallel
from uploader.run.pick import Candidates, Clearance, OfOne, Picker
from uploader.run.runway import Runway
from uploader.run.sample import Sample
from uploader.run.seen import Lookout
from uploader.run.workers import Result, Workers
from uploader.wire.connection import Cutoff
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.pacer import Pacer

_AHEAD_SECONDS = 0.5  # picked before they can be sent, so that no one waits while files are moved
_AHEAD_IMAGES = 512
_LOOK_SECONDS = 0.5  # how soon a device that begins to wait, or an urgent image, is noticed
_HOUSEKEEPING_SECONDS = 1.0
_HELD_IMAGES = 1_000
_BREAK_OFF_SECONDS = 1.0  # then what is under way is left, and its outcome is unknown
_HUNG_SECONDS = 600.0
"""So long nothing may leave, arrive or end, in addition to the longest silence of a connection,
while nothing waits for the pacer either: then something hangs that knows no deadline of its
own."""
_RETRY_WORTH_WAITING = timedelta(seconds=60)
YIELD = "yield"
"""The request by which a run started by hand asks one started by cron to end soon."""


@dataclass(slots=True)
class Progress:
    """What a run has done so far, for progress reports."""

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


@dataclass(frozen=True, slots=True)
class RunContext:
    """What one run works with; ``uploader.run.start`` puts it together.

    ``patience``: seconds that one connection may be silent.
    """

    spool: Spool
    mover: Mover
    workers: Workers
    pacer: Pacer
    parallel: Parallel
    cutoff: Cutoff
    lookout: Lookout | None = None
    patience: float = 0.0
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random


class Drain:
    """One run. ``stop`` and ``break_off`` may be called from another thread."""

    def __init__(
        self,
        context: RunContext,
        run: Run,
        bounds: Bounds,
        watch: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._context, self._spool, self._pacer = context, context.spool, context.pacer
        self._mover, self._workers = context.mover, context.workers
        self._catalog = context.spool.catalog
        self.run = run
        self._bounds = bounds
        self._broken_at: float | None = None
        self._moved = context.monotonic(), 0  # when the last byte left or result came
        self._watch, self._log = watch, logs.get()
        backlog: Candidates = self._catalog.backlog
        self._source = OfOne(backlog, bounds.device) if bounds.device else backlog
        self._picker = Picker(
            self._source,
            self._catalog.backlog.served(),
            self._spool.settings.uplink.order,
        )
        self.progress = Progress()
        self._sample = Sample()
        cut = math.inf if bounds.cut_seconds is None else bounds.cut_seconds
        self._runway = Runway(
            context.spool.uplink, context.pacer, context.monotonic, context.monotonic() + cut
        )
        self._out = 0  # with the workers
        self._reached = False  # S3 answered in this run
        self._breaker = Breaker()
        self._tried_held = False
        self._again: list[str] = []  # refused before, and to be tried first
        self._down = 0
        self._calm_at = 0.0
        self._told_sent = 0  # of the bytes that left
        self._arriving = 0  # bytes until the next run but one
        self._looked_at = -_LOOK_SECONDS
        self._throttles = 0
        self._ending = Outcome.UNDER_WAY  # why nothing more is picked
        self._why_held: Ending | None = None
        self._exit = Exit.OK

    def stop(self, outcome: Outcome = Outcome.STOPPED) -> None:
        """Pick nothing more; what is being sent is finished."""
        self._ending = self._ending or outcome

    def break_off(self) -> None:
        """End now: nothing more leaves, no answer is waited for, what is under way is unknown."""
        self._broken_at = self._context.monotonic()
        self.stop()
        self._context.cutoff.set()
        self._pacer.close(Ending(Outcome.STOPPED, "it was broken off"))

    # -- the run

    def go(self) -> Run:
        """Run to the end and return the report, which is saved as well."""
        started = self._context.monotonic()
        try:
            self._begin()
            self._loop(started)
        except DiskError as error:
            self._fail(f"the disk refused: {error}")
        finally:
            self._recall()
            self._workers.shutdown(self._given_up)
            self._wind_up()
        return self._report(ended=True)

    def _begin(self) -> None:
        self._spool.site.end_killed_runs(self._spool.now())
        self._spool.site.save_run(self.run)
        try:
            with self._spool.hold_receiver_lock(wait_seconds=0):
                recovery.scan(
                    self._spool.files,
                    self._spool.catalog,
                    self._spool.receipts,
                    self._spool.site.gone,
                )
        except LockHeld:
            pass  # the receiver is up: it scanned when it started
        now = self._spool.now()
        self._mover.answer_requests(now)
        unknown = self._mover.reconcile(now)
        if unknown:
            self._log.info("run.reconciled", images=unknown)
        self._prune(now)
        self._breaker = Breaker(self._catalog.held(_HELD_IMAGES))

    def _prune(self, now: datetime) -> None:
        arriving = collect.forecast(self._spool).received_per_second
        # Until the next run comes, and one more: no upload is refused for the sake of copies.
        self._arriving = int(arriving * 2 * self._spool.settings.uplink.interval)
        self._make_room(now, always=True)
        for day in self._mover.drop_old_receipts(now):
            self._log.info("receipts.dropped", day=day)
        self._mover.sweep(now)

    def _make_room(self, now: datetime, *, always: bool = False) -> None:
        """Drop local copies for what will arrive, or for a fifth of the floor at least: beyond what
        it takes for an image of the largest size to be accepted. ``always``: by their age too."""
        seen = self._spool.admission()
        ahead = max(seen.keep_free_bytes // 5, self._arriving, LOW_BYTES)
        need = max(0, seen.needed_bytes + ahead - seen.free_bytes)
        files = max(0, seen.needed_inodes + LOW_INODES - seen.free_inodes)
        if not (need or files or always):
            return
        pruned = self._mover.prune(now, need=need, need_images=files, look=self._context.lookout)
        self.progress.set_aside += pruned.vanished
        if pruned.images:
            self._log.info("done.pruned", images=pruned.images, bytes=pruned.bytes)

    def _loop(self, started: float) -> None:
        tidied = self._context.monotonic()
        while True:
            seconds = self._bounds.seconds
            if seconds is not None and self._context.monotonic() - started >= seconds:
                self.stop(Outcome.TIME_SPENT)
            if (shut := self._pacer.closed) and not self._ending:
                self._end(shut)
            if self._ending:
                self._recall()
            else:
                self._pick()
            idle = not self._out and not self._sample.looking
            if idle and (self._ending or not self._anything_to_stay_for()):
                break
            if self._given_up():
                break
            self._check_moving()
            result = self._workers.result(0.1)
            while result is not None:
                self._moved = (self._context.monotonic(), self._pacer.sent)
                self._take(result)
                result = self._workers.result(0)
            self._finish()
            if self._context.monotonic() - tidied >= _HOUSEKEEPING_SECONDS:
                tidied = self._context.monotonic()
                self._tidy()
        self._finish(all_of_them=True)

    def _given_up(self) -> bool:
        """Whether the run was broken off, and what was under way had its time to notice."""
        at = self._broken_at
        return at is not None and self._context.monotonic() - at >= _BREAK_OFF_SECONDS

    def _check_moving(self) -> None:
        """Abort a run in which nothing happens any more: the lock must not be held forever by
        a name lookup, or by a program that was to give credentials."""
        now, hung = self._context.monotonic(), _HUNG_SECONDS + self._context.patience
        idle = not self._out and not self._sample.looking
        if idle or self._pacer.waiting or self._pacer.sent != self._moved[1]:
            self._moved = (now, self._pacer.sent)
        elif now - self._moved[0] >= hung and self._broken_at is None:
            seconds = human_duration(hung)
            self._fail(
                f"Nothing left and no answer came for {seconds}, so the run was broken off; see "
                "whether names can be looked up, and whether what gives credentials answers."
            )
            self.break_off()

    def _tidy(self) -> None:
        if not gc.isenabled():  # all is loaded now; see uploader.cli.main
            gc.freeze()
            gc.enable()
        now = self._spool.now()
        for request in self._spool.site.requests():
            if request.word == YIELD and self.run.trigger != "hand":
                self.stop(Outcome.MADE_WAY)
        self._mover.answer_requests(now)
        self._spool.give_up_reserve()
        self._make_room(now)  # a long run fills done/ while it goes on
        self._catalog.due(now)
        self._catalog.checkpoint(sqlite.MANY_PAGES)  # the receiver makes them, where there is one
        self._report(ended=False)
        self._watch(self.progress)

    # -- picking

    def _pick(self) -> None:
        if self._context.monotonic() < self._calm_at:
            return
        if self._sample.looking and not self._sample.seen:
            return  # whether the bucket keeps what it takes is not known yet
        wanted = self._context.parallel.count
        self._workers.resize(wanted)
        # One image probes the way until one is confirmed; then enough to keep all busy.
        ahead = min(_AHEAD_IMAGES, int(_AHEAD_SECONDS * self._context.parallel.images_a_second))
        alone = self._breaker.careful or bool(self._again)
        most = 1 if alone else max(3 * wanted, ahead)
        if self._out > most // 2:
            return
        images, size = most - self._out, 2**62
        if self._bounds.images:
            images = min(images, self._bounds.images - self.progress.picked_images)
        if self._bounds.bytes:
            size = self._bounds.bytes - self.progress.picked_bytes
        if images <= 0 or size <= 0:
            self._end_batch()
            return
        now = self._context.monotonic()
        look = now - self._looked_at >= _LOOK_SECONDS
        if look:
            self._looked_at = now
            self._catalog.due(self._spool.now())
        items = self._refused_before() or self._picker.pick(
            images, size, look=look, clear=self._runway.clear
        )
        refusals = self._runway.take_refusals()
        self._set_too_large_aside(refusals.never)
        if items and items[0].size > size and self.progress.picked_images:
            self._runway.ended(items)
            self._end_batch()
            return
        if refusals.short and not (items or self._out or refusals.never):
            self._end(self._runway.ending(refusals.short))
            return
        self._catalog.claim(items)
        if items:
            self._log.debug("run.picked", images=len(items), connections=wanted)
        for item in items:
            self.progress.picked_images += 1
            self.progress.picked_bytes += item.size
        self._out += len(items)
        self._workers.send(items)

    def _refused_before(self) -> list[Item]:
        """One that was refused before others were confirmed, and still waits."""
        while self._again and not self._breaker.careful:
            item = self._catalog.get(self._again.pop(0))
            waits = item is not None and item.state is State.WAITING and item.refusals
            if item is not None and waits and self._runway.clear(item) is Clearance.NOW:
                return [item]
        return []

    def _set_too_large_aside(self, items: Iterable[Item]) -> None:
        for item in items:
            why = retry_policy.larger_than_a_day(item.size, self._spool.settings.uplink.daily)
            self._mover.set_aside(item, why, self._spool.now())
            self.progress.set_aside += 1
            self._log.warning("image.too-large", image=item.id, why=why)

    def _end(self, why: Ending) -> None:
        self.progress.message = why.message
        self._why_held = why
        self.stop(why.outcome)

    def _end_batch(self) -> None:
        if not self._out:  # before that, stopping would call back what belongs to the batch
            self.stop(Outcome.BATCH_SENT)

    def _anything_to_stay_for(self) -> bool:
        if self._wait_for_retry() or self._try_held():
            return True
        if self._breaker.open and not self._ending:
            self._fail(self._breaker.words)
        return False

    def _try_held(self) -> bool:
        """Where nothing else is left to see whether the bucket takes images again: one of those
        that it refused, another one each time."""
        if self._tried_held or self._breaker.confirmed_any or self._breaker.words:
            return False
        self._tried_held = True
        held = self._catalog.held(1, self._bounds.device)
        self._catalog.release([item.id for item in held])
        return bool(held)

    def _wait_for_retry(self) -> bool:
        """Whether there is something to stay for although nothing is being sent."""
        if self._context.monotonic() < self._calm_at:
            return True
        if self._source.waiting_devices():
            return True
        due = self._catalog.next_due()
        return (
            self._bounds.until_empty
            and not self._bounds.device  # whose image is due is not known
            and due is not None
            and due <= self._spool.now() + _RETRY_WORTH_WAITING
        )

    def _recall(self) -> None:
        items = self._workers.cancel_pending()
        if items:
            self._out -= len(items)
            self._runway.ended(items)
            self._picker.give_back(items)
            self._catalog.unclaim(items)

    # -- results

    def _take(self, result: Result) -> None:
        if result.presence is not None:
            self._judge_look(result)
        else:
            self._out -= 1
            self._runway.ended([result.item])
            self._judge(result)

    def _judge(self, result: Result) -> None:
        item, error = result.item, result.error
        if result.sent is not None:
            self._reached, self._down = True, 0
            self._throttles = 0
            self.progress.attempts += 1
            now = self._context.monotonic()
            self._context.parallel.arrived(now, self._pacer.sent, self._pacer.rate)
            self._sample.confirmed(item, result.sent, now)
            if self._sample.lies:
                self._disown()
            else:
                if self._sample.start_look(now):
                    self._workers.look(item, result.sent)
                if self._sample.seen:
                    self._clear(item, result.began)
        elif result.missing:
            if self._mover.locate(item, self._spool.now()) == "nowhere":
                self._mover.lose(item, self._spool.now())
                self.progress.set_aside += 1
                self._log.error("image.lost", image=item.id)
            elif self._catalog.get(item.id) is not None:
                self._catalog.unclaim([item])
        elif result.trouble is not None:
            self._catalog.unclaim([item])
            self._fail(f"{result.trouble}")
        elif result.closed or error is None:
            self._catalog.unclaim([replace(item, unknown=True)])
        else:
            self._judge_error(item, error, result.began)

    def _judge_error(self, item: Item, error: SendError, began: float) -> None:
        now = self._spool.now()
        if error.held:  # no failure, and no proof yet; the way there is open
            self._reached, self._down, self._throttles = True, 0, 0
            self._clear(item, began)
            self._defer(item, error, now)
            return
        failures = self.progress.failures
        failures[error.kind.value] = failures.get(error.kind.value, 0) + 1
        if error.code not in retry_policy.OF_THE_FILE:
            self.progress.attempts += 1
            self.progress.failing_since = self.progress.failing_since or now
            self.progress.last_error = error.message
        self._log.warning(
            "image.failed", image=item.id, kind=error.kind.value, code=error.code, why=error.message
        )
        if error.code in retry_policy.BROKEN:
            self._context.parallel.broke(self._context.monotonic(), self._pacer.sent)
        if error.refusal:
            self._reached = self._reached or error.code not in retry_policy.OF_THE_FILE
            self._hold(item, error, began, now)
            return
        match error.kind:
            case ErrorKind.FATAL:
                self._catalog.unclaim([replace(item, unknown=item.unknown or error.unknown)])
                self._fail(error.message)
            case ErrorKind.PERMANENT:
                self._reached = True
                self._mover.set_aside(item, error.message, now)
                self.progress.set_aside += 1
            case ErrorKind.UPLINK_DOWN:
                self._down += 1
                if not self._reached or self._down >= retry_policy.DOWN_IN_A_ROW:
                    # No image is to blame, so no attempt is burnt.
                    self._catalog.unclaim([replace(item, unknown=item.unknown or error.unknown)])
                    self.progress.message = error.message
                    self._exit = Exit.UPLINK_DOWN
                    self.stop(Outcome.UPLINK_DOWN)
                else:
                    self._defer(item, error, now)
            case ErrorKind.TRANSIENT:
                self._reached = True
                if error.slow_down:
                    wait = retry_policy.pause_when_throttled(self._throttles, self._context.chance)
                    self._throttles += 1
                    self._calm_at = max(self._calm_at, self._context.monotonic() + wait)
                self._defer(item, error, now)

    def _hold(self, item: Item, error: SendError, began: float, now: datetime) -> None:
        """An answer that any image may get: what is not under way yet stays here meanwhile."""
        held = self._breaker.refused(item, error, began, self._context.monotonic())
        unknown = item.unknown or error.unknown
        self._catalog.hold(item, now, error.message, unknown=unknown, refusals=held.refusals)
        self.progress.deferred += 1
        self.progress.message = error.message
        self._recall()
        if held.ends:
            self._fail(error.message)

    def _judge_look(self, result: Result) -> None:
        self._sample.looking = False
        error, seen_before = result.error, self._sample.seen
        if result.trouble is not None:
            self._fail(f"{result.trouble}")
        elif result.presence is Presence.GONE:
            self._sample.lies = True
            self._disown()
            self._fail(retry_policy.NOT_HELD)
        elif result.presence is Presence.THERE or seen_before or (error and error.blind):
            if error is not None:
                self._log.warning("bucket.unseen", code=error.code, why=error.message)
            self._sample.answered(self._context.monotonic())
            self._clear(result.item, result.began)
        elif not result.closed:
            self._disown()
            self._fail(retry_policy.not_shown(error))

    def _disown(self) -> None:
        """Nothing that is not finished yet counts as confirmed: the next run asks for it first."""
        disowned = self._sample.take()
        if disowned:
            self.progress.failing_since = self.progress.failing_since or self._spool.now()
        self._catalog.unclaim([replace(item, unknown=True) for item, _ in disowned])

    def _clear(self, item: Item, began: float) -> None:
        """One was confirmed: who was refused between others is to blame, and the rest may go."""
        cleared = self._breaker.confirmed(item, began)
        now = self._spool.now()
        for suspect in cleared.guilty:
            if suspect.error.kind is ErrorKind.TRANSIENT:
                self._defer(suspect.item, suspect.error, now)
            else:
                self._mover.set_aside(suspect.item, suspect.error.message, now)
                self.progress.set_aside += 1
        if cleared.release:
            few = self._catalog.held(LIMIT + 1, self._bounds.device)
            # While others are still there to compare them with. After an outage it is many.
            self._again = [one.id for one in few] if len(few) <= LIMIT else []
            self._catalog.release()

    def _defer(self, item: Item, error: SendError, now: datetime) -> None:
        wait = retry_policy.wait_before_retry(item.attempts, self._context.chance)
        self._catalog.defer(
            item, now + timedelta(seconds=wait), str(error), unknown=item.unknown or error.unknown
        )
        self.progress.deferred += 1
        self.progress.message = error.message

    def _finish(self, *, all_of_them: bool = False) -> None:
        if batch := self._sample.ready(self._context.monotonic(), all_of_them=all_of_them):
            now = self._spool.now()
            self._mover.finish(batch, now)
            self.progress.confirmed_at, self.progress.failing_since = now, None
            self.progress.images += len(batch)
            self.progress.bytes += sum(item.size for item, _ in batch)
            for item, sent in batch:
                self._log.info("image.uploaded", image=item.id, bytes=item.size, key=sent.key)

    # -- the end

    def _fail(self, message: str) -> None:
        self._exit = Exit.ERROR
        self.progress.message = message
        self.stop(Outcome.FAILED)

    def _wind_up(self) -> None:
        """Give back what was claimed and never begun, also after trouble."""
        while (result := self._workers.result(0)) is not None:
            self._take(result)
        if self._sample.undecided:  # broken off before anything was seen
            self._disown()
        try:
            self._finish(all_of_them=True)
            self._make_room(self._spool.now())
        except DiskError as error:
            self._fail(f"the disk refused: {error}")
        self._catalog.backlog.credit(self._picker.served)
        self._catalog.checkpoint()

    def _tell_gone(self, gone: dict[str, str]) -> None:
        """What was confirmed once is not in the bucket: the run reports it as an error."""
        message = retry_policy.gone_from_bucket(len(gone), next(iter(gone.values())))
        self._log.error("bucket.gone", images=len(gone), why=message)
        if self._exit is Exit.OK:
            self._exit, self.progress.message = Exit.ERROR, message

    def _report(self, *, ended: bool) -> Run:
        progress = self.progress
        left, self._told_sent = self._pacer.sent - self._told_sent, self._pacer.sent
        if left:
            self._catalog.note_sent(left, self._spool.now())
        if ended and self._context.lookout is not None and self._context.lookout.gone:
            self._tell_gone(self._context.lookout.gone)
        run = replace(
            self.run,
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
        if ended:
            outcome, code = retry_policy.conclude(
                self._ending,
                self._exit,
                picked=progress.picked_images,
                attempts=progress.attempts,
                confirmed=progress.images,
                set_aside=progress.set_aside,
            )
            run = with_rest(run, self._catalog.totals())
            run = replace(run, outcome=outcome, exit_code=int(code), ended_at=self._spool.now())
            run = replace(run, message=self._message(run))
        return self._spool.site.save_run(run)

    def _message(self, run: Run) -> str:
        """The message of the outcome."""
        tried, failed = run.attempts, run.failed_attempts
        last = f": {self.progress.last_error}" if self.progress.last_error else ""
        if run.exit_code == Exit.NOTHING_CONFIRMED:
            word = "1 attempt" if tried == 1 else f"{tried} attempts"
            return f"{word}, and no image was confirmed{last}" + self._held_back()
        if run.outcome in (Outcome.FAILED, Outcome.UPLINK_DOWN):
            return run.message
        if run.mostly_failed:
            return f"{failed} of {tried} attempts failed{last}" + self._held_back()
        due = self._catalog.next_due()
        if run.outcome is Outcome.NOTHING_TO_DO and due is not None and not self._bounds.device:
            word = "1 image waits" if run.waiting == 1 else f"{run.waiting} images wait"
            return f"{word} for the next attempt, at {due:%H:%M:%S} UTC or later"
        return run.message

    def _held_back(self) -> str:
        return f" Then: {self._why_held}." if self._ending in HELD_BACK else ""


def with_rest(run: Run, totals: Totals) -> Run:
    """The run with what it leaves behind. With nothing left, no attempt can be called fruitless."""
    waiting = totals.waiting + totals.sending
    settled = not waiting.images and not totals.set_aside.images
    since = None if settled else run.failing_since
    return replace(run, waiting=waiting.images, settled=settled, failing_since=since)


def run_id(now: datetime) -> str:
    """Names a run in logs and on the page."""
    return f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}"
