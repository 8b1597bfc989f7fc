"""The spool as its users see it: the receiver's side, and what everybody may read."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from headgate.host import logs, mounts, set_clock
from headgate.host.board import Board, Part
from headgate.settings import units
from headgate.settings.settings import Settings
from headgate.spool import identity, recovery, sqlite
from headgate.spool.budget.uplink import Uplink, create_ledgers
from headgate.spool.catalog import refused
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.device_stats import ClockReading
from headgate.spool.catalog.refused import RefusedLately
from headgate.spool.dedupe import DuplicateLookup, KeyedLocks, identities
from headgate.spool.disk import durable, locks, reserve
from headgate.spool.disk.cpu_turns import CpuTurns
from headgate.spool.disk.durable import Folders, Incoming
from headgate.spool.disk.group_commit import GroupCommit
from headgate.spool.disk.layout import FOLDERS, Files
from headgate.spool.disk.locks import Lock
from headgate.spool.disk.room import Admission, FreeSpace, Receiving, admission
from headgate.spool.disk.thumbnail_files import ThumbnailFiles
from headgate.spool.errors import (
    AttributesError,
    DiskError,
    IdentityConflict,
    LockHeld,
    SpoolFull,
    SpoolUnsuitable,
)
from headgate.spool.image import names
from headgate.spool.image.image import GONE, Count, Item, Metadata, Receipt, State
from headgate.spool.image.names import EXTENSIONS, Name
from headgate.spool.query import Page, Query
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.recovery import Recovered
from headgate.spool.site.site import Site

if TYPE_CHECKING:
    from headgate.spool.elsewhere import Elsewhere

_NOT_GONE = frozenset(State) - GONE
CHORES_SECONDS = 2.0
"""Between two checkpoints."""
RESERVE_ROUNDS = 15
"""How many of these pass before the reserve is looked at."""
SAFE_OFF = "safe_off"
"""The site's memory of who takes this gateway out of service, and since when."""
RETRY = "retry"
"""The request to put an image back that is set aside, or that waits for its next attempt."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The image is ours, durably; ``duplicate`` if it already was."""

    receipt: Receipt
    duplicate: bool


