"""Work that many threads want done, done by one of them for all who wait: fewer, larger batches the
busier it is, and batches of one while it is quiet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

_T = TypeVar("_T")
_ALONE: AbstractContextManager[None] = nullcontext()


class _Pending(Generic[_T]):
    __slots__ = ("error", "item", "leads", "told")

    def __init__(self, item: _T) -> None:
        self.item = item
        self.told = threading.Lock()  # held until it is done, or this one is to do it
        self.told.acquire()
        self.leads = False
        self.error: BaseException | None = None


class GroupCommit(Generic[_T]):
    """Runs ``do(items)`` for all callers, one batch at a time. Thread-safe.

    A batch holds only items that were handed in before it began. Its error is everybody's.
    ``waiting`` stands around the wait for a batch that another thread does.
    """

    def __init__(
        self,
        do: Callable[[list[_T]], None],
        waiting: AbstractContextManager[None] = _ALONE,
    ) -> None:
        self._do = do
        self._while_waiting = waiting
        self._lock = threading.Lock()
        self._waiting: list[_Pending[_T]] = []
        self._busy = False

    def add(self, item: _T) -> None:
        """Return once a batch with ``item`` is done; raises what ``do`` raised for it."""
        mine = _Pending(item)
        with self._lock:
            self._waiting.append(mine)
            mine.leads = not self._busy
            self._busy = True
        if not mine.leads:
            with self._while_waiting:
                mine.told.acquire()
        if mine.leads:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error

    def _lead(self, mine: _Pending[_T]) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            self._do([one.item for one in batch])
        except BaseException as raised:
            error = raised
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._busy = following is not None
        if following is not None:  # one batch each: no one works for the others without end
            following.leads = True
            following.told.release()
        for one in batch:
            one.error = error
            if one is not mine:
                one.told.release()
