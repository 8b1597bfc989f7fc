"""The process that the receiver is for everyone else: it holds the lock, and sees to it that images
are received by others.

It starts the processes that serve, starts one again that died, with a pause that grows, and stops
all of them together. It does nothing that needs much memory: what opens the spool is done by
children (``app.server.serving``), of which those that prepare or clean up end when they are done.
It has one thread, because it forks, and takes signals where it waits for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from headgate.host.board import PID, PROCESS, SERVING, WRITTEN, Board, Part
from headgate.host.notify import notify
from headgate.host.processes import end_with_parent, written_bytes

STOP_SECONDS = 75
"""For uploads in flight when told to stop: longer than a body of a usual pace takes."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
CALM_SECONDS = 60
"""Who served for longer than this has its next pause begin at the first again."""

LOOK_SECONDS = 0.05
"""Until all of them are ready for the first time, it looks this often whether they are."""

TOGETHER_SECONDS = 60.0
"""Those that are ready wait this long for the others, and then serve without them."""

STOPPED_SECONDS = 10.0
"""One that is stopped (SIGSTOP) for longer is killed: it may hold a lock that the others wait
for, and only a death gives that back."""

_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_SIGNALS = _STOP | {signal.SIGCHLD}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the process that prepared the spool reports."""

    cut_off: int
    restored: int
    newest_known_at: float | None
    """The latest instant that was known here before anything arrived, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process that served, and ended without being told to."""

    number: int
    pid: int
    code: int  # negative: of a signal
    pause: float  # before the next one serves in its place


@dataclass(frozen=True, slots=True)
class Work:
    """What the children do; each is called in one of its own."""

    prepare: Callable[[socket.socket], None]
    """Open the spool and make good an unclean stop; send ``Prepared`` as JSON, with the receiver
    lock's descriptors."""
    serve: Callable[[int, Prepared, bool], None]
    """Serve as this process of the board, until told to stop; whether it is the first time. It
    sets ``SERVING`` when it is ready, and listens once it has had the lock ``Part.START``: the
    kernel spreads connections over those that listen, and a client may keep its connection for
    days."""
    clean_up: Callable[[Death], None]
    """Make good the death of one of them."""


