"""What processes share: numbers that add up, and locks that end with their holder."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from headgate.host.board import DEVICE_UPLOADS, PROMISED, REFUSED, ROWS, TROUBLE, Board, Part
from tests.support.wait import join, wait_until


@contextlib.contextmanager
def forked(board: Board, number: int, holds: Callable[[Board], object]) -> Iterator[int]:
    """A process of the board in which ``holds`` was called, and which waits to be killed."""
    ready, says = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on, of a process with threads; this child uses nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            held = holds(board.of(number))
            os.write(says, b"x")
            signal.pause()
            del held
        finally:
            os._exit(1)
    os.close(says)
    try:
        assert os.read(ready, 1) == b"x"
        yield child
    finally:
        os.close(ready)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class Waiting(contextlib.AbstractContextManager[None]):
    """Says that a wait has begun."""

    def __init__(self, begun: threading.Event) -> None:
        self._begun = begun

    def __enter__(self) -> None:
        self._begun.set()

    def __exit__(self, *_: object) -> None:
        pass


def begin(context: contextlib.AbstractContextManager[object]) -> object:
    context.__enter__()
    return context


def test_each_process_has_its_row_and_a_total_is_the_sum() -> None:
    board = Board.shared(3)
    views = [board.of(number) for number in range(3)]
    for number, view in enumerate(views):
        view.own(REFUSED)[5] += number + 1
    assert [cells[5] for cells in board.all(REFUSED)] == [1, 2, 3]
    assert views[1].total(REFUSED, 5) == 6


def test_what_another_process_writes_is_seen_here() -> None:
    board = Board.shared(2)

    def write(view: Board) -> None:
        view.own(PROMISED)[0] = 12345

    with forked(board, 1, write):
        assert board.total(PROMISED, 0) == 12345


def test_what_a_dead_process_held_is_cleared_and_what_it_counted_is_kept() -> None:
    board = Board.shared(2)
    for number in range(2):
        view = board.of(number)
        view.own(PROMISED)[0] = view.own(DEVICE_UPLOADS)[7] = view.own(TROUBLE)[1] = 9
        view.own(REFUSED)[0] = 9
    board.clear(1)
    assert (
        board.total(PROMISED, 0) == board.total(DEVICE_UPLOADS, 7) == board.total(TROUBLE, 1) == 9
    )
    assert board.total(REFUSED, 0) == 18


def test_rows_do_not_overlap() -> None:
    board = Board.shared(2)
    cells = [cells for row in ROWS for cells in board.all(row)]  # type: ignore[arg-type]
    for number, one in enumerate(cells):
        for at in range(len(one)):
            one[at] = number
    for number, one in enumerate(cells):
        assert set(one) == {number}


def test_a_lock_of_a_killed_process_is_free() -> None:
    board = Board.shared(2)
    mine = board.of(0)
    with forked(board, 1, lambda view: begin(view.lock(Part.ROOM))) as child:
        assert not mine.lock(Part.ROOM).try_enter()
        assert mine.lock(Part.RATES).try_enter()  # another part is another lock
        waiting, got = threading.Event(), threading.Event()

        def wait() -> None:
            with mine.lock(Part.ROOM):
                got.set()

        mine.waiting = Waiting(waiting)
        waits = threading.Thread(target=wait)
        waits.start()
        wait_until(waiting.is_set, "it waits")
        assert not got.is_set()
        os.kill(child, signal.SIGKILL)
        join(waits)
        assert got.is_set()


def test_a_lock_by_name_waits_for_the_other_process_and_outlives_no_kill() -> None:
    board = Board.shared(2)
    mine = board.of(0)
    with forked(board, 1, lambda view: begin(view.names([b"a", b"b"]))) as child:
        with mine.names([b"c"]):  # not the same name
            pass
        waiting, got = threading.Event(), threading.Event()

        def take() -> None:
            with mine.names([b"b"]):
                got.set()

        mine.waiting = Waiting(waiting)
        takes = threading.Thread(target=take)
        takes.start()
        wait_until(waiting.is_set, "it waits")
        assert not got.is_set()
        os.kill(child, signal.SIGKILL)
        join(takes)
        assert got.is_set()


def test_two_views_exclude_each_other_and_the_threads_of_one_do() -> None:
    board = Board.shared(2)
    views, counted = [board.of(0), board.of(1)], [0]

    def count(view: Board) -> None:
        for _ in range(300):
            with view.lock(Part.RATES):
                seen = counted[0]
                os.sched_yield()
                counted[0] = seen + 1

    threads = [threading.Thread(target=count, args=(view,)) for view in views * 2]
    for thread in threads:
        thread.start()
    join(*threads)
    assert counted == [1200]


@pytest.mark.parametrize("board", [Board.alone(), Board.shared(1).of(0)], ids=["alone", "shared"])
def test_alone_it_is_the_same(board: Board) -> None:
    with board.lock(Part.ROOM), board.names([b"a"]):
        assert not board.lock(Part.ROOM).try_enter()
    assert board.lock(Part.ROOM).try_enter()
