"""Closed after the disk failed, open again when write probes have passed, several in a row.

Each process of the receiver says on the board what it met, and probes until it is gone; while one
of them has trouble, all are closed. The trouble of a process that dies ends with it: its successor
probes before it serves.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable

from headgate.host.board import TROUBLE, TROUBLE_TEXT, Board
from headgate.spool.errors import DiskError

PROBE_SECONDS = 1.0
"""Between two probes, while it is closed."""

PASSES = 3
"""Probes in a row that must pass: a disk that fails now and then is not to be trusted yet."""


_ERRNO, _LENGTH = range(2)
"""The cells of a row: the error's number, and how long its text is; 0: there is no trouble."""

_BRIEFLY = ["writing an image", ""]
"""What was done and what was said, where that does not fit or cannot be read."""


class Latch:
    """Says whether the disk can be trusted; a receiver has one. Thread-safe; while it is closed a
    thread of its own probes, so that no request waits for a disk that hangs."""

    def __init__(
        self,
        probe: Callable[[], None],
        opened: Callable[[], None] = lambda: None,
        board: Board | None = None,
    ) -> None:
        self._probe = probe
        self._opened = opened
        self._board = board or Board.alone()
        self._everyones = self._board.all(TROUBLE)
        self._lock = threading.Lock()
        self._trouble: DiskError | None = None

    def trip(self, trouble: DiskError) -> None:
        """The disk refused: take nothing until the probes pass."""
        with self._lock:
            closed = self._trouble is not None
            self._meet(trouble)
            if not closed:
                threading.Thread(target=self._try_again, name="disk-probe", daemon=True).start()

    def trouble(self) -> DiskError | None:
        """What is wrong with the disk, None if nothing is."""
        if self._trouble is not None:
            return self._trouble
        for process, cells in enumerate(self._everyones):
            if cells[_LENGTH] and process != self._board.number:
                return self._met_by(process)
        return None

    def _meet(self, trouble: DiskError | None) -> None:
        """Note the trouble that the disk gives, or None. The caller holds the lock."""
        self._trouble = trouble
        cells = self._board.own(TROUBLE)
        if trouble is None:
            cells[_LENGTH] = 0
            return
        cells[_ERRNO] = trouble.errno or 0
        for said in ([trouble.doing, trouble.sentence], _BRIEFLY):
            if length := self._board.write_text(TROUBLE_TEXT, json.dumps(said)):
                cells[_LENGTH] = length
                break

    def _met_by(self, process: int) -> DiskError:
        cells = self._everyones[process]
        try:
            doing, sentence = json.loads(
                self._board.read_text(TROUBLE_TEXT, process, cells[_LENGTH])
            )
        except ValueError:  # it is being written at this moment
            doing, sentence = _BRIEFLY
        number = cells[_ERRNO]
        return DiskError(OSError(number, sentence or os.strerror(number)), doing)

    def _try_again(self) -> None:
        passed = 0
        while True:
            threading.Event().wait(PROBE_SECONDS)
            asked_of = self._trouble
            try:
                self._probe()
                passed += 1
            except DiskError as still:
                passed = 0
                with self._lock:
                    self._meet(still)
                    asked_of = still
            with self._lock:
                if self._trouble is not asked_of:  # an upload that was under way failed meanwhile
                    passed = 0
                elif passed >= PASSES:
                    self._meet(None)
                    break
        self._opened()
