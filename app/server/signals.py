"""Being told to stop, once and surely, in a process with many threads.

Two signals at once may both be taken by a thread other than the main one; then nothing wakes the
main thread, which is where Python runs handlers, and a server that waits there for its handler
waits forever (seen with SIGINT and SIGTERM 0.1 ms apart: one stop in five never came). So the
serving process blocks them in all its threads and takes SIGTERM in one thread of its own, and the
supervising process does not wait without looking up.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

_LOOK_UP_SECONDS = 0.5
_stopping = threading.Event()


class PatientEvent(threading.Event):
    """An event whose wait returns to Python now and then, where pending handlers run."""

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_LOOK_UP_SECONDS):
            pass
        return True


def once(act: Callable[..., None]) -> Callable[..., None]:
    """``act`` for the first signal only: a second one would run it in the middle of the first."""
    called: list[bool] = []

    def first(*told: object) -> None:
        if not called:
            called.append(True)
            act(*told)

    return first


def take_signals() -> None:
    """In the serving process's main thread, before it starts any other thread.

    The first SIGTERM reaches the handler that the server installs later, further ones do not.
    Ctrl-C is the supervisor's: it reaches both processes, and one of them has to decide.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    signal.signal(signal.SIGUSR1, _hand_over)
    inherited = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=_await_stop, args=(inherited,), name="signals", daemon=True).start()


def stopping() -> bool:
    """Whether the serving process got a signal to stop: it accepts no new upload from then on."""
    return _stopping.is_set()


def ignore_further() -> None:
    """In the supervisor, once it has stopped: a late signal must not turn its exit into a death."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)


def _await_stop(inherited: object) -> None:
    signal.sigwait({signal.SIGTERM})
    _stopping.set()
    while signal.getsignal(signal.SIGTERM) is inherited:
        time.sleep(0.01)  # told to stop before the server was ready to hear it
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGUSR1)  # to that thread alone: this wakes it


def _hand_over(_signal: int, frame: FrameType | None) -> None:
    # Called, not raised: unblocking SIGTERM would let in those that came meanwhile, and granian's
    # handler blocks for good, with the interpreter's lock, at the third.
    stop = signal.getsignal(signal.SIGTERM)
    if callable(stop):
        stop(signal.SIGTERM, frame)
