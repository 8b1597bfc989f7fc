"""Which image an upload is: so that a lost answer never makes a second one.

Same device and same Idempotency-Key, or without a key the same device, SHA-256 and sequence number:
the same image. Without a device the address stands for it, for ``UNNAMED_SECONDS`` and under the
same file name. Of two at once, the second waits for the outcome of the first, whichever of the
receiver's processes they come to.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta

from headgate.host.board import Board
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk.layout import Files, read_metadata
from headgate.spool.errors import FileMissing
from headgate.spool.image import names
from headgate.spool.image.image import Item, Metadata, Receipt, State
from headgate.spool.image.names import MEDIA_TYPES
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.gone import Gone

UNNAMED_SECONDS = 600
"""How long the same bytes from one address are one image: a client that gets no answer sends them
again within minutes. Later they may be another picture, or another camera's behind that address."""


class KeyedLocks:
    """Locks by identity: one holder at a time for each. ``waiting`` stands around a wait.

    Threads of this process wait for each other in memory; the board's locks, which the kernel
    frees when their process dies, keep the processes apart.
    """

    def __init__(self, waiting: AbstractContextManager[None], board: Board | None = None) -> None:
        self._waiting = waiting
        self._board = board or Board.alone()
        self._changed = threading.Condition()
        self._taken: set[tuple[str, ...]] = set()

    @contextlib.contextmanager
    def taken(self, identities: set[tuple[str, ...]]) -> Iterator[None]:
        """Wait until none of these is taken, and take them; all at once, so nothing deadlocks."""
        if not self._take(identities):
            with self._waiting, self._changed:
                self._changed.wait_for(lambda: self._take(identities))
        try:
            with self._board.names(map(_name, identities)):
                yield
        finally:
            with self._changed:
                self._taken -= identities
                self._changed.notify_all()

    def _take(self, identities: set[tuple[str, ...]]) -> bool:
        with self._changed:
            free = not identities & self._taken
            if free:
                self._taken |= identities
            return free


def _name(identity: tuple[str, ...]) -> bytes:
    return "\0".join(identity).encode()


def identities(device: str, meta: Metadata) -> set[tuple[str, ...]]:
    """What an upload is known by."""
    known: set[tuple[str, ...]] = set()
    if meta.key:
        known.add(("key", device, meta.key))
    if not (meta.key and names.is_address(device)):
        known.add(("digest", device, meta.sha256, str(meta.sequence)))
    return known


class DuplicateLookup:
    """Looks up what is already held, in the catalog and in the receipts of the last days."""

    def __init__(
        self, files: Files, catalog: Catalog, receipts: Receipts, gone: Gone, seconds: int
    ) -> None:
        self._files = files
        self._gone = gone
        self._catalog = catalog
        self._receipts = receipts
        self._days = -(-seconds // 86400)
        self._latest: tuple[date, tuple[str, ...]] = date.min, ()  # today, and what follows from it

    def _recent(self, now: datetime) -> tuple[str, ...]:
        """Days of arrival to look in; one into the future, for a clock that was stepped back."""
        today, days = self._latest
        if today != now.date():
            today = now.date()
            back = range(-1, self._days + 1)
            days = tuple((today - timedelta(days=one)).isoformat() for one in back)
            self._latest = today, days
        return days

    def find(self, device: str, meta: Metadata, now: datetime) -> Receipt | None:
        """The receipt of the image that this upload repeats, or None."""
        days = self._recent(now)
        if meta.key:
            item = self._catalog.by_key(device, meta.key)
            if item is not None:
                return self.receipt_of(item)
            return self._receipts.by_key(device, meta.key, days)
        if names.is_address(device):
            return self._from_address(device, meta, now)
        item = self._catalog.by_digest(device, meta.sha256, meta.sequence)
        if item is not None:
            return self.receipt_of(item)
        return self._receipts.by_digest(device, meta.sha256, meta.sequence, days)

    def _from_address(self, device: str, meta: Metadata, now: datetime) -> Receipt | None:
        """The receipt of the latest image with these bytes, if it came a moment ago under the same
        file name, as a client sends it that got no answer."""
        window = timedelta(seconds=UNNAMED_SECONDS)
        item = self._catalog.by_digest(device, meta.sha256, meta.sequence, "DESC")
        if item is not None:
            found: Receipt | None = self.receipt_of(item)
        else:
            days = {(now + window).date().isoformat(), (now - window).date().isoformat()}
            found = self._receipts.by_digest(
                device, meta.sha256, meta.sequence, sorted(days, reverse=True), "DESC"
            )
        if found is None or abs(now - found.received_at) > window:
            return None
        return None if self._is_named_otherwise(found, meta.file_name) else found

    def _is_named_otherwise(self, held: Receipt, file_name: str) -> bool:
        """Whether the image came under another file name; not, where its file is gone."""
        for path in (self._files.new_file(held.name), self._files.done_file(held.name)):
            with contextlib.suppress(OSError, FileMissing):
                kept = read_metadata(path, held.name)
                return not kept.lost and kept.file_name != file_name
        return False

    def receipt_of(self, item: Item) -> Receipt:
        """The receipt of an image that is still alive."""
        return Receipt(
            id=item.id,
            sha256=item.sha256,
            size=item.size,
            device=item.name.device,
            received_at=item.name.received_at,
            state=item.state,
            local=True,
            media_type=MEDIA_TYPES[item.name.ext],
            key_given=item.key,
            sequence=item.sequence,
            reason=item.last_error if item.state is not State.SENDING else "",
            remarks=item.remarks,
            captured_at=item.captured_at,
            tags=item.tags,
        )

    def by_key(self, device: str, key: str) -> Receipt | None:
        """The receipt of the image that came with this Idempotency-Key."""
        item = self._catalog.by_key(device, key)
        if item is not None:
            return self.receipt_of(item)
        return self._receipts.by_key(device, key, reversed(self._receipts.days()))

    def receipt(self, ref: str, device: str) -> Receipt | None:
        """The receipt of an image by its id or SHA-256 (64 hex digits); only of the device, if one
        is named: devices may send the same bytes, and each asks for its own image."""
        found = self._receipt(ref, device)
        return found if found is not None and device in ("", found.device) else None

    def _receipt(self, ref: str, device: str) -> Receipt | None:
        by_digest = names.is_sha256(ref)
        # An image moves from catalog to receipts, never back without a command, so it is looked
        # for in that order, and once more.
        for again in (False, True):
            if by_digest:
                item = self._catalog.by_sha256(ref, device)
                days = self._receipts.written_lately() if again else self._receipts.days()
                receipt = self._receipts.by_sha256(ref, reversed(days), device)
            else:
                item = self._catalog.get(ref)
                receipt = self._receipts.get(ref)
            if receipt is not None:
                return receipt
            if item is not None:
                return self.receipt_of(item)
        line = self._gone.by_sha256(ref, device) if by_digest else self._gone.get(ref)
        return line.receipt if line is not None and line.is_named else None
