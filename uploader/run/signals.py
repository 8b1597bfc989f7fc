"""SIGINT and SIGTERM while a run is under way: once to finish, twice to break off.

Python's own handlers run in the main thread between two of its instructions, so they never run
while it waits in a name lookup, on a full terminal, or on a disk. So the signal's number also goes
into a pipe (``signal.set_wakeup_fd``), which a thread reads. What does not end by itself then is
killed: a run leaves the spool fit for that at any moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Protocol

from headgate.host import progress

GRACE_SECONDS = 10.0
"""As long as a run that was broken off may take to put things in order; then it is killed."""


class Interrupted(BaseException):
    """A signal while alerts are sent: one is enough."""


class Stoppable(Protocol):
    """What a run is asked to do; both may be called from any thread."""

    def stop(self) -> None: ...
    def break_off(self) -> None: ...


class Signals:
    """A context around a run. ``guard`` begins with the sending, ``telling`` comes after it."""

    def __init__(self) -> None:
        self._asked = 0
        self._guarded: Stoppable | None = None
        self._tells = False
        self._before: dict[
            signal.Signals, Callable[[int, FrameType | None], object] | int | None
        ] = {}
        self._pipe = (-1, -1)
        self._wakeup = -1

    @property
    def broke_off(self) -> bool:
        """Whether the second signal came while images were sent."""
        return self._asked > 1

    def guard(self, run: Stoppable) -> None:
        """Lead signals to ``run`` from now on until the end of the context; before, they end the
        program as they always do."""
        self._guarded = run
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for caught in (signal.SIGINT, signal.SIGTERM):
            self._before[caught] = signal.signal(caught, self._in_main_thread)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """A context around what comes after the run, which one signal cuts short."""
        self._tells = True
        with contextlib.suppress(Interrupted):
            yield
        self._tells = False

    def __enter__(self) -> Signals:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._guarded is None:
            return
        for caught, handler in self._before.items():
            signal.signal(caught, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._pipe[1])  # which ends the thread

    def _in_main_thread(self, _number: int, _frame: FrameType | None) -> None:
        if self._tells:
            raise Interrupted

    def _listen(self) -> None:
        """The thread: whatever might block is done in another one, so that it always listens."""
        ends_at: float | None = None
        ready = select.poll()
        ready.register(self._pipe[0], select.POLLIN)
        while True:
            left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
            if not ready.poll(None if left is None else left * 1000):
                _kill()
            number = os.read(self._pipe[0], 1)
            if not number:
                os.close(self._pipe[0])
                return
            if number[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            self._asked += 1
            if self._asked == 1 and not self._tells:
                self._begin(self._stop)
            elif ends_at is None:
                ends_at = time.monotonic() + GRACE_SECONDS
                if self._guarded is not None:
                    self._begin(self._guarded.break_off)
            else:
                _kill()

    def _stop(self) -> None:
        if self._guarded is not None:
            self._guarded.stop()
        # The reader may be gone, and the run continues.
        with contextlib.suppress(OSError), progress.above():
            print("finishing what is being sent; again to break it off", file=sys.stderr)

    @staticmethod
    def _begin(target: Callable[[], None]) -> None:
        threading.Thread(target=target, daemon=True).start()


def _kill() -> None:
    """End at once, as a kill from outside would: the kernel drops the locks."""
    os.kill(os.getpid(), signal.SIGKILL)
