"""What the processes of one program share: rows of numbers in memory, and locks.

The supervisor makes a board before it forks; nothing of it is on disk, so nothing of it is stale
after a crash, and it ends with the program. Of most rows each process has its own: only that
process writes there, everyone reads, and a total is a sum over the processes. So a process that is
killed at any moment leaves numbers that still add up, and ``clear`` takes back what it held. What
all of them write is written under a lock, which the kernel takes back from a holder that dies: an
open file description lock (fcntl_locking(2)) on the board's own memory file.

A program of one process has a board of its own, ``Board.alone()``, and the same code.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from headgate.host import range_locks

PROCESSES_MOST = 8


_N = TypeVar("_N", int, float)


class Cells(Protocol[_N]):
    """The cells of one row, as a sequence of numbers."""

    def __getitem__(self, at: int, /) -> _N: ...
    def __setitem__(self, at: int, value: _N, /) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_N]: ...


@dataclass(frozen=True, slots=True)
class Row(Generic[_N]):
    """Cells of one kind (a format of ``struct``); ``each``: a row for each process, else one."""

    name: str
    kind: str
    cells: int
    each: bool = True
    held: bool = False  # given back when its process dies


DEVICES = 8192
"""Devices whose rate is known at the same time."""

PROCESS: Row[int] = Row("process", "q", 2)
PROMISED: Row[int] = Row("promised", "q", 4, held=True)
FOLDERS: Row[int] = Row("folders", "q", 8)
TROUBLE: Row[int] = Row("trouble", "q", 2, held=True)
TROUBLE_TEXT: Row[int] = Row("trouble text", "B", 512)
INTAKE: Row[float] = Row("intake", "d", 3, each=False)
INTAKE_HELD: Row[float] = Row("intake held", "d", 1)
DEVICE_KEYS: Row[int] = Row("device keys", "Q", DEVICES, each=False)
DEVICE_TOKENS: Row[float] = Row("device tokens", "d", DEVICES, each=False)
DEVICE_TIMES: Row[float] = Row("device times", "d", DEVICES, each=False)
DEVICE_UPLOADS: Row[int] = Row("device uploads", "H", DEVICES, held=True)
REFUSED: Row[int] = Row("refused", "q", 128)
DURATIONS: Row[int] = Row("durations", "q", 32)
DURATION_SUM: Row[float] = Row("duration sum", "d", 1)
WRITTEN: Row[int] = Row("written", "q", 1)
BEGUN: Row[float] = Row("begun", "d", 3, each=False)

PID, SERVING = range(2)
"""The cells of ``PROCESS``: its number for the system, and whether it has said that it serves."""

ROWS: tuple[Row[int] | Row[float], ...] = (
    PROCESS, PROMISED, FOLDERS, TROUBLE, TROUBLE_TEXT, INTAKE, INTAKE_HELD,
    DEVICE_KEYS, DEVICE_TOKENS, DEVICE_TIMES, DEVICE_UPLOADS,
    REFUSED, DURATIONS, DURATION_SUM, WRITTEN, BEGUN,
)  # fmt: skip
"""What there is; the meaning of the cells is known to the module that uses the row."""


class Part(enum.IntEnum):
    """What a lock of the board guards."""

    ROOM = 1
    RATES = 2
    INTAKE = 3
    START = 4
    CHORES = 5
    METRICS = 6


_HASHED = 1 << 32
"""Locks by name lie above this offset, all others below."""


class Board:
    """One process's view of the board. Thread-safe where it says so; a row of one's own is guarded
    by its user."""

    def __init__(self, processes: int, memory: memoryview, fd: int, number: int) -> None:
        """For internal use: call ``alone``, ``shared`` or ``of``. ``fd`` -1: there is one process,
        and no lock but between its threads."""
        self.processes = processes
        self.number = number
        self.waiting: AbstractContextManager[None] = nullcontext()
        """Stands around each wait for another process; of a process that has something to give up
        meanwhile."""
        self._memory = memory
        self._fd = fd
        self._rows: dict[str, list[memoryview]] = {}
        at = 0
        for row in ROWS:
            parts = []
            for _ in range(processes if row.each else 1):
                cells = struct.calcsize(row.kind) * row.cells
                parts.append(memory[at : at + cells].cast(row.kind))  # type: ignore[call-overload]
                at += _size(row)
            self._rows[row.name] = parts
        self._parts = {part: Lock(self, part) for part in Part}

    @classmethod
    def alone(cls) -> Board:
        """A board for a program of one process."""
        board = cls(1, memoryview(mmap.mmap(-1, _whole(1))), -1, 0)
        board.own(PROCESS)[PID] = os.getpid()
        return board

    @classmethod
    def shared(cls, processes: int) -> Board:
        """The supervisor's, for this many processes, which are forked after this call. Each of them
        uses what ``of`` gives it."""
        fd = -1  # one process has no other to exclude
        if processes > 1:
            fd = os.memfd_create("headgate")
            os.ftruncate(fd, _whole(processes))
        return cls(processes, memoryview(mmap.mmap(fd, _whole(processes))), fd, 0)

    def of(self, number: int) -> Board:
        """The view of process ``number`` (from 0), made in that process."""
        fd = self._fd
        if fd >= 0:
            # Locks belong to an open file description, and what was inherited is everyone's.
            fd = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        return Board(self.processes, self._memory, fd, number)

    def own(self, row: Row[_N]) -> Cells[_N]:
        """This process's; of a row that is everyone's, that one."""
        return self.all(row)[self.number if row.each else 0]

    def all(self, row: Row[_N]) -> Sequence[Cells[_N]]:
        """The rows of all processes."""
        return self._rows[row.name]  # type: ignore[return-value]

    def write_text(self, row: Row[int], said: str) -> int:
        """Put a text into this process's row of bytes; how many it has, 0 if it does not fit."""
        data = said.encode(errors="replace")
        cells = self.own(row)
        if len(data) > len(cells):
            return 0
        for at, byte in enumerate(data):
            cells[at] = byte
        return len(data)

    def read_text(self, row: Row[int], process: int, size: int) -> str:
        """The text of this many bytes in a process's row."""
        cells = self.all(row)[process]
        return bytes(cells[at] for at in range(min(size, len(cells)))).decode(errors="replace")

    def total(self, row: Row[_N], cell: int) -> _N:
        """The sum of one cell over all processes."""
        return sum(cells[cell] for cells in self.all(row))

    def clear(self, number: int) -> None:
        """A process has died: what it held is free. Called by the supervisor; waits for no one."""
        for row in ROWS:
            if row.held:
                cells = self._rows[row.name][number]
                cells.cast("B")[:] = bytes(cells.nbytes)

    def lock(self, part: Part) -> Lock:
        """The lock of a part, for threads and processes."""
        return self._parts[part]

    def names(self, wanted: Iterable[bytes]) -> AbstractContextManager[None]:
        """A context that excludes other processes from the same names; threads of one process have
        to exclude each other themselves."""
        return nullcontext() if self._fd < 0 else self._named(wanted)

    @contextlib.contextmanager
    def _named(self, wanted: Iterable[bytes]) -> Iterator[None]:
        taken: list[int] = []
        try:
            for at in sorted({_offset(name) for name in wanted}):  # in one order: no deadlock
                if not range_locks.take_now(self._fd, at):
                    with self.waiting:
                        range_locks.take(self._fd, at)
                taken.append(at)
            yield
        finally:
            for at in taken:
                range_locks.give_back(self._fd, at)


