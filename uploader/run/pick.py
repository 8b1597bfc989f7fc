"""Picking: fair between devices in bytes, fresh and old within one. Pure but for its source.

Devices are served by the least bytes so far (start-time fair queueing with equal weights, Goyal et
al. 1996): one noisy camera starves nobody. A device that comes, or comes back, starts at the
minimum of those that wait, so that it neither owes for the past nor has saved anything up. The cost
of a pick does not grow with the backlog: a source answers from an index.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Protocol

from spool.item import Item

_PAGE = 10
NEWEST_IN_TEN = 7
"""Of ten images of one device with ``mixed``: the newest seven, then the three oldest."""


class Source(Protocol):
    """What may be picked: the catalog. A claimed image is no longer in it."""

    def waiting_devices(self) -> list[str]:
        """Devices with an image that may go now."""

    def oldest_of(self, device: str, after: int, limit: int) -> list[Item]:
        """Its images in order of arrival."""

    def newest_of(self, device: str, before: int | None, limit: int) -> list[Item]:
        """Its images in reverse order of arrival."""


class _Queue:
    """One device's images during one pick, newest first and oldest first, each given once."""

    def __init__(self, source: Source, device: str) -> None:
        self._source, self._device = source, device
        self._newest: list[Item] = []
        self._oldest: list[Item] = []
        self._lowest: int | None = None  # the cursors: what was fetched so far
        self._highest = 0
        self._given: set[int] = set()

    def newest(self) -> Item | None:
        while True:
            if not self._newest:
                self._newest = self._source.newest_of(self._device, self._lowest, _PAGE)[::-1]
                if not self._newest:
                    return None
                self._lowest = self._newest[0].arrival
            if (item := self._give(self._newest.pop())) is not None:
                return item

    def oldest(self) -> Item | None:
        while True:
            if not self._oldest:
                self._oldest = self._source.oldest_of(self._device, self._highest, _PAGE)[::-1]
                if not self._oldest:
                    return None
                self._highest = self._oldest[0].arrival
            if (item := self._give(self._oldest.pop())) is not None:
                return item

    def _give(self, item: Item) -> Item | None:
        """The item, unless it came from the other end already."""
        if item.arrival in self._given:
            return None
        self._given.add(item.arrival)
        return item


class Picker:
    """Remembers, over the picks of a run, who was served how much.

    ``served`` is what the last run left (bytes by device); ``order`` is oldest, newest or mixed.
    """

    def __init__(self, source: Source, served: Mapping[str, int], order: str) -> None:
        self._source = source
        self._order = order
        self.served = dict(served)
        self._turns: dict[str, int] = {}

    def pick(self, images: int, size: int) -> list[Item]:
        """Up to so many images and so many bytes, in the order to send them.

        One image that is larger than ``size`` alone is picked alone, or it would wait for ever.
        """
        waiting = self._source.waiting_devices()
        floor = min((self.served[d] for d in waiting if d in self.served), default=0)
        self.served = {device: self.served.get(device, floor) for device in waiting}
        heap = [(served, device) for device, served in self.served.items()]
        heapq.heapify(heap)
        queues = {device: _Queue(self._source, device) for device in waiting}
        picked: list[Item] = []
        while heap and len(picked) < images:
            served, device = heapq.heappop(heap)
            item = self._next(queues[device], device)
            if item is None:
                continue
            if picked and item.size > size:
                break
            size -= item.size
            picked.append(item)
            self.served[device] = served + item.size
            self._turns[device] = self._turns.get(device, 0) + 1
            heapq.heappush(heap, (self.served[device], device))
        return picked

    def _next(self, queue: _Queue, device: str) -> Item | None:
        turn = self._turns.get(device, 0)
        if self._order == "newest" or (self._order == "mixed" and turn % 10 < NEWEST_IN_TEN):
            return queue.newest()
        return queue.oldest()
