"""Whether the bucket still holds what it confirmed: asked before a local copy goes.

A listing costs one request for a thousand objects. Where it may not be had, or says something else
than the receipt, a HEAD asks. All of it is paced and counted like everything that leaves.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from headgate.spool.image.image import Presence, Receipt
from uploader.destination.contract import Sender, Stored
from uploader.wire.connection import BrokenOff
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import normal_etag
from uploader.wire.pacer import Closed

_AT_ONCE = 8
_SECONDS = 20.0  # of a run
_HEADS = 500  # of a run
_FEW = 2  # up to this many are looked up one by one


class Lookout:
    """Asks, for one run, whether the bucket holds what it confirmed. What could not be asked for
    any more is UNKNOWN; nothing is raised."""

    def __init__(self, sender: Sender, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sender, self._place, self._monotonic = sender, sender.place, monotonic
        self._known: dict[str, Presence] = {}
        self._spent = 0.0  # seconds
        self._until = 0.0
        self._heads = _HEADS
        self._lock = threading.Lock()
        self._may_list = True
        self._shut = False
        self.gone: dict[str, str] = {}  # keys of what the bucket does not hold, by image

    def __call__(self, receipts: Sequence[Receipt]) -> dict[str, Presence]:
        """What is seen of each image, by its id. Every image is asked for once."""
        folders: dict[str, list[Receipt]] = defaultdict(list)
        for one in receipts:
            if one.id not in self._known:
                self._known[one.id] = Presence.UNKNOWN
                if one.bucket == self._place:
                    folders[one.key.rpartition("/")[0]].append(one)
        if folders and not self._shut:
            began = self._monotonic()
            self._until = began + _SECONDS - self._spent
            with ThreadPoolExecutor(_AT_ONCE, "see") as pool:
                for found in pool.map(self._folder, folders, folders.values()):
                    self._known.update(found)
            self._spent += self._monotonic() - began
        for one in receipts:
            if self._known[one.id] is Presence.GONE:
                self.gone[one.id] = one.key
        return {one.id: self._known[one.id] for one in receipts}

    def _folder(self, folder: str, receipts: list[Receipt]) -> dict[str, Presence]:
        listed: dict[str, tuple[int, str]] = {}
        if len(receipts) > _FEW and self._may_list:
            listed = self._listed(f"{folder}/" if folder else "", sorted(r.key for r in receipts))
        found = {}
        for one in receipts:
            if listed.get(one.key) == (one.size, normal_etag(one.etag)):
                found[one.id] = Presence.THERE
            else:
                found[one.id] = self._head(one)
        return found

    def _listed(self, prefix: str, keys: list[str]) -> dict[str, tuple[int, str]]:
        """Length and ETag of what is between the first and the last of the keys, by key."""
        found: dict[str, tuple[int, str]] = {}
        after = keys[0][:-1]  # sorts before it
        for _ in islice(keys, len(keys)):  # never more pages than HEADs
            if self._over():
                break
            try:
                page = self._sender.listed(prefix, after)
            except (SendError, Closed, BrokenOff, OSError) as error:
                self._note(error, listing=True)
                break
            found.update(page.objects)
            after = max(page.objects, default="")
            if not page.more or not after or after >= keys[-1]:
                break
        return found

    def _head(self, one: Receipt) -> Presence:
        with self._lock:
            if self._heads <= 0:
                return Presence.UNKNOWN
            self._heads -= 1
        if self._over():
            return Presence.UNKNOWN
        try:
            return self._sender.see(Stored(one.key, one.size, one.sha256, one.etag))
        except (SendError, Closed, BrokenOff, OSError) as error:
            self._note(error, listing=False)
            return Presence.UNKNOWN

    def _over(self) -> bool:
        return self._shut or self._monotonic() >= self._until

    def _note(self, error: Exception, *, listing: bool) -> None:
        """What will not fare better is not asked again in this run."""
        if listing and isinstance(error, SendError) and error.kind is not ErrorKind.UPLINK_DOWN:
            self._may_list = False
        elif not (isinstance(error, SendError) and error.passing):
            self._shut = True
