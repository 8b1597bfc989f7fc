"""Picking: fair between devices in bytes, urgent first, fresh and old within one device. Pure.

Devices are served by the least bytes so far (start-time fair queueing with equal weights, Goyal et
al. 1996): one noisy camera starves no other. A device that comes, or comes back, starts at the
minimum of those that wait, so that it neither owes for the past nor has saved anything up. Urgent
images go first for up to half the bytes, so that calling everything urgent starves no device
either. The cost of a pick does not grow with the backlog: a source answers from an index.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from headgate.spool.catalog.backlog import NEWEST_IN_TEN
from headgate.spool.image.image import Item

_PAGE = 10
_PASS_OVER = 16
"""Images that may not start are passed over in one pick, at most: what fits is looked for, but not
among all that wait."""


class Clearance(Enum):
    """Whether an image may start."""

    NOW = "now"
    LATER = "later"  # when some of those under way have ended
    NOT_ANY_MORE = "not any more"  # what is left does not cover it, even alone
    NEVER = "never"  # it takes more than a whole day's allowance


class Candidates(Protocol):
    """What may be picked: the catalog. A claimed image is no longer in it."""

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        """Devices with an image that may go now, or only those with an urgent one."""

    def oldest_of(self, device: str, after: int, limit: int, *, urgent: bool) -> list[Item]:
        """The device's images in order of arrival: the urgent ones, or the others."""

    def newest_of(self, device: str, before: int | None, limit: int, *, urgent: bool) -> list[Item]:
        """The device's images in reverse order of arrival: the urgent ones, or the others."""


@dataclass(frozen=True, slots=True)
class OfOne:
    """What may be picked of one device, as if no other had anything."""

    source: Candidates
    device: str

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        return [name for name in self.source.waiting_devices(urgent=urgent) if name == self.device]

    def oldest_of(self, device: str, after: int, limit: int, *, urgent: bool) -> list[Item]:
        return self.source.oldest_of(device, after, limit, urgent=urgent)

    def newest_of(self, device: str, before: int | None, limit: int, *, urgent: bool) -> list[Item]:
        return self.source.newest_of(device, before, limit, urgent=urgent)


class _Queue:
    """One device's images during one pick, newest first and oldest first, each given once."""

    def __init__(self, source: Candidates, device: str, urgent: bool, page: int) -> None:
        self._source, self._device, self._urgent = source, device, urgent
        self._page = page
        self._newest: list[Item] = []
        self._oldest: list[Item] = []
        self._lowest: int | None = None  # the cursors: what was fetched so far
        self._highest = 0
        self._given: set[int] = set()

    def next(self, order: str, turn: int) -> Item | None:
        """The image whose turn it is, or None if there is none left."""
        newest = order == "newest" or (order == "mixed" and turn % 10 < NEWEST_IN_TEN)
        while True:
            page = self._newest if newest else self._oldest
            if not page:
                turns = range(turn, turn + self._page) if order == "mixed" else ()
                wanted = sum((one % 10 < NEWEST_IN_TEN) == newest for one in turns) or self._page
                if not (page := self._fetch(newest, wanted)):
                    return None
            item = page.pop()
            if item.arrival not in self._given:  # it may have come from the other end already
                self._given.add(item.arrival)
                return item

    def _fetch(self, newest: bool, wanted: int) -> list[Item]:
        """The next images of one end, turned round so that the next one is the last."""
        device, urgent = self._device, self._urgent
        if newest:
            found = self._source.newest_of(device, self._lowest, wanted, urgent=urgent)[::-1]
            self._newest = found
            self._lowest = found[0].arrival if found else self._lowest
        else:
            found = self._source.oldest_of(device, self._highest, wanted, urgent=urgent)[::-1]
            self._oldest = found
            self._highest = found[0].arrival if found else self._highest
        return found


