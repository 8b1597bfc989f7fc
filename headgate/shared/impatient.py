"""Calls of Redis that end in time, whatever Redis, the network or a name server does.

One thread makes the calls of a process, one after the other, and who asked waits for it only until
the deadline. After a failure nothing is asked for some seconds, and then by one caller alone: a
Redis that is away costs an upload nothing but that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from typing import Any, TypeVar

from headgate.shared.connection import SharedTrouble

T = TypeVar("T")

DEADLINE_SECONDS = 0.3
PAUSE_SECONDS = 5.0
"""Between a failure and the next attempt."""


class Breaker:
    """Whether a call is worth its time: not for a while after one that failed. Thread-safe."""

    def __init__(self, pause_seconds: float, monotonic: Callable[[], float]) -> None:
        self._pause, self._monotonic = pause_seconds, monotonic
        self._lock = threading.Lock()
        self._failed = False
        self._not_before = 0.0

    def lets_through(self) -> bool:
        """Whether to call now. After a pause one caller tries, and the others wait for a pause more
        or until it worked."""
        with self._lock:
            now = self._monotonic()
            if now < self._not_before:
                return False
            if self._failed:
                self._not_before = now + self._pause
            return True

    def failed(self) -> None:
        with self._lock:
            self._failed, self._not_before = True, self._monotonic() + self._pause

    def worked(self) -> None:
        with self._lock:
            self._failed, self._not_before = False, 0.0


class ImpatientCaller:
    """Makes calls in a thread of its own, for callers that wait until a deadline. Thread-safe.

    Make it after any fork: the thread starts with the first call.
    """

    def __init__(
        self,
        deadline_seconds: float = DEADLINE_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadline = deadline_seconds
        self._breaker = Breaker(pause_seconds, monotonic)
        self._wanted: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, work: Callable[[], T]) -> T:
        """What ``work`` returns. SharedTrouble if it fails, if it takes too long, or if the last
        call failed a moment ago."""
        if not self._breaker.lets_through():
            raise SharedTrouble("Redis failed a moment ago")
        self._start()
        asked: Future[T] = Future()
        self._wanted.put((asked, work))
        try:
            result = asked.result(self._deadline)
        except (TimeoutError, CancelledError):
            asked.cancel()  # or, where it is under way, its result is dropped
            self._breaker.failed()
            raise SharedTrouble("Redis did not answer in time") from None
        except SharedTrouble:
            self._breaker.failed()
            raise
        self._breaker.worked()
        return result

    def close(self) -> None:
        """End the thread, as soon as the call that is under way returns. Nothing may be called
        after this."""
        self._wanted.put(None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._go_on, name="shared", daemon=True)
                self._thread.start()

    def _go_on(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            asked, work = wanted
            if not asked.set_running_or_notify_cancel():
                continue
            try:
                asked.set_result(work())
            except BaseException as error:
                with contextlib.suppress(Exception):
                    asked.set_exception(error)