def utc_now() -> datetime:
    """The wall clock, as an aware time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Inventory:
    """How many images were ever received, and in which state they are now."""

    received: Count
    waiting: Count
    sending: Count
    held: Count  # by a person
    set_aside: Count
    uploaded_local: Count
    uploaded_pruned: Count
    lost: Count  # no file, no proof, and no one said that this is all right
    discarded: Count  # given up by a person
    purged: Count  # erased for good

    @property
    def unaccounted(self) -> int:
        """Images that were received and are in no state; not 0: something is wrong, run verify."""
        known = self.waiting + self.sending + self.held + self.set_aside
        known += self.lost + self.discarded + self.purged
        return self.received.images - (known + self.uploaded_local + self.uploaded_pruned).images


@dataclass(frozen=True, slots=True)
class _Linked:
    """An image in a minute folder, open as ``folder``, that waits for its commit."""

    folder: int
    name: Name
    meta: Metadata
    clock: ClockReading | None


class Spool:
    """One spool folder that is open. Open it after any fork; close it when done."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
        board: Board | None = None,
    ) -> None:
        """For internal use: call ``Spool.open``; this opens what is there."""
        self.settings = settings
        self.board = board or Board.alone()
        self.cpu_turns = CpuTurns()
        self.board.waiting = self.cpu_turns.waiting
        self.path = settings.spool.path
        self.now = now
        self.files = Files(self.path)
        state = self.files.state
        try:
            self.catalog = Catalog(state / "catalog.sqlite3", self.board)
        except sqlite.Damaged as error:
            raise SpoolUnsuitable(
                f"the catalog in {state} is damaged ({error}); stop the receiver and run "
                "headgate verify --repair, which rebuilds it from the images"
            ) from error
        except sqlite.Error as error:
            raise SpoolUnsuitable(f"the catalog in {state} cannot be opened: {error}") from error
        try:
            self.site = Site(state / "site.sqlite3")
        except sqlite.Damaged as error:
            self.catalog.close()
            raise SpoolUnsuitable(
                f"{state}/site.sqlite3 is damaged ({error}); headgate verify --repair repairs an "
                "index; put any other file back from a backup, as docs/OPERATING.md says"
            ) from error
        except sqlite.Error as error:
            self.catalog.close()
            raise SpoolUnsuitable(f"{state}/site.sqlite3 cannot be opened: {error}") from error
        except BaseException:
            self.catalog.close()
            raise
        self.uplink = Uplink(settings, self.site, state, lambda: self.now())
        self.receipts = Receipts(state / "receipts")
        self.thumbnails = ThumbnailFiles(state)
        kept = max(settings.spool.dedupe, settings.spool.keep_done)
        self._held = DuplicateLookup(self.files, self.catalog, self.receipts, self.site.gone, kept)
        self.elsewhere: Elsewhere | None = None
        """What other gateways of the site have; None: this one shares nothing with another."""
        if settings.shares_uplink:
            from headgate.spool.elsewhere import Elsewhere  # nobody else pays for it

            self.elsewhere = Elsewhere(settings, self.site, self.cpu_turns.waiting)
        self._identities = KeyedLocks(self.cpu_turns.waiting, self.board)
        self._commits = GroupCommit(self._commit, self.cpu_turns.waiting)
        self._folders = Folders(self.files.new)
        self._refused = refused.Pending()
        self._clock: set_clock.ArrivalClock | None = None
        self._closing = threading.Event()
        self._chores: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        *,
        create: bool = True,
        probe: bool = True,
        now: Callable[[], datetime] = utc_now,
        board: Board | None = None,
    ) -> Spool:
        """The spool that the settings name, made where it is missing unless ``create`` is False.
        ``board`` is what the processes of a receiver share.

        SpoolUnsuitable if this place cannot keep the promise: the sentence says what can.
        """
        identity.check(settings)
        state = settings.spool.path / "state"
        reserve.give_up(state)
        try:
            prepare(settings, create=create, probe=probe)
        except SpoolFull:  # a quota, perhaps: what is free says nothing of it
            ThumbnailFiles(state).give_up()
            reserve.give_up(state, everything=True)
            prepare(settings, create=create, probe=probe)
        try:
            opened = cls(settings, now, board)
        except sqlite.Error as error:
            raise SpoolUnsuitable(
                f"the databases in {state} cannot be opened ({error}); if the disk has no room "
                "for their -wal and -shm files (df -h, df -i), free some"
            ) from error
        identity.settle(settings, now())
        return opened

    def give_up_reserve(self) -> None:
        """Free some of the spool's own reserve, where the disk is full."""
        reserve.give_up(self.files.state)
        self._give_thumbnails_room()

    def _give_thumbnails_room(self) -> None:
        """Remove the thumbnails if the next upload could soon lack their room."""
        seen = self.admission()
        self.thumbnails.make_room(
            seen.free_bytes - seen.needed_bytes, seen.free_inodes - seen.needed_inodes
        )

    def _renew_reserve(self) -> None:
        """Keep it again, once an image would be taken all the same."""
        seen = self.admission()
        if seen.accepting:
            reserve.make(
                self.files.state,
                seen.free_bytes - seen.needed_bytes - reserve.LOW_BYTES,
                seen.free_inodes - seen.needed_inodes - reserve.LOW_INODES,
            )

    def close(self) -> None:
        self._closing.set()
        if self._chores is not None:
            self._chores.join()
        self._folders.close()
        with contextlib.suppress(sqlite.Error):  # of a full disk: counts are no image
            self._refused.write(self.catalog.note_refused, self.now())
        self.receipts.close()
        self.site.close()
        self.catalog.close()

    # -- the receiver's side

    def hold_receiver_lock(self, wait_seconds: float = 2, pid: int | None = None) -> Lock:
        """There is one receiver; LockHeld names the other. ``pid`` is the process that will hold
        the lock, this one by default."""
        try:
            return locks.acquire(
                self.files.tmp,
                self.files.state / "receiver.lock",
                "a receiver",
                wait_seconds=wait_seconds,
                pid=pid,
            )
        except LockHeld as error:
            raise LockHeld(f"{error}: this spool already has its receiver; stop that one") from None

    def hold_drain_lock(self, who: str, wait_seconds: float) -> Lock:
        """Who holds it may move and unlink in new/, done/ and aside/."""
        return locks.acquire(
            self.files.new, self.files.state / "drain.lock", who, wait_seconds=wait_seconds
        )

    def recover(self) -> Recovered:
        """Make good an unclean stop; the receiver calls it under its lock, before it listens."""
        cut_off = durable.empty_tmp(self.files.tmp)
        restored = recovery.scan(self.files, self.catalog, self.receipts, self.site.gone)
        self._renew_reserve()
        return Recovered(cut_off, restored)

    def recover_from(self, process: int) -> Recovered:
        """Make good the death of one process of the receiver, while the others go on."""
        cut_off = durable.empty_tmp(self.files.tmp, _prefix(process))
        folders = self.catalog.minutes.marked_by(process)
        restored = recovery.adopt(self.files, self.catalog, self.receipts, self.site.gone, folders)
        self.catalog.minutes.unmark(process)
        return Recovered(cut_off, restored)

    def start_chores(self) -> None:
        """Checkpoints and the like, by a thread, for as long as this process receives."""
        self._chores = threading.Thread(target=self._do_chores, name="chores", daemon=True)
        self._chores.start()

    def _do_chores(self) -> None:
        """Do checkpoints and the like; of several processes one also does what is done once: it
        holds the lock for it, which is another's when it dies."""
        rounds, does_it = 0, False
        while not self._closing.wait(CHORES_SECONDS):
            does_it = does_it or self.board.lock(Part.CHORES).try_enter()
            rounds += 1
            if does_it:
                self._give_thumbnails_room()
            if does_it and rounds % RESERVE_ROUNDS == 0:
                self._renew_reserve()
            try:
                self._refused.write(self.catalog.note_refused, self.now())
                if does_it:
                    self.catalog.checkpoint()
            except sqlite.Error:
                continue  # the disk's trouble shows at the next accept, which can say so

    def mark_arrivals(self, newest_known_at: datetime | None) -> str:
        """Mark images that arrive before this machine's clock can be believed; returns why it
        cannot be at this moment, empty if it can. The receiver calls it when it has waited."""
        self._clock = set_clock.ArrivalClock(newest_known_at)
        return self._clock.reason(self.now())

    def incoming(self) -> Incoming:
        """A file in tmp/ to receive into; a context manager."""
        return Incoming(self.files.tmp, _prefix(self.board.number))

    def accept(
        self,
        incoming: Incoming,
        device: str,
        meta: Metadata,
        clock: ClockReading | None = None,
    ) -> Accepted:
        """Make a received image ours: when this returns, it survives a power cut. ``clock`` is
        what its device's clock said, if it said so.

        IdentityConflict if its key names other bytes, MetadataTooLarge, DiskError: then it is
        not acknowledged, and leaving ``incoming`` unlinks it.
        """
        attribute = meta.encode()
        try:
            with self._identities.taken(identities(device, meta)):
                held = self._held.find(device, meta, self.now())
                claim = None
                if held is None and self.elsewhere is not None:
                    claim = self.elsewhere.claim(device, meta)
                    held = claim.held
                if held is not None:
                    if held.sha256 != meta.sha256:
                        raise IdentityConflict(held)
                    self.catalog.repeated(device, self.now(), meta.sequence, clock)
                    return Accepted(held, duplicate=True)
                if claim is None:
                    return self._publish(incoming, device, meta, attribute, clock)
                with claim:
                    accepted = self._publish(incoming, device, meta, attribute, clock)
                    claim.keep(accepted.receipt)  # what it says is durable now
                    return accepted
        except sqlite.Error as error:
            code = errno.ENOSPC if sqlite.is_full(error) else errno.EIO
            raise DiskError(OSError(code, str(error)), "writing the catalog") from error

    def note_unusable(self, device: str, *, enrolled: bool) -> None:
        """Count an image that could not be taken against its device; nothing else reports it for
        want of a row."""
        try:
            self.catalog.unusable(device, self.now(), enrolled=enrolled)
        except sqlite.Error as error:
            logs.get().warning("image.unusable_not_counted", device=device, why=str(error))

    def note_refused(self, code: str) -> None:
        """Count an upload that was refused, by the refusal's code; written down a little later."""
        self._refused.note(code, self.now())

    def _publish(
        self,
        incoming: Incoming,
        device: str,
        meta: Metadata,
        attribute: bytes,
        clock: ClockReading | None,
    ) -> Accepted:
        now = self.now()
        unset = self._clock is not None and bool(self._clock.reason(now))
        name = names.make(now, device, meta.sha256, EXTENSIONS[meta.media_type], clock_unset=unset)
        folder = name.folder
        self._enter(folder)

        def committed(opened: int, named: Name) -> None:
            nonlocal folder
            if named.folder != folder:  # bumped into the next minute
                self.catalog.minutes.leave(folder)
                folder = named.folder
                self._enter(folder)
            self._commits.add(_Linked(opened, named, meta, clock))

        try:
            name = durable.publish(
                incoming, attribute, name, self._folders, committed, self.cpu_turns.waiting
            )
        except BaseException:
            # Linked and not acknowledged: the folder stays named, so that the next start finds it.
            if not incoming.published:
                self.catalog.minutes.leave(folder)
            raise
        self.catalog.minutes.leave(folder)
        # Not read back from the catalog: a run may have uploaded it by now.
        item = Item(
            name,
            meta.sha256,
            meta.size,
            State.WAITING,
            key=meta.key,
            sequence=meta.sequence,
            remarks=meta.remarks,
            captured_at=meta.captured,
            tags=meta.tags,
        )
        return Accepted(self._held.receipt_of(item), duplicate=False)

    def _commit(self, linked: list[_Linked]) -> None:
        """Commit images that were linked at about the same time: one flush and one transaction for
        all."""
        for folder in {one.folder for one in linked}:
            durable.commit(folder, self.cpu_turns.waiting)
        self.catalog.add_all((one.name, one.meta, one.clock) for one in linked)

    def _enter(self, folder: str) -> None:
        self.catalog.minutes.enter(folder, lambda: self.gone_from(folder))

    def gone_from(self, folder: str) -> dict[str, int]:
        """Ids and sizes of what arrived in a minute folder and is in it no more."""
        return self.receipts.in_folder(folder) | self.site.gone.in_folder(folder)

    def probe(self) -> None:
        """Write a probe the way an image is written; DiskError names the step that failed."""
        try:
            durable.probe(self.path)
        except DiskError as error:
            if not error.full or not self.thumbnails.give_up():
                raise
            durable.probe(self.path)

    # -- what everybody may read

    def receipt(self, ref: str, device: str = "") -> Receipt | None:
        """The receipt of an image, by its id or the SHA-256 of its bytes (64 hex digits); only of
        this device's images, if one is named."""
        return self._held.receipt(ref, device)

    def withdraw(self, day: str, images: Sequence[str]) -> None:
        """Withdraw receipts of images that arrived on this day; from other gateways first."""
        if self.elsewhere is not None:
            self.elsewhere.withdraw(images)
        self.receipts.withdraw(day, images)

    def receipt_by_key(self, device: str, key: str) -> Receipt | None:
        """The receipt of the image that this device sent with this Idempotency-Key."""
        return self._held.by_key(device, key)

    def open_original(self, held: Receipt) -> BinaryIO | None:
        """The bytes of an image as they arrived, to be read; None if they are not on this disk, or
        the file has another length than was received."""
        return self.files.open_image(held.name, held.size)

    def metadata_of(self, held: Receipt) -> Metadata | None:
        """What its file says of an image; None if the file is not here, or says nothing."""
        return self.files.metadata_of(held.name)

    def images(self, state: State | None, limit: int) -> list[Receipt]:
        """Receipts of images, newest first; of one state only, if it is given, else of all that
        have a file or had one uploaded."""
        states = _NOT_GONE if state is None else frozenset({state})
        return list(self.find(Query(states=states, limit=limit)).receipts)

    def knows_device(self, device: str) -> bool:
        """Whether a device of this name was ever enrolled, or has sent an image."""
        return self.site.devices.is_named(device) or self.catalog.arrivals_of(device) is not None

    def find(self, query: Query) -> Page:
        """The images of a search, from wherever they are now."""
        # In the order in which images move, so that one that moves meanwhile is seen once.
        found = [self._held.receipt_of(item) for item in self.catalog.find(query)]
        found += self.site.gone.find(query)
        found += self.receipts.find(query)
        merged = query.merge(found)
        return Page(tuple(merged[: query.limit]), len(merged) > query.limit)

    def risk(self) -> mounts.Risk | None:
        """Why an acknowledgement may not survive a power cut in this place; None if it does."""
        return mounts.risk(self.path)

    def newest_known_at(self) -> datetime | None:
        """The latest instant that an image or a run left here; None in a fresh spool."""
        instants = [receipt.received_at for receipt in self.images(None, 1)]
        for run in self.site.runs(1):
            instants.append(run.ended_at or run.started_at)
        return max(instants, default=None)

    def disk(self) -> FreeSpace:
        """What is free on the spool's disk, and what uploads leave free."""
        free, size, inodes = self.free()
        return FreeSpace(free, units.of_disk(self.settings.spool.keep_free, size), inodes)

    def admission(self) -> Admission:
        """Whether the disk has room for an image of the largest size; what only the receiver knows
        is left out."""
        closed = Receiving(safe_off=self.is_safe_off())
        return admission(self.settings.receiver.max_image, self.disk(), closed)

    def is_safe_off(self) -> bool:
        """Whether a person takes this gateway out of service: then nothing new is accepted."""
        return self.site.get(SAFE_OFF) is not None

    def free(self) -> tuple[int, int, int]:
        """Free bytes, all bytes and free inodes of the spool's file system."""
        disk = reserve.free(self.path)
        return disk.bytes, disk.size, disk.inodes

    def inventory(self) -> Inventory:
        """How many images are in each state; its cost does not grow with the backlog."""
        totals = self.catalog.totals()
        local, pruned = self.receipts.totals()
        lost, discarded, purged = self.site.gone.totals()
        return Inventory(
            received=totals.received,
            waiting=totals.waiting,
            sending=totals.sending,
            held=totals.held,
            set_aside=totals.set_aside,
            uploaded_local=local,
            uploaded_pruned=pruned + self.site.forgotten(self.receipts.stands),
            lost=lost,
            discarded=discarded,
            purged=purged,
        )

    def refused_lately(self, now: datetime) -> tuple[RefusedLately, ...]:
        """Uploads that were refused in the last minutes, by code, the most first."""
        return self.catalog.refused_lately(now, self._refused.counts())