class _Lane:
    """The urgent images, or the others, of all devices during one pick."""

    def __init__(
        self,
        source: Candidates,
        devices: Iterable[str],
        served: Mapping[str, int],
        turns: Counter[str],
        order: str,
        *,
        urgent: bool,
        page: int,
    ) -> None:
        self._served, self._turns, self._order = served, turns, order
        self._heap = [(served[device], device) for device in devices]
        heapq.heapify(self._heap)
        self._source, self._urgent, self._page = source, urgent, page
        self._queues: dict[str, _Queue] = {}
        self._next: Item | None = None

    def peek(self) -> Item | None:
        """The image that goes next in this lane, or None if there is none."""
        while self._next is None and self._heap:
            served, device = self._heap[0]
            if served != self._served[device]:  # by the other lane
                heapq.heapreplace(self._heap, (self._served[device], device))
                continue
            if device not in self._queues:
                self._queues[device] = _Queue(self._source, device, self._urgent, self._page)
            self._next = self._queues[device].next(self._order, self._turns[device])
            if self._next is None:
                heapq.heappop(self._heap)
        return self._next

    def take(self) -> None:
        """What ``peek`` showed is picked."""
        assert self._next is not None
        self._turns[self._next.name.device] += 1
        self._next = None

    def skip(self) -> None:
        """What ``peek`` showed is not picked this time."""
        self._next = None


class Picker:
    """Remembers, over the picks of a run, who was served how much.

    ``served`` is what the last run left (bytes by device); ``order`` is oldest, newest or mixed.
    """

    def __init__(self, source: Candidates, served: Mapping[str, int], order: str) -> None:
        self._source = source
        self._order = order
        self.served = dict(served)
        self._turns: Counter[str] = Counter()
        self._urgent_turns: Counter[str] = Counter()
        self._in_a_hurry: list[str] = []  # devices with urgent images, when last looked
        self._lead = 0  # bytes by which urgent images are ahead while others wait as well

    def pick(
        self,
        images: int,
        size: int,
        *,
        look: bool = True,
        clear: Callable[[Item], Clearance] = lambda item: Clearance.NOW,
    ) -> list[Item]:
        """Pick up to this many images and bytes, in the order to send them.

        One image that is larger than ``size`` alone is picked alone, or it would wait forever.
        ``look``: look up again which devices wait, which costs a step for each of them; otherwise
        those that waited last time are served, unless none of them has anything left.
        ``clear`` says whether an image may start: others may go instead of one that may not any
        more, but none goes before one that only has to wait for its turn.
        """
        if look:
            self._look()
        page = max(1, min(_PAGE, -(-images // max(1, len(self.served)))))
        urgent = _Lane(
            self._source, self._in_a_hurry, self.served, self._urgent_turns, self._order,
            urgent=True, page=page,
        )  # fmt: skip
        others = _Lane(
            self._source, self.served, self.served, self._turns, self._order,
            urgent=False, page=page,
        )  # fmt: skip
        picked: list[Item] = []
        passed_over = 0
        while len(picked) < images and passed_over < _PASS_OVER:
            lead = self._lead
            lane = self._lane(urgent, others)
            item = lane.peek()
            if item is None or (picked and item.size > size):
                break
            clearance = clear(item)
            if clearance is Clearance.LATER:
                self._lead = lead
                break
            if clearance is not Clearance.NOW:
                self._lead = lead
                lane.skip()
                passed_over += 1
                continue
            lane.take()
            size -= item.size
            picked.append(item)
            self.served[item.name.device] += item.size
        if picked or passed_over or look:
            return picked
        return self.pick(images, size, clear=clear)

    def give_back(self, items: Iterable[Item]) -> None:
        """Return images that were picked and did not start: their devices were not served."""
        for item in items:
            if item.name.device in self.served:
                self.served[item.name.device] -= item.size

    def _look(self) -> None:
        waiting = self._source.waiting_devices()
        floor = min((self.served[d] for d in waiting if d in self.served), default=0)
        self.served = {device: self.served.get(device, floor) for device in waiting}
        urgent = self._source.waiting_devices(urgent=True)
        self._in_a_hurry = [device for device in urgent if device in self.served]

    def _lane(self, urgent: _Lane, others: _Lane) -> _Lane:
        first, other = urgent.peek(), others.peek()
        if first is None:
            self._lead = 0  # nothing is saved up while nothing is urgent
            return others
        if other is None:
            return urgent
        if self._lead > 0:
            self._lead -= other.size
            return others
        self._lead += first.size
        return urgent
