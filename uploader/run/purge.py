"""Erasing images for good: in the bucket first, because their receipts say where they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from headgate.actions.errors import ActionRefused
from headgate.host.progress import SILENT, Progress
from headgate.settings.units import counted
from headgate.spool.disk.layout import read_metadata
from headgate.spool.errors import DiskError, FileMissing
from headgate.spool.image.image import Count, PruneRule, Receipt, State
from headgate.spool.query import Query, every
from headgate.spool.site.audit import Action, Actor
from headgate.spool.site.holds import Kind, Subject
from headgate.spool.spool import Spool
from headgate.spool.upkeep import purge
from headgate.spool.upkeep.mover import Mover
from uploader.run.destination import bucket_of, describes
from uploader.run.yielded_lock import WAIT_SECONDS, yielded_lock
from uploader.s3.client import S3Sender
from uploader.wire.errors import SendError
from uploader.wire.other_traffic import other_traffic_pacer
from uploader.wire.pacer import Closed

_PAGE = 200
Erase = Callable[[str, str, str], None]
"""Deletes a key of a bucket, and the version that was confirmed; SendError, or Closed."""


@dataclass(slots=True)
class Purged:
    """What is erased, and the objects that could not be deleted: by their keys, why."""

    images: Count = field(default_factory=Count)
    left: dict[str, str] = field(default_factory=dict)


def of(spool: Spool, subject: Subject) -> Iterator[Receipt]:
    """Every image of a subject, wherever it is, as of ``query.every``."""
    if subject.kind is Kind.DEVICE:
        yield from every(spool.find, Query(device=subject.name, oldest_first=True, limit=_PAGE))
    elif (receipt := spool.receipt(subject.name)) is not None:
        yield receipt


def run(
    spool: Spool,
    by: Actor,
    subject: Subject,
    reason: str,
    erase: Erase | None = None,
    progress: Progress = SILENT,
) -> Purged:
    """Erase all images of a subject. ActionRefused if some of them are held; LockHeld if a run does
    not end in time. ``erase`` stands in for the bucket in tests."""
    done = Purged()
    with yielded_lock(spool, "headgate purge") as lock:
        Mover(spool, lock).reconcile(spool.now())
        for receipt in of(spool, subject):
            if spool.site.holds.of(receipt.id, receipt.device) is not None:
                raise ActionRefused("Some of it is held; headgate release first.")
        spool.site.audit.record(by, Action.PURGE, spool.now(), subject.kind, f"begun: {reason}")
        with contextlib.ExitStack() as stack:
            erase = erase or _Bucket(spool, stack)
            batch: list[Receipt] = []
            for receipt in of(spool, subject):
                batch.append(receipt)
                if len(batch) >= _PAGE:
                    _erase(spool, batch, erase, done, progress)
                    batch = []
            _erase(spool, batch, erase, done, progress)
        said = f"{counted(done.images.images, 'image')}, {counted(done.images.bytes, 'byte')}"
        if done.left:
            said += f"; {counted(len(done.left), 'object', ('is', 'are'))} left in the bucket"
        said += f": {reason}"
        spool.site.audit.record(by, Action.PURGE, spool.now(), subject.kind, said)
    return done


def _erase(
    spool: Spool, batch: list[Receipt], erase: Erase, done: Purged, progress: Progress
) -> None:
    gone: list[Receipt] = []
    left: list[Receipt] = []
    for receipt in batch:
        trouble = {}
        for bucket, key, version in _objects(spool, receipt):
            try:
                erase(bucket, key, version)
            except (SendError, Closed) as error:
                trouble[key] = str(error)
        done.left |= trouble
        progress.step()
        (left if trouble else gone).append(receipt)
    # What is left in the bucket keeps its receipt, which has the key; its copy here goes.
    for receipt in left:
        if receipt.local and receipt.state is State.UPLOADED:
            day = receipt.name.day
            spool.receipts.mark_pruned(day, [receipt.id], spool.now(), PruneRule.PURGE)
            purge.erase_files(spool, [receipt.name])
    purge.carry_out(spool, gone)
    sizes = sum(one.size for one in gone)
    done.images += Count(len(gone), sizes)


def _objects(spool: Spool, receipt: Receipt) -> Iterator[tuple[str, str, str]]:
    """The keys under which an image is, or may be, in the bucket: an attempt whose outcome is
    unknown may have stored it."""
    if receipt.key:
        yield receipt.bucket, receipt.key, receipt.version_id
        return
    item = spool.catalog.get(receipt.id)
    if item is None or not item.unknown or spool.settings.destination.kind == "http":
        return
    for path in spool.files.places(item.name):
        with contextlib.suppress(OSError, DiskError, FileMissing):
            meta = read_metadata(path, item.name)
            yield spool.settings.s3.bucket, describes(spool)(item.name, meta)[0], ""
            return


class _Bucket:
    """Opens a connection when the first object is to be deleted."""

    def __init__(self, spool: Spool, stack: contextlib.ExitStack) -> None:
        self._spool, self._stack = spool, stack
        self._senders: dict[str, S3Sender] = {}

    def __call__(self, bucket: str, key: str, version: str) -> None:
        if "://" in bucket:
            raise Closed(f"Headgate only sends to {bucket}; ask that server to delete it.")
        sender = self._sender(bucket)
        versions = [one or "" for one in sender.versions(key)]
        for one in versions if versions != [""] or not version else [version]:
            sender.delete(key, "" if one == "null" and len(versions) == 1 else one)

    def _sender(self, bucket: str) -> S3Sender:
        if bucket not in self._senders:
            if not self._senders:
                self._pacer = self._stack.enter_context(
                    other_traffic_pacer(self._spool.uplink, "headgate purge", WAIT_SECONDS)
                )
            sender = bucket_of(self._spool, bucket, self._pacer)
            self._stack.callback(sender.close)
            self._senders[bucket] = sender
        return self._senders[bucket]