def _prefix(process: int) -> str:
    """How names in tmp/ begin: by whose they are."""
    return f"{process}-"


def prepare(settings: Settings, *, create: bool = True, probe: bool = True) -> None:
    """Make and check the spool's folders and its ledgers; SpoolUnsuitable says what is wrong."""
    root: Path = settings.spool.path
    state = root / "state"
    fresh = not state.exists()
    if fresh and not create:
        raise SpoolUnsuitable(
            f"there is no spool at {root} yet; the receiver makes it when it starts"
        )
    if fresh and (
        no := mounts.of_the_system(os.path.realpath(root))
        or mounts.foreign(root, (*FOLDERS, identity.FILE))
    ):
        raise SpoolUnsuitable(no)
    if link := next((folder for folder in FOLDERS if (root / folder).is_symlink()), ""):
        raise SpoolUnsuitable(
            f"{root / link} is a link, and Headgate makes none there: see who put it there, and "
            "put the folder back in its place"
        )
    try:
        durable.make_root(root, FOLDERS)
        devices = {os.stat(root / folder).st_dev for folder in FOLDERS}
        if len(devices) > 1:
            raise SpoolUnsuitable(
                f"{root}: tmp, new, done, aside and state must be on one file system; "
                "a link across two is not possible, and a copy would not be durable"
            )
        if probe:
            durable.probe(root)
        if fresh:
            create_ledgers(state, settings.uplink.interval)
    except DiskError as error:
        no_room = error.errno in (errno.ENOTSUP, errno.E2BIG, errno.ENOSPC)
        if no_room and isinstance(error, AttributesError):
            raise SpoolUnsuitable(
                f"{root}: this file system has no room for 4 KB of extended attributes "
                "(user.*), in which an image's metadata travels; use ext4 with 4 KB blocks, xfs "
                "or btrfs"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise SpoolUnsuitable(
                f"{error}; {root} must belong to, and be writable by, the group that the receiver "
                "and the uploader share"
            ) from error
        raise (SpoolFull if error.full else SpoolUnsuitable)(f"{root}: {error}") from error
