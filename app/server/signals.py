"""Being told to stop, once and surely, in a process with many threads.

Two signals at once may both be taken by a thread other than the main one; then nothing wakes the
main thread, which is where Python runs handlers, and a server that waits there for its handler
waits forever (seen with SIGINT and SIGTERM 0.1 ms apart: one stop in five never came). So a
serving process has them blocked in all its threads and takes SIGTERM in one thread of its own. The
supervisor has no handlers at all: it blocks its signals and waits for them.
"""

from __future__ import annotations

import signal
import threading
import time

_stopping = threading.Event()


def take_signals() -> None:
    """Let SIGTERM stop this process exactly once. Call it in a serving process's main thread.

    Both signals are blocked in its other threads already:
    the supervisor blocks them before it forks.

    The first SIGTERM reaches the handler that the server installs later, further ones do not.
    Ctrl-C is the supervisor's: it reaches all processes, and one of them has to decide.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    inherited = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=_await_stop, args=(inherited,), name="signals", daemon=True).start()


def stopping() -> bool:
    """Whether the serving process got a signal to stop: it accepts no new upload from then on."""
    return _stopping.is_set()


def _await_stop(inherited: object) -> None:
    signal.sigwait({signal.SIGTERM})
    _stopping.set()
    while (stop := signal.getsignal(signal.SIGTERM)) is inherited:
        time.sleep(0.01)  # told to stop before the server was ready to hear it
    # Called here, and not by a signal to the main thread: that is not heard where it comes at the
    # moment at which that thread falls asleep. And unblocking SIGTERM would let in those that came
    # meanwhile, and granian's handler blocks for good, with the interpreter's lock, at the third.
    if callable(stop):
        stop(signal.SIGTERM, None)
