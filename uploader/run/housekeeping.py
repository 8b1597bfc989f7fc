"""What a run does besides sending: finish what a killed run left, answer requests, make room."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import datetime

from headgate.host import logs
from headgate.monitor import collect
from headgate.spool import recovery, sqlite
from headgate.spool.disk.reserve import LOW_BYTES, LOW_INODES
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Presence
from headgate.spool.spool import Spool
from headgate.spool.upkeep import search_indexes, withdrawal
from headgate.spool.upkeep.mover import Mover
from uploader.run import retry_policy
from uploader.run.report import Progress
from uploader.run.seen import Lookout

_LOOKED = "looked_at_pruned"
"""The site's memory of the last look at images that were pruned here."""
_LOOK_IMAGES = 32
_LOOK_EVERY, _LOOK_AGAIN = 86_400, 3_600  # seconds; the other where nothing could be told


class Housekeeping:
    """Does what a run does besides sending. ``lookout`` sees whether the bucket still holds what a
    local copy goes for."""

    def __init__(
        self,
        spool: Spool,
        mover: Mover,
        lookout: Lookout | None,
        progress: Progress,
        chance: Callable[[], float],
    ) -> None:
        self._spool, self._mover, self._lookout = spool, mover, lookout
        self._progress = progress
        self._log = logs.get()
        self._chance = chance
        self._arriving = 0  # bytes until the next run but one
        self._lost: list[str] = []  # keys of images that neither the bucket nor this disk has

    def begin(self) -> None:
        """Do what comes before anything is picked."""
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
        arriving = collect.forecast(self._spool).received_per_second
        # Until the next run comes, and one more: no upload is refused for the sake of copies.
        self._arriving = int(arriving * 2 * self._spool.settings.uplink.interval)
        self.make_room(now, always=True)
        for day in self._mover.drop_old_receipts(now):
            self._log.info("receipts.dropped", day=day)
        if day := search_indexes.add_to_one_day(self._spool):
            self._log.info("receipts.indexed", day=day)
        self._mover.sweep(now)
        self.look_at_pruned()

    def look_at_pruned(self) -> None:
        """Once a day, ask the bucket for some of the images whose copies here were dropped: one
        that it does not hold is lost, and is reported."""
        if self._spool.settings.destination.kind == "http":
            return  # a receiver forgets its receipts with time, which is no loss
        now, site = self._spool.now(), self._spool.site
        last = site.get(_LOOKED) or [0, 0]  # when it answered, and when it was asked
        since = [abs(now.timestamp() - at) for at in last]
        if self._lookout is None or since[0] < _LOOK_EVERY or since[1] < _LOOK_AGAIN:
            return
        some = self._spool.receipts.some_pruned(_LOOK_IMAGES, self._chance)
        if not some:
            return
        found = self._lookout(some)
        if all(one is Presence.UNKNOWN for one in found.values()):
            site.put(_LOOKED, [last[0], int(now.timestamp())])
            return
        lost = [one for one in some if found[one.id] is Presence.GONE]
        for one in lost:
            self._lost.append(self._lookout.gone.pop(one.id))
            self._log.error("image.lost", image=one.id, key=one.key)
        if lost:
            withdrawal.lose(self._spool, lost, now)
        site.put(_LOOKED, [int(now.timestamp())] * 2)

    @property
    def gone_from_bucket(self) -> str:
        """What is to be said of objects that were confirmed once, or nothing."""
        gone = list(self._lookout.gone.values()) if self._lookout is not None else []
        return retry_policy.gone_from_bucket(gone, self._lost)

    def tidy(self) -> None:
        """Do what is due now and then while the run goes on."""
        if not gc.isenabled():  # all is loaded now; see uploader.cli.main
            gc.freeze()
            gc.enable()
        now = self._spool.now()
        self._mover.answer_requests(now)
        self._spool.give_up_reserve()
        self.make_room(now)  # a long run fills done/ while it goes on
        self._spool.catalog.due(now)
        # The receiver makes them, where there is one.
        self._spool.catalog.checkpoint(sqlite.MANY_PAGES)

    def make_room(self, now: datetime, *, always: bool = False) -> None:
        """Drop local copies for what will arrive, or for a fifth of the floor at least: beyond what
        it takes for an image of the largest size to be accepted. ``always``: by their age too."""
        seen = self._spool.admission()
        ahead = max(seen.keep_free_bytes // 5, self._arriving, LOW_BYTES)
        need = max(0, seen.needed_bytes + ahead - seen.free_bytes)
        files = max(0, seen.needed_inodes + LOW_INODES - seen.free_inodes)
        if not (need or files or always):
            return
        pruned = self._mover.prune(now, need=need, need_images=files, look=self._lookout)
        self._progress.set_aside += pruned.vanished
        if pruned.images:
            self._log.info("done.pruned", images=pruned.images, bytes=pruned.bytes)
