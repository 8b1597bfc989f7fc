"""One run: requests, reconcile, prune, then pick, send, confirm and finish until it must end.

The loop below is the only thread that moves files and writes the catalog; the workers only send. So
a kill at any point leaves each image in exactly one place, and those being sent marked as such.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Item, Presence
from headgate.spool.site.outcome import Ending, Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from uploader.run import retry_policy
from uploader.run.bounds import Bounds
from uploader.run.concurrency import Parallel
from uploader.run.housekeeping import Housekeeping
from uploader.run.on_hold import OnHold
from uploader.run.pick import Candidates, Clearance, OfOne, Picker
from uploader.run.report import Progress, RunReport
from uploader.run.runway import Runway
from uploader.run.sample import Sample
from uploader.run.seen import Lookout
from uploader.run.standstill import Standstill
from uploader.run.throttle import Throttle
from uploader.run.workers import Result, Workers
from uploader.wire.connection import Cutoff
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.pacer import Pacer

_AHEAD_SECONDS = 0.5  # picked before they can be sent, so that no one waits while files are moved
_AHEAD_IMAGES = 512
_LOOK_SECONDS = 0.5  # how soon a device that begins to wait, or an urgent image, is noticed
_HOUSEKEEPING_SECONDS = 1.0
_BREAK_OFF_SECONDS = 1.0  # then what is under way is left, and its outcome is unknown
_RETRY_WORTH_WAITING = timedelta(seconds=60)
YIELD = "yield"
"""The request by which a run started by hand asks one started by cron to end soon."""


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
    """One run of the uploader. ``stop`` and ``break_off`` may be called from another thread."""

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
        self._run = run
        self._bounds = bounds
        self._broken_at: float | None = None
        self._standstill = Standstill(context.patience, context.monotonic())
        self._watch = watch
        self._log = logs.get().bind()  # bound once: a line that is not wanted costs nothing
        backlog: Candidates = self._catalog.backlog
        self._source = OfOne(backlog, bounds.device) if bounds.device else backlog
        self._picker = Picker(
            self._source,
            self._catalog.backlog.served(),
            self._spool.settings.uplink.order,
        )
        self.progress = Progress()
        self._report = RunReport(
            context.spool, context.pacer, run, self.progress, of_all=not bounds.device
        )
        self._housekeeping = Housekeeping(
            context.spool, context.mover, context.lookout, self.progress, context.chance
        )
        self._on_hold = OnHold(self._catalog, bounds.device, context.monotonic)
        self._sample = Sample()
        cut = math.inf if bounds.cut_seconds is None else bounds.cut_seconds
        self._runway = Runway(
            context.spool.uplink, context.pacer, context.monotonic, context.monotonic() + cut
        )
        self._out = 0  # with the workers
        self._reached = False  # S3 answered in this run
        self._down = 0
        self._calm_at = 0.0
        self._looked_at = -_LOOK_SECONDS
        self._throttle = Throttle(context.chance)
        self._ending = Ending(Outcome.UNDER_WAY)  # why nothing more is picked
        self._exit = Exit.OK

    def stop(self, outcome: Outcome = Outcome.STOPPED) -> None:
        """Pick nothing more; what is being sent is finished."""
        self._end(Ending(outcome))

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
            self._spool.site.end_killed_runs(self._spool.now())
            self._spool.site.save_run(self._run)
            self._housekeeping.begin()
            self._on_hold.load()
            self._loop(started)
        except DiskError as error:
            self._fail(f"the disk refused: {error}")
        finally:
            self._recall()
            self._workers.shutdown(self._given_up)
            self._wind_up()
        return self._report.end(self._ending, self._exit, self._housekeeping.gone_from_bucket)

    def _loop(self, started: float) -> None:
        tidied = self._context.monotonic()
        while True:
            seconds = self._bounds.seconds
            if seconds is not None and self._context.monotonic() - started >= seconds:
                self.stop(Outcome.TIME_SPENT)
            if (shut := self._pacer.closed) and not self._ending.outcome:
                self._end(shut)
            if self._ending.outcome:
                self._recall()
            else:
                self._pick()
            idle = not self._out and not self._sample.looking
            if idle and (self._ending.outcome or not self._anything_to_stay_for()):
                break
            if self._given_up():
                break
            self._check_moving()
            result = self._workers.result(0.1)
            while result is not None:
                self._standstill.moved(self._context.monotonic())
                self._take(result)
                result = self._workers.result(0)
            self._finish()
            if self._context.monotonic() - tidied >= _HOUSEKEEPING_SECONDS:
                tidied = self._context.monotonic()
                self._make_way()
                self._housekeeping.tidy()
                self._report.save()
                self._watch(self.progress)
        self._finish(all_of_them=True)

    def _given_up(self) -> bool:
        """Whether the run was broken off, and what was under way had its time to notice."""
        at = self._broken_at
        return at is not None and self._context.monotonic() - at >= _BREAK_OFF_SECONDS

    def _check_moving(self) -> None:
        """End a run in which nothing happens any more, so that it does not hold the lock."""
        idle = self._pacer.waiting or (not self._out and not self._sample.looking)
        now, sent = self._context.monotonic(), self._pacer.sent
        if self._standstill.found(now, sent, idle=idle) and self._broken_at is None:
            self._fail(self._standstill.sentence)
            self.break_off()

    def _make_way(self) -> None:
        for request in self._spool.site.requests():
            if request.word == YIELD and self._run.trigger != "hand":
                self.stop(Outcome.MADE_WAY)

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
        most = 1 if self._on_hold.one_at_a_time else max(3 * wanted, ahead)
        if self._out > most // 2:
            return
        images, size = self._bounds.left(self.progress.picked_images, self.progress.picked_bytes)
        images = min(images, most - self._out)
        if images <= 0 or size <= 0:
            if not self._out:  # before that, stopping would call back what belongs to the batch
                self.stop(Outcome.BATCH_SENT)
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
        for item in refusals.never:
            self._log.warning("image.too-large", image=item.id, bytes=item.size)
            daily = self._spool.settings.uplink.daily
            self._set_aside(item, retry_policy.larger_than_a_day(item.size, daily))
        if items and items[0].size > size and self.progress.picked_images:
            self._runway.ended(items)
            if not self._out:
                self.stop(Outcome.BATCH_SENT)
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
        """An image that was refused before others were confirmed, if it may start."""
        item = self._on_hold.next_again()
        return [item] if item and self._runway.clear(item) is Clearance.NOW else []

    def _end(self, why: Ending) -> None:
        self.progress.message = why.message or self.progress.message
        if not self._ending.outcome:
            self._ending = why

    def _anything_to_stay_for(self) -> bool:
        if self._wait_for_retry() or self._on_hold.probe():
            return True
        if refusal := self._on_hold.refusal:
            self._fail(refusal)
        return False

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
            self._throttle.taken()
            self.progress.attempts += 1
            now = self._context.monotonic()
            self._context.parallel.arrived(now, self._pacer.sent, self._pacer.rate)
            self._sample.confirmed(item, result.sent, now)
            if self._sample.lies:
                self._disown()
                return
            if self._sample.start_look(now):
                self._workers.look(item, result.sent)
            if self._sample.seen:
                self._confirmed(item, result.began)
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
            self._reached, self._down = True, 0
            self._throttle.taken()
            self._confirmed(item, began)
            self._defer(item, error, now)
            return
        self.progress.failed(error, now)
        self._log.warning(
            "image.failed", image=item.id, kind=error.kind.value, code=error.code, why=error.message
        )
        if error.code in retry_policy.BROKEN:
            self._context.parallel.broke(self._context.monotonic(), self._pacer.sent)
        if error.refusal:
            self._reached = self._reached or error.code not in retry_policy.OF_THE_FILE
            self._refused(item, error, began, now)
            return
        match error.kind:
            case ErrorKind.FATAL:
                self._catalog.unclaim([replace(item, unknown=item.unknown or error.unknown)])
                self._fail(error.message)
            case ErrorKind.PERMANENT:
                self._reached = True
                self._set_aside(item, error.message)
            case ErrorKind.UPLINK_DOWN:
                self._down += 1
                if not self._reached or self._down >= retry_policy.DOWN_IN_A_ROW:
                    # No image is to blame, so no attempt is burnt.
                    self._catalog.unclaim([replace(item, unknown=item.unknown or error.unknown)])
                    self._exit = Exit.UPLINK_DOWN
                    self._end(Ending(Outcome.UPLINK_DOWN, error.message))
                else:
                    self._defer(item, error, now)
            case ErrorKind.TRANSIENT:
                self._reached = True
                pause = self._throttle.refused(error.wait_seconds) if error.slow_down else 0.0
                self._calm_at = max(self._calm_at, self._context.monotonic() + (pause or 0.0))
                self._defer(item, error, now, at_once=pause is None)

    def _refused(self, item: Item, error: SendError, began: float, now: datetime) -> None:
        """An answer that any image may get: what is not under way yet stays here meanwhile."""
        ends = self._on_hold.refused(item, error, began, now)
        self.progress.deferred += 1
        self.progress.message = error.message
        self._recall()
        if ends:
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
            self._confirmed(result.item, result.began)
        elif not result.closed:
            self._disown()
            self._fail(retry_policy.not_shown(error))

    def _disown(self) -> None:
        """Nothing that is not finished yet counts as confirmed: the next run asks for it first."""
        disowned = self._sample.take()
        if disowned:
            self.progress.failing_since = self.progress.failing_since or self._spool.now()
        self._catalog.unclaim([replace(item, unknown=True) for item, _ in disowned])

    def _confirmed(self, item: Item, began: float) -> None:
        """One is confirmed, so those that were refused between others are to blame themselves."""
        now = self._spool.now()
        for suspect in self._on_hold.confirmed(item, began):
            if suspect.error.kind is ErrorKind.TRANSIENT:
                self._defer(suspect.item, suspect.error, now)
            else:
                self._set_aside(suspect.item, suspect.error.message)

    def _set_aside(self, item: Item, why: str) -> None:
        self._mover.set_aside(item, why, self._spool.now())
        self.progress.set_aside += 1

    def _defer(self, item: Item, error: SendError, now: datetime, at_once: bool = False) -> None:
        wait = retry_policy.wait_before_retry(item.attempts, self._context.chance)
        due = now + timedelta(seconds=max(error.wait_seconds, 0.0 if at_once else wait))
        self._catalog.defer(item, due, str(error), unknown=item.unknown or error.unknown)
        if at_once:
            self._catalog.due(now)
        self.progress.deferred += 1
        self.progress.message = error.message

    def _finish(self, *, all_of_them: bool = False) -> None:
        if batch := self._sample.ready(self._context.monotonic(), all_of_them=all_of_them):
            now = self._spool.now()
            self._mover.finish(batch, now)
            self.progress.finished([item for item, _ in batch], now)
            for item, sent in batch:
                self._log.info("image.uploaded", image=item.id, bytes=item.size, key=sent.key)

    # -- the end

    def _fail(self, message: str) -> None:
        self._exit = Exit.ERROR
        self._end(Ending(Outcome.FAILED, message))

    def _wind_up(self) -> None:
        """Give back what was claimed and never begun, also after trouble."""
        while (result := self._workers.result(0)) is not None:
            self._take(result)
        if self._sample.undecided:  # broken off before anything was seen
            self._disown()
        try:
            self._finish(all_of_them=True)
            self._housekeeping.make_room(self._spool.now())
        except DiskError as error:
            self._fail(f"the disk refused: {error}")
        self._catalog.backlog.credit(self._picker.served)
        self._catalog.checkpoint()
