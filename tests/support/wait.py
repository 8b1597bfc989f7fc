"""Waits in tests: each has a bound, and a failure says in a sentence what was waited for.

The bounds are for hangs, not for speed: no test may fail because the machine is slow. So a wait
that is met costs what it takes, and only one that will never be met costs the whole bound.
"""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol, TypeVar

SECONDS = 120.0
_EVERY = 0.02
_LAST_WORDS = 4000

T = TypeVar("T")


class HasDescriptor(Protocol):
    """A file, a socket, a connection."""

    def fileno(self) -> int: ...


Descriptor = int | HasDescriptor


class NeverHappened(AssertionError):
    """What a test waited for did not come; the message says what, and what was there instead."""


def wait_until(
    condition: Callable[[], T],
    what: str,
    seconds: float = SECONDS,
    *,
    process: subprocess.Popen[Any] | None = None,
    detail: Callable[[], object] | None = None,
    every: float = _EVERY,
) -> T:
    """Ask ``condition`` until it gives something true, and return that.

    ``what`` is the sentence of a failure: "the receiver is ready". With ``process``, its end is a
    failure at once, with its output. ``detail`` says how things stand, for the failure.
    """
    __tracebackhide__ = True
    until = time.monotonic() + seconds
    while True:
        late, ended = time.monotonic() > until, process is not None and process.poll() is not None
        if found := condition():
            return found
        if ended:
            assert process is not None
            never(f"the program ended with {process.returncode} before this: {what}", detail,
                  _output_of(process))  # fmt: skip
        if late:
            never(f"{seconds:g} s passed without this: {what}", detail)
        time.sleep(every)


def readable(file: Descriptor, seconds: float | None) -> bool:
    """Whether there is something to read, or the end, within these seconds; None: without a bound.

    By poll(2): select(2) takes no descriptor above 1,023, and a test may have had a thousand
    connections open in this process.
    """
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))


def wait_for_exit(
    process: subprocess.Popen[Any], what: str = "the program ends", seconds: float = SECONDS
) -> tuple[Any, Any]:
    """Wait for the end of a program, and return what it wrote; one that does not end is killed,
    and fails with its output."""
    __tracebackhide__ = True
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        never(f"{seconds:g} s passed without this: {what}", None, _output_of(process))


def kill(process: subprocess.Popen[Any]) -> tuple[Any, Any]:
    """End a program with SIGKILL, wait until it is gone, and return what it wrote."""
    process.kill()
    return wait_for_exit(process, "a killed program is gone")


def join(*threads: threading.Thread, seconds: float = SECONDS) -> None:
    """Wait for the end of threads; one that does not end fails with the place where it is."""
    __tracebackhide__ = True
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            frame = sys._current_frames().get(thread.ident or 0)
            place = "".join(traceback.format_stack(frame)) if frame else "(no frame)"
            never(f"{seconds:g} s passed without this: {thread.name} ends", None, place)


def wait_for_event(
    event: threading.Event | threading.Barrier, what: str, seconds: float = SECONDS
) -> None:
    """Wait until another thread sets the event, or until all have come to the barrier."""
    __tracebackhide__ = True
    try:
        came = event.wait(seconds)
    except threading.BrokenBarrierError:
        never(f"{seconds:g} s passed without this: {what}")
    if came is False:
        never(f"{seconds:g} s passed without this: {what}")


def moments(
    seconds: float,
    pause: Callable[[], float] = lambda: 0.0,
    enough: Callable[[], object] = lambda: True,
) -> Iterator[float]:
    """The seconds that have passed, again and again with a pause between, until all have and it is
    enough: for load that goes on for a while. Nothing may be concluded from how many there are."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds or not enough():
        yield passed
        time.sleep(pause())


def spend(seconds: float) -> None:
    """Let time pass, as a slow disk or a slow peer does; never to wait until something is so."""
    time.sleep(seconds)


def never(message: str, detail: Callable[[], object] | None = None, output: str = "") -> NoReturn:
    """Fail with the sentence, how things stand, and what a program wrote."""
    __tracebackhide__ = True
    more = [str(detail())] if detail is not None else []
    raise NeverHappened("\n".join([message, *more, *([output] if output else [])]))


def _output_of(process: subprocess.Popen[Any]) -> str:
    try:
        pieces = process.communicate(timeout=10)
    except (subprocess.TimeoutExpired, ValueError, OSError) as error:
        return f"(its output cannot be read: {error!r})"
    texts = [piece.decode(errors="replace") if isinstance(piece, bytes) else piece or ""
             for piece in pieces]  # fmt: skip
    return "\n".join(text[-_LAST_WORDS:] for text in texts if text)