class _Place:
    """One place for a process that serves; a process that dies is replaced in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0  # of the one that serves
        self.cleaner = 0  # of the one that cleans up
        self.death: Death | None = None  # not cleaned up after yet
        self.next_at: float | None = 0.0  # when one of them is to be started
        self.since = 0.0
        self.stopped_at: float | None = None  # by a signal, and not continued yet
        self.pause = FIRST_PAUSE
        self.first = True


class Supervisor:
    """Starts, watches, replaces and stops the processes that serve; a receiver has one."""

    def __init__(
        self, board: Board, work: Work, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._board = board
        self._work = work
        self._monotonic = monotonic
        self._pid = os.getpid()
        self._places = [_Place(number) for number in range(board.processes)]
        self._began = False  # all of them were ready
        self._together = contextlib.ExitStack()  # those that are ready wait until it is closed
        self._lock: list[int] = []  # inherited, so that it is held until the last one is gone

    def run(self) -> int:
        """Supervise until told to stop; the exit code."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        prepared = self._prepare()
        if not isinstance(prepared, Prepared):
            return prepared
        try:
            return self._supervise(prepared)
        finally:
            self._stop()

    def _prepare(self) -> Prepared | int:
        """Or an exit code: a signal came to stop, or it cannot start."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = self._fork(lambda: self._work.prepare(theirs))
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:
                if signal.sigwait(_SIGNALS) in _STOP:
                    os.kill(child, signal.SIGTERM)
                    os.waitpid(child, 0)
                    return 0
            if ended[1]:
                return 1  # it has said why
            message, self._lock, _, _ = socket.recv_fds(ours, 4096, 4, socket.MSG_DONTWAIT)
        for fd in self._lock:
            os.set_inheritable(fd, False)
        return Prepared(**json.loads(message))

    def _supervise(self, prepared: Prepared) -> int:
        self._together.enter_context(self._board.lock(Part.START))
        until = self._monotonic() + TOGETHER_SECONDS
        while True:
            if self._began or self._monotonic() >= until:
                self._together.close()
            for place in self._places:
                if place.next_at is not None and place.next_at <= self._monotonic():
                    self._start(place, prepared)
            if self._wait_for_stop():
                return 0
            self._note_beginning()
            if not self._reap():
                return 1
            self._end_stopped()

    def _wait_for_stop(self) -> bool:
        """Whether a signal to stop has come. Returns as well when a child has ended or is to be
        started."""
        now = self._monotonic()
        due = [place.next_at - now for place in self._places if place.next_at]
        due += [place.stopped_at + STOPPED_SECONDS - now
                for place in self._places if place.stopped_at is not None]  # fmt: skip
        if not self._began:
            due.append(LOOK_SECONDS)
        if due:
            heard = signal.sigtimedwait(_SIGNALS, max(0.0, min(due)))
        else:
            heard = signal.sigwaitinfo(_SIGNALS)
        return heard is not None and heard.si_signo in _STOP

    def _note_beginning(self) -> None:
        if not self._began and all(cells[SERVING] for cells in self._board.all(PROCESS)):
            self._began = True
            notify("READY=1")

    def _start(self, place: _Place, prepared: Prepared) -> None:
        place.next_at = None
        if place.death is not None:
            death = place.death
            place.cleaner = self._fork(lambda: self._work.clean_up(death))
            return
        first, place.first = place.first, False
        place.since = self._monotonic()
        place.pid = self._fork(lambda: self._work.serve(place.number, prepared, first))
        self._board.all(PROCESS)[place.number][PID] = place.pid

    def _reap(self) -> bool:
        """Take notice of all that have ended; False if one could not start at the beginning."""
        while (ended := _ended()) is not None:
            pid, code, written = ended
            for place in self._places:
                if place.pid == pid:
                    serving = self._board.all(PROCESS)[place.number][SERVING]
                    place.pid = 0
                    if code > 0 and not serving and not self._began:
                        return False  # it has said why
                    self._serve_again(place, pid, code, written)
                elif place.cleaner == pid:
                    place.cleaner = 0
                    if code == 0:
                        place.death = None
                    place.next_at = self._monotonic() + self._next_pause(place)
        return True

    def _end_stopped(self) -> None:
        """Kill those that were stopped too long ago. The kernel tells of a stop and of its end as
        it tells of a death: by SIGCHLD."""
        for place in self._places:
            if not place.pid or not _is_stopped(place.pid):
                place.stopped_at = None
                continue
            if place.stopped_at is None:
                place.stopped_at = self._monotonic()
            if self._monotonic() - place.stopped_at >= STOPPED_SECONDS:
                os.kill(place.pid, signal.SIGKILL)

    def _serve_again(self, place: _Place, pid: int, code: int, written: int) -> None:
        """What the dead process held is free from here on; the rest is cleaned up at once by a
        process that may wait and fail, and then another one serves."""
        self._together.close()
        process = self._board.all(PROCESS)[place.number]
        process[PID] = process[SERVING] = 0
        self._board.all(WRITTEN)[place.number][0] += written
        self._board.clear(place.number)
        if self._monotonic() - place.since > CALM_SECONDS:
            place.pause = FIRST_PAUSE
        place.death = Death(place.number, pid, code, place.pause)
        place.next_at = self._monotonic()

    def _next_pause(self, place: _Place) -> float:
        pause = place.pause
        place.pause = min(LONGEST_PAUSE, 2 * pause)
        return pause

    def _stop(self) -> None:
        """Stop all serving processes together; uploads in flight are finished."""
        notify("STOPPING=1")
        self._together.close()
        until = self._monotonic() + STOP_SECONDS
        self._tell_all(signal.SIGTERM)
        while self._are_left():
            left = until - self._monotonic()
            if left <= 0:
                self._tell_all(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, max(0.0, left) or 1.0)

    def _tell_all(self, number: signal.Signals) -> None:
        for place in self._places:
            for pid in (place.pid, place.cleaner):
                if pid:  # not waited for yet, so it is no other process
                    os.kill(pid, number)

    def _are_left(self) -> bool:
        while (ended := _ended()) is not None:
            for place in self._places:
                if place.pid == ended[0]:
                    place.pid = 0
                elif place.cleaner == ended[0]:
                    place.cleaner = 0
        return any(place.pid or place.cleaner for place in self._places)

    def _fork(self, do: Callable[[], None]) -> int:
        """A child that does this and ends."""
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            end_with_parent(self._pid, signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            do()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def _is_stopped(child: int) -> bool:
    try:
        seen = os.waitid(os.P_PID, child, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return seen is not None and seen.si_code == os.CLD_STOPPED


def _ended() -> tuple[int, int, int] | None:
    """A child that has ended: its number, its exit code (negative: of a signal), and how many
    bytes it made the disk write, which is known until it is waited for."""
    try:
        seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if seen is None:
        return None
    written = written_bytes(seen.si_pid) or 0
    status = os.waitpid(seen.si_pid, 0)[1]
    return seen.si_pid, os.waitstatus_to_exitcode(status), written
