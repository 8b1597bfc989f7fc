"""Writers of one database: each waits in the kernel for the one before it, whoever that is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.host import range_locks
from headgate.host.board import Board, Part
from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk.cpu_turns import CpuTurns
from headgate.spool.disk.write_queue import _NEXT, WriteQueue
from headgate.spool.image import names
from headgate.spool.image.image import Metadata
from tests.support.wait import join, wait_until

Lock = contextlib.AbstractContextManager[None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "writers.queue"


def start(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def someone_waits(path: Path) -> bool:
    """In the kernel, as the first."""
    with path.open("r+b") as file:
        if not range_locks.take_now(file.fileno(), _NEXT):
            return True
        range_locks.give_back(file.fileno(), _NEXT)
        return False


def test_who_waited_comes_before_who_has_just_written(path: Path) -> None:
    mine, other = WriteQueue(path), WriteQueue(path)
    order: list[str] = []

    def write(queue: WriteQueue, name: str) -> None:
        with queue:
            order.append(name)

    mine.__enter__()
    waits = start(lambda: write(other, "who waited"))
    wait_until(lambda: someone_waits(path), "it waits in the kernel")
    mine.__exit__(None, None, None)
    write(mine, "who had written")
    join(waits)
    assert order == ["who waited", "who had written"]


def test_a_killed_writer_makes_way(path: Path) -> None:
    hold = (
        "import signal, sys; from pathlib import Path;"
        "from headgate.spool.disk.write_queue import WriteQueue;"
        "queue = WriteQueue(Path(sys.argv[1])); queue.__enter__(); print(flush=True);"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", hold, path], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"\n"
            mine, written = WriteQueue(path), threading.Event()

            def write() -> None:
                with mine:
                    written.set()

            waits = start(write)
            wait_until(lambda: someone_waits(path), "it waits in the kernel")
            assert not written.is_set()
        finally:
            holder.send_signal(signal.SIGKILL)
    join(waits)
    assert written.is_set()


def test_a_writer_of_the_catalog_never_asks_sqlite_again(tmp_path: Path) -> None:
    """SQLite's own wait is a sleep of up to 100 ms between two attempts."""
    path = tmp_path / "catalog.sqlite3"
    mine, other = Catalog(path), Catalog(path)
    asked: list[int] = []
    other._on.writer.set_busy_handler(lambda times: asked.append(times) or True)  # type: ignore[func-returns-value]
    at = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
    meta = Metadata(sha256="ab" * 32, size=3, media_type="image/jpeg")
    with mine._on.write, sqlite.transaction(mine._on.writer):
        waits = start(lambda: other.add(names.make(at, "cam", meta.sha256, "jpg"), meta))
        wait_until(lambda: someone_waits(path.with_suffix(".queue")), "it waits in the kernel")
    join(waits)
    assert mine.totals().waiting.images == 1
    assert asked == []
    mine.close()
    other.close()


def test_a_folder_that_is_named_waits_for_no_writer(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite3")
    catalog.minutes.enter("2026-11-23/1604")
    with catalog._on.write:
        again = start(lambda: catalog.minutes.enter("2026-11-23/1604"))
        join(again)
        join(start(lambda: catalog.minutes.leave("2026-11-23/1604")))
    catalog.close()


def of_a_queue(path: Path, turns: CpuTurns) -> tuple[Lock, Lock, Callable[[], bool]]:
    return WriteQueue(path, turns.waiting), WriteQueue(path), lambda: someone_waits(path)


def of_a_board(_: Path, turns: CpuTurns) -> tuple[Lock, Lock, Callable[[], bool]]:
    board = Board.shared(2)
    mine, other = board.of(0), board.of(1)
    begun = threading.Event()

    class Waiting(contextlib.AbstractContextManager[None]):
        def __enter__(self) -> None:
            turns.waiting.__enter__()
            begun.set()

        def __exit__(self, *error: object) -> None:
            turns.waiting.__exit__(*error)  # type: ignore[arg-type]

    mine.waiting = Waiting()
    return mine.lock(Part.ROOM), other.lock(Part.ROOM), begun.is_set


Of = Callable[[Path, CpuTurns], tuple[Lock, Lock, Callable[[], bool]]]


@pytest.mark.parametrize("of", [of_a_queue, of_a_board])
def test_nobody_waits_for_a_turn_with_a_lock(path: Path, of: Of) -> None:
    turns = CpuTurns(patience_seconds=3600)
    lock, of_another_process, waits = of(path, turns)
    written = threading.Event()

    def receive() -> None:
        with turns, lock:
            written.set()

    with of_another_process:
        first = start(receive)
        wait_until(waits, "it waits for the lock, without a turn")
        turns.enter()
    assert written.wait(60), "a turn is another's, and it has the lock"
    turns.leave()
    join(first)


@pytest.mark.parametrize("of", [of_a_queue, of_a_board])
def test_nobody_waits_for_a_lock_with_a_turn(path: Path, of: Of) -> None:
    """Two processes took 130 images a second instead of 700 where both rules were broken."""
    turns = CpuTurns(patience_seconds=3600)
    lock, of_another_process, waits = of(path, turns)
    computing = threading.Event()

    def receive() -> None:
        with turns, lock:
            pass

    def receive_too() -> None:
        with turns:
            computing.set()
            with lock:
                pass

    with of_another_process:
        first = start(receive)
        wait_until(waits, "the first waits for the lock, without a turn")
        second = start(receive_too)
        assert computing.wait(60)
        wait_until(lambda: not turns._lock.locked(), "the second waits without a turn as well")
    join(first, second)


@pytest.mark.parametrize("why", ["a link", "no folder", "a second name"])
def test_without_its_file_threads_still_queue(tmp_path: Path, path: Path, why: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"kept")
    mode = elsewhere.stat().st_mode
    match why:
        case "a link":
            path.symlink_to(elsewhere)
        case "a second name":
            path.hardlink_to(elsewhere)
        case "no folder":
            path = tmp_path / "gone" / path.name
    queue, order = WriteQueue(path), list[str]()

    def write() -> None:
        with queue:
            order.append("second")

    with queue:
        waits = start(write)
        order.append("first")
    join(waits)
    queue.close()
    assert order == ["first", "second"]
    assert elsewhere.read_bytes() == b"kept"
    assert elsewhere.stat().st_mode == mode


def test_a_dropped_queue_leaves_no_open_file(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        WriteQueue(path)
    assert len(os.listdir("/proc/self/fd")) == before
