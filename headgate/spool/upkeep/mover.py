"""Everything that moves or unlinks an image; only the holder of the drain lock has a Mover."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headgate.host import clock
from headgate.settings.units import of_disk
from headgate.spool.budget import ledger
from headgate.spool.disk import durable, xattrs
from headgate.spool.disk.layout import read_metadata, read_sent, write_reason, write_sent
from headgate.spool.disk.locks import Lock
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.identity import identity_of
from headgate.spool.image import names
from headgate.spool.image.image import Item, Metadata, Presence, PruneRule, Receipt, Sent, State
from headgate.spool.image.names import Name
from headgate.spool.site import holds
from headgate.spool.site.gone import Stage
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep import unfinished

_SWEEP_AFTER = timedelta(hours=1)
_PRUNE_BATCH = 500
_LOOK_BATCH = 10_000  # the more at once, the more of them one listing shows
_ALL = 1_000_000
_PAGE = 1000
_PRUNING = "pruning"  # the site's memory of the files whose receipts say "gone" already
Look = Callable[[Sequence[Receipt]], Mapping[str, Presence]]


@dataclass(frozen=True, slots=True)
class Pruned:
    """Local copies that went, and how many bytes they gave back."""

    images: int = 0
    bytes: int = 0
    vanished: int = 0  # copies of what the bucket holds no more, which were set aside


def _seen(batch: Sequence[Receipt], look: Look | None) -> Mapping[str, Presence]:
    return look(batch) if look else dict.fromkeys((one.id for one in batch), Presence.THERE)


class Mover:
    """finish, set aside, retry, discard, lose, prune, sweep, reconcile."""

    def __init__(self, spool: Spool, lock: Lock) -> None:
        self._spool = spool
        self._files = spool.files
        self._catalog = spool.catalog
        self._receipts = spool.receipts
        self._gone = spool.site.gone
        self._thumbnails = spool.thumbnails
        self.lock = lock
        self._identity = identity_of(spool.files.root)

    # -- one image

    def finish(self, batch: Sequence[tuple[Item, Sent]], now: datetime) -> None:
        """Finish images that are proved to be in the bucket: proof on the file, done/, receipt,
        catalog.

        Folders are fsynced once a batch, before the receipts say so. A crash in between costs a
        HEAD each. A file that vanished meanwhile still gets its receipt: S3 has it.
        """
        folders: set[str] = set()
        proved: list[tuple[Item, Sent]] = []
        gone: list[Item] = []
        for item, sent in batch:
            if sent.uploaded_at is None:
                sent = replace(sent, uploaded_at=now)
            proved.append((item, sent))
            source, target = self._files.new_file(item.name), self._files.done_file(item.name)
            if (folder := item.name.folder) not in folders:
                folders.add(folder)
                self._make(self._files.done, folder)
            try:
                write_sent(source, sent)
                durable.move(source, target)
            except FileExistsError:
                durable.remove(source)  # the same name is the same image
            except FileMissing:  # someone took the file; the receipt is true all the same
                if not os.path.exists(target):
                    gone.append(item)
        durable.sync_folders({self._files.done / folder for folder in folders})
        durable.sync_folders({self._files.new / folder for folder in folders})
        self._receipts.add(
            [(item.name, item, sent, sent.uploaded_at or now) for item, sent in proved]
        )
        for day in {item.name.day for item in gone}:
            self._receipts.mark_pruned(day, [item.id for item in gone], now, PruneRule.MISSING)
        self._catalog.finished([item for item, _ in proved], now)

    def set_aside(self, item: Item, reason: str, now: datetime) -> None:
        """Move an image that needs a person to aside/, and the reason with it."""
        source, target = self._files.in_new(item.name), self._files.in_aside(item.name)
        try:
            durable.move(source, target)
        except FileExistsError:
            durable.remove(source)  # the same name is the same image
        except FileMissing:
            if not target.exists():
                self.locate(item, now)
                return
        write_reason(target, reason, now)
        durable.sync_folders({self._files.aside})
        durable.sync_folders({source.parent})
        self._catalog.put_aside(item.id, reason)

    def retry(self, image_id: str) -> bool:
        """Back from aside/ to new/, or out of its wait; False if there is no such image alive."""
        item = self._catalog.get(image_id)
        if item is None:
            return False
        if item.state is State.SET_ASIDE:
            source, target = self._files.in_aside(item.name), self._files.in_new(item.name)
            if source.exists():
                xattrs.clear_attribute(source, xattrs.ASIDE_ATTRIBUTE)
                self.place(source, self._files.new, item.name)
            elif not target.exists():
                if self.locate(item, self._spool.now()) == "nowhere":
                    self.lose(item, self._spool.now())
                return False
        self._catalog.put_back(item.id)
        return True

    def discard(self) -> int:
        """Carry out what was asked for: the line in the books is there, now the file may go. How
        many are gone. Whatever was put back, or was sent, meanwhile stays."""
        done = 0
        for line in self._gone.of(Stage.ASKED):
            name = names.parse(f"{line.id}.{line.ext}")
            item, aside = self._catalog.get(line.id), self._files.in_aside(name)
            elsewhere = any(path != aside for path in self._files.places(name))
            if elsewhere or self._receipts.get(line.id) is not None:
                self._gone.returned(line.id)
                continue
            if item is not None and item.state is not State.SET_ASIDE:
                self._gone.returned(line.id)
                continue
            durable.remove(aside)
            durable.sync_folders({self._files.aside})
            # The line first: at every instant something counts this image as received.
            self._gone.discarded(line.id, line.at)
            self._catalog.drop([line.id])
            self._thumbnails.forget(line.id)
            done += 1
        return done

    def welcome_back(self) -> int:
        """Lines of images that are here again, or were found to be uploaded, count no more. How
        many: someone restored a backup."""
        back = 0
        for line in self._gone.of(Stage.LOST) + self._gone.of(Stage.DISCARDED):
            if not line.is_named:
                continue
            alive = self._catalog.get(line.id)
            here = alive is not None and bool(self._files.places(alive.name))
            if here or self._receipts.get(line.id) is not None:
                self._gone.returned(line.id)
                back += 1
        return back

    def drop_rows_counted_elsewhere(self) -> int:
        """Drop the rows of images that a receipt, or a line among those that are gone, counts as
        well; how many. A run that was killed between the two writes leaves such a row."""
        dropped, after = 0, 0
        while page := self._catalog.after(after, _PAGE):
            after = page[-1].arrival
            twice = [item.id for item in page if self._counts_elsewhere(item.id)]
            self._catalog.drop(twice)
            dropped += len(twice)
        return dropped

    def _counts_elsewhere(self, image_id: str) -> bool:
        line = self._gone.get(image_id)
        gone = line is not None and line.stage is not Stage.ASKED
        return gone or self._receipts.get(image_id) is not None

    def lose(self, item: Item, now: datetime) -> None:
        """Record an image whose file is nowhere: it keeps a line in the books, which verify names
        until a person discards it. DiskError where the whole spool went away: then no file is
        there."""
        if identity_of(self._files.root) != self._identity:
            gone = OSError(errno.ENODEV, "another spool, or none, is at this path now")
            raise DiskError(gone, f"looking for {item.name.file}")
        reason = f"it was {item.state.replace('_', ' ')}, and its file is nowhere"
        self._gone.lose(item, now, reason)
        self._catalog.drop([item.id])

    @staticmethod
    def _make(base: Path, folder: str) -> None:
        os.close(durable.make_folder(base, folder))

    def place(self, source: Path, base: Path, name: Name) -> None:
        """Move a file to where it belongs below new/ or done/, durably."""
        self._make(base, name.folder)
        durable.move(source, base / name.folder / name.file)
        durable.sync_folders({base / name.folder})
        durable.sync_folders({source.parent})

    # -- what a killed run left

    def reconcile(self, now: datetime) -> int:
        """Images that a killed run was sending wait again, to be asked for; how many.

        And those that were put back from aside/ by a move whose row an unclean stop lost: nothing
        would ever pick them. (A lost row of the other kind shows when the image is picked.) And a
        prune that broke off is finished.
        """
        noted = [names.parse(file) for file in self._spool.site.get(_PRUNING) or ()]
        found = [(name, self._receipts.get(name.id)) for name in noted]
        self._remove_copies([name for name, one in found if one is not None and not one.local])
        unfinished.finish(self._spool)
        self.discard()
        self.welcome_back()
        # Its receipt was written, and the run ended before the row was dropped.
        sending = self._catalog.in_state(State.SENDING, _ALL)
        self._catalog.drop([item.id for item in sending if self._counts_elsewhere(item.id)])
        for item in self._catalog.in_state(State.SET_ASIDE, _ALL):
            aside = self._files.in_aside(item.name)
            if not os.path.lexists(aside) and self.locate(item, now) == "nowhere":
                self.lose(item, now)
        return self._catalog.reclaim()

    def locate(self, item: Item, now: datetime) -> str:
        """The catalog says new/, and no file is there: see where it is, and believe that.

        ``done``, ``aside``, ``new`` (it is there after all), ``gone`` (its line says so, and an
        unclean stop brought its row back) or ``nowhere``.
        """
        in_done, in_aside = self._files.in_done(item.name), self._files.in_aside(item.name)
        if self._receipts.get(item.id) is not None:
            self._catalog.drop([item.id])
            return "done"
        if in_done.exists():
            sent = read_sent(in_done)
            if sent is not None:
                at = sent.uploaded_at or now
                self._receipts.add([(item.name, item, sent, at)])
                self._catalog.drop([item.id])
                return "done"
            # Unproved in done/: back to where it is asked for and, if need be, sent.
            self.place(in_done, self._files.new, item.name)
            self._catalog.put_back(item.id)
            return "new"
        if in_aside.exists():
            self._catalog.put_aside(item.id, item.last_error)
            return "aside"
        if os.path.lexists(self._files.in_new(item.name)):
            if item.state is State.SET_ASIDE:
                self._catalog.put_back(item.id)
            return "new"
        line = self._gone.get(item.id)
        if line is not None and line.stage is not Stage.ASKED:
            self._catalog.drop([item.id])
            return "gone"
        return "nowhere"

    # -- done/ and empty folders

    def prune(
        self, now: datetime, *, need: int = 0, need_images: int = 0, look: Look | None = None
    ) -> Pruned:
        """Drop local copies older than ``keep_done``, beyond ``keep_done_max``, or to free
        ``need`` bytes or the inodes of ``need_images``; the oldest go first, and never one without
        a receipt, or one that a person holds.

        ``look`` sees whether the bucket still holds them: a copy of what it does not hold is set
        aside, and one that could not be checked goes only where the disk needs its room."""
        held = [hold.subject for hold in self._spool.site.holds.all()]
        but = holds.names(held, holds.Kind.IMAGE), holds.names(held, holds.Kind.DEVICE)
        keep = timedelta(seconds=self._spool.settings.spool.keep_done)
        _, disk, _ = self._spool.free()
        most = of_disk(self._spool.settings.spool.keep_done_max, disk)
        local, _ = self._receipts.totals()
        over = max(local.bytes - most, need)
        rule = PruneRule.ROOM if need or need_images else PruneRule.SIZE
        total = Pruned()
        if self._may_judge_age(now):
            for day in self._receipts.days_with_copies():
                while batch := self._receipts.oldest_local(day, _LOOK_BATCH, now - keep, but=but):
                    found = _seen(batch, look)
                    total = self._set_vanished_aside(day, batch, found, now, total)
                    seen = [one for one in batch if found[one.id] is Presence.THERE]
                    total = self._drop_local(day, seen, total, PruneRule.AGE)
                    if len(seen) < len(batch):
                        break  # the rest is asked for by the next run
        for day in self._receipts.days_with_copies():
            while (total.bytes < over or total.images < need_images) and (
                batch := self._receipts.oldest_local(day, _PRUNE_BATCH, but=but)
            ):
                found = _seen(batch, look)
                total = self._set_vanished_aside(day, batch, found, now, total)
                picked: list[Receipt] = []
                size = total.bytes
                for one in batch:
                    needed = size < need or total.images + len(picked) < need_images
                    if not needed and size >= over:
                        break
                    # No upload is refused for the sake of copies, be they seen or not.
                    unseen = found[one.id] is Presence.UNKNOWN and needed
                    if unseen or found[one.id] is Presence.THERE:
                        picked.append(one)
                        size += one.size
                total = self._drop_local(day, picked, total, rule)
                if not picked:
                    break
        return total

    def _drop_local(
        self, day: str, receipts: list[Receipt], total: Pruned, rule: PruneRule
    ) -> Pruned:
        now = self._spool.now()
        # The receipts first: they may say "gone" of a file that is still there, not the reverse.
        # A run that ends in between has left a note of what the next one has to finish.
        for start in range(0, len(receipts), _PRUNE_BATCH):
            batch = receipts[start : start + _PRUNE_BATCH]
            self._spool.site.put(_PRUNING, [one.name.file for one in batch])
            self._receipts.mark_pruned(day, [one.id for one in batch], now, rule)
            self._remove_copies([one.name for one in batch])
            size = total.bytes + sum(one.size for one in batch)
            total = replace(total, images=total.images + len(batch), bytes=size)
        return total

    def _remove_copies(self, pruned: Sequence[Name]) -> None:
        """On disk before the note of them goes: no power cut brings back what a receipt denies."""
        paths = [self._files.in_done(name) for name in pruned]
        for path in paths:
            durable.remove(path)
        durable.sync_folders({path.parent for path in paths})
        self._spool.site.put(_PRUNING, None)

    def _set_vanished_aside(
        self,
        day: str,
        batch: Sequence[Receipt],
        found: Mapping[str, Presence],
        now: datetime,
        total: Pruned,
    ) -> Pruned:
        """What the bucket confirmed and holds no more is not safe to erase: its copy goes from
        done/ to aside/, and its receipt is withdrawn.

        The file first, the receipt last: a crash in between is made good by the next run, which
        finds the same image among those that its receipt calls local.
        """
        vanished = [one for one in batch if found[one.id] is Presence.GONE]
        done: list[str] = []
        for one in vanished:
            source, target = self._files.in_done(one.name), self._files.in_aside(one.name)
            reason = (
                f"The bucket {one.bucket} confirmed it and does not hold it any more, as "
                f"{one.key}; headgate retry sends it again."
            )
            try:
                durable.move(source, target)
                durable.sync_folders({self._files.aside})
                durable.sync_folders({source.parent})
            except FileExistsError:
                durable.remove(source)  # the same name is the same image
            except FileMissing:
                if not target.exists():
                    continue  # no copy is left; verify reports it
            xattrs.clear_attribute(target, xattrs.SENT_ATTRIBUTE)
            write_reason(target, reason, now)
            meta = self._known(target, one)
            self._catalog.reopen(one.name, meta, State.SET_ASIDE, reason)
            done.append(one.id)
        self._spool.withdraw(day, done)
        return replace(total, vanished=total.vanished + len(done))

    @staticmethod
    def _known(path: Path, one: Receipt) -> Metadata:
        """What its file says of it; where that cannot be read, what the receipt says."""
        try:
            return read_metadata(path, one.name)
        except (OSError, DiskError, FileMissing):
            return Metadata(
                one.sha256, one.size, one.media_type, key=one.key_given, sequence=one.sequence
            )

    def _may_judge_age(self, now: datetime) -> bool:
        site = self._spool.site
        seen = clock.Seen(now.timestamp(), ledger.boottime() / 1e9, ledger.boot_id().hex())
        last = site.get("clock")
        suspicious = clock.suspicious_until(
            clock.Seen(*last["seen"]) if last else None, seen, last["until"] if last else 0.0
        )
        site.put("clock", {"seen": astuple(seen), "until": suspicious})
        return seen.uptime >= suspicious

    def drop_old_receipts(self, now: datetime) -> list[str]:
        """Drop whole days older than ``keep_receipts`` whose local copies are all gone, and lines
        of the audit log older than ``keep_audit``."""
        if not self._may_judge_age(now):
            return []
        kept = timedelta(seconds=self._spool.settings.auth.keep_audit)
        self._spool.site.audit.drop_before(now, kept)
        keep = timedelta(seconds=self._spool.settings.spool.keep_receipts)
        oldest = f"{now - keep:%Y-%m-%d}"
        dropped = []
        for day in self._receipts.days():
            if day >= oldest or self._receipts.oldest_local(day, 1):
                continue
            generation = self._receipts.generation(day)
            self._spool.site.forget_day(generation, self._receipts.day_totals(day))
            self._receipts.forget(day)
            path = self._receipts.path(day)
            for suffix in ("-wal", "-shm", ""):
                durable.remove(path.with_name(path.name + suffix))
            dropped.append(day)
        return dropped

    def sweep(self, now: datetime) -> int:
        """Remove minute folders that are empty, an hour after their minute at the earliest."""
        removed = 0
        for base in (self._files.new, self._files.done):
            days = set()
            for folder in list(self._files.minutes(base)):
                at = datetime.strptime(folder, "%Y-%m-%d/%H%M").replace(tzinfo=UTC)
                if at + _SWEEP_AFTER + timedelta(minutes=1) > now:
                    continue
                if durable.remove_empty(base / folder):
                    removed += 1
                    days.add(folder.partition("/")[0])
            for day in days:
                at = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
                if at + timedelta(days=1) + _SWEEP_AFTER < now:
                    durable.remove_empty(base / day)
        return removed

    # -- requests of commands that could not have the lock

    def answer_requests(self, now: datetime) -> int:
        """Carry out what was asked for while the lock was held; how many."""
        answered = self.discard()
        for request in self._spool.site.requests():
            if request.word != RETRY:
                continue  # for someone else
            self.retry(request.image)
            self._spool.site.complete_request(request)
            answered += 1
        return answered