class Lock:
    """A lock of a board: a context for one thread of one process.

    A thread that has to wait is in ``Board.waiting`` until it leaves the lock, not only while it
    waits: otherwise it could wait there, with the lock, for a thread that waits for the lock.
    """

    __slots__ = ("_at", "_board", "_threads", "_waited")

    def __init__(self, board: Board, at: int) -> None:
        self._board = board
        self._at = at
        self._threads = threading.Lock()
        self._waited: AbstractContextManager[None] | None = None  # guarded by the lock

    def __enter__(self) -> None:
        if self.try_enter():
            return
        waiting = self._board.waiting
        waiting.__enter__()
        try:
            self._threads.acquire()
            try:
                if self._board._fd >= 0:
                    range_locks.take(self._board._fd, self._at)
            except BaseException:
                self._threads.release()
                raise
        except BaseException:
            waiting.__exit__(None, None, None)
            raise
        self._waited = waiting

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        waited, self._waited = self._waited, None
        if self._board._fd >= 0:
            range_locks.give_back(self._board._fd, self._at)
        self._threads.release()
        if waited is not None:
            waited.__exit__(kind, error, trace)

    def try_enter(self) -> bool:
        """Enter unless another holds the lock now; then False, and there is nothing to leave."""
        if not self._threads.acquire(blocking=False):
            return False
        if self._board._fd >= 0 and not range_locks.take_now(self._board._fd, self._at):
            self._threads.release()
            return False
        return True


def _whole(processes: int) -> int:
    return sum(_size(row) * (processes if row.each else 1) for row in ROWS)


def _size(row: Row[int] | Row[float]) -> int:
    """Bytes of one row, in whole cache lines, so that processes share none."""
    return -(-struct.calcsize(row.kind) * row.cells // 64) * 64


def _offset(name: bytes) -> int:
    import hashlib  # not by the supervisor, which stays small

    digest = hashlib.blake2b(name, digest_size=8).digest()
    return _HASHED + (int.from_bytes(digest, "big") >> 2)
