"""The durable write: the order of its calls, and what holds when any of them fails."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from headgate.spool.image.image import Item, Sent, State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.spooling import Clock, Crash, Disk, images_below, open_spool, put

ERRNOS = (errno.EIO, errno.ENOSPC, errno.EROFS)


def names_of(disk: Disk) -> list[str]:
    return [name for name, _ in disk.calls]


def test_an_image_is_flushed_before_it_is_linked_and_its_folder_after(
    spool: Spool, clock: Clock
) -> None:
    put(spool, b"the folder is there now")
    with Disk()() as disk:
        put(spool, b"one image")
    assert names_of(disk) == [
        "open", "write", "setxattr", "fsync", "link", "unlink", "fsync",
    ]  # fmt: skip
    image_fd, folder_fd = (what for name, what in disk.calls if name == "fsync")
    assert image_fd != folder_fd


def test_the_folders_that_a_new_spool_lies_in_are_on_disk(tmp_path: Path) -> None:
    """Also those that an earlier start made, which was killed before it flushed them."""
    (tmp_path / "made" / "before").mkdir(parents=True)
    flushed: list[Path] = []
    with mock.patch.object(durable, "sync_folder", flushed.append):
        durable.make_root(tmp_path / "made" / "before" / "now" / "spool", ("tmp", "new"))
    above = (tmp_path, tmp_path / "made", tmp_path / "made" / "before")
    assert {path.resolve() for path in above} <= set(flushed)


def test_a_new_minute_folder_is_on_disk_up_to_the_spool_before_an_image_is_in_it(
    spool: Spool, clock: Clock
) -> None:
    put(spool, b"first")
    clock.advance(minutes=1)
    with Disk()() as disk:
        put(spool, b"second")
    calls = names_of(disk)
    assert calls[calls.index("mkdir") :] == [
        "mkdir", "mkdir", "fsync", "fsync", "link", "unlink", "fsync",
    ]  # fmt: skip


def test_a_swept_folder_is_made_again_and_its_parents_are_flushed_again(
    spool: Spool, tmp_path: Path
) -> None:
    receipt = put(spool, b"first").receipt
    folder = spool.files.in_new(receipt.name).parent
    (folder / receipt.name.file).rename(tmp_path / "elsewhere")
    folder.rmdir()
    with Disk()() as disk:
        second = put(spool, b"second").receipt
    calls = names_of(disk)
    assert calls.count("link") == 2  # the first met ENOENT
    assert calls[calls.index("mkdir") :] == [
        "mkdir", "mkdir", "fsync", "fsync", "link", "unlink", "fsync",
    ]  # fmt: skip
    assert spool.files.in_new(second.name).read_bytes() == b"second"


def test_a_folder_made_again_by_another_is_not_mistaken_for_the_old_one(
    spool: Spool, tmp_path: Path
) -> None:
    receipt = put(spool, b"first").receipt
    folder = spool.files.in_new(receipt.name).parent
    (folder / receipt.name.file).rename(tmp_path / "elsewhere")
    folder.rmdir()
    folder.mkdir()  # same name, and nobody has flushed its parent since
    with Disk()() as disk:
        put(spool, b"second")
    calls = names_of(disk)
    assert calls[calls.index("mkdir") :].count("fsync") == 3


def test_a_taken_name_is_bumped_and_nothing_is_overwritten(spool: Spool, clock: Clock) -> None:
    now = clock()
    spool.now = lambda: now
    first = put(spool, b"same", sequence=1).receipt
    second = put(spool, b"same", sequence=2).receipt
    assert (second.received_at - first.received_at).microseconds == 1
    assert len(images_below(spool.path)) == 2


@pytest.mark.parametrize("code", ERRNOS, ids=errno.errorcode.get)
@pytest.mark.parametrize("new_minute", [False, True], ids=["same-minute", "new-minute"])
def test_no_failing_disk_call_is_acknowledged_and_none_costs_an_acknowledged_image(
    tmp_path: Path, code: int, new_minute: bool
) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock)
    acked = {put(spool, b"before").receipt.id: b"before"}
    nth = 0
    while True:
        nth += 1
        if new_minute:
            clock.advance(minutes=1)
        data = f"image {nth}".encode()
        with Disk(nth, code)() as disk:
            try:
                receipt = put(spool, data).receipt
            except DiskError as trouble:
                assert trouble.errno == code
                assert disk.fired
            else:
                acked[receipt.id] = data
                if not disk.fired:
                    break
        again = put(spool, data)  # the camera sends again, and the disk is well
        acked[again.receipt.id] = data
    assert nth == (12 if new_minute else 8)
    spool.close()
    reopened = open_spool(tmp_path, clock)
    reopened.recover()
    for image, data in acked.items():
        receipt = reopened.receipt(image)
        assert receipt is not None
        assert reopened.files.in_new(receipt.name).read_bytes() == data
    assert list(reopened.files.tmp.iterdir()) == []
    assert verify.disagreements(reopened, deep=True, sleep=lambda _: None) == []
    assert snapshot(reopened).unaccounted == 0
    reopened.close()


@pytest.mark.parametrize("crash", ["before", "after"])
def test_a_crash_at_any_disk_call_of_an_upload_loses_nothing_acknowledged(
    tmp_path: Path, crash: str
) -> None:
    clock = Clock()
    acked: dict[str, bytes] = {}
    nth = 0
    fired = True
    while fired:
        nth += 1
        clock.advance(minutes=1)
        data = f"image {nth}".encode()
        spool = open_spool(tmp_path, clock)
        spool.recover()
        with Disk(nth, crash=crash)() as disk:
            with contextlib.suppress(Crash):
                put(spool, data)
            fired = disk.fired
        spool.close()
        spool = open_spool(tmp_path, clock)
        spool.recover()
        acked[put(spool, data).receipt.id] = data  # a duplicate or new: never both
        spool.close()
    spool = open_spool(tmp_path, clock)
    assert verify.disagreements(spool, deep=True, sleep=lambda _: None) == []
    held = images_below(spool.path)
    assert len(held) == nth == len(acked)
    spool.close()


def _ready(spool: Spool, count: int) -> list[Item]:
    for number in range(count):
        put(spool, f"image {number}".encode(), device=f"cam-{number}")
    items = spool.catalog.after(0, count)
    spool.catalog.claim(items)
    return items


def _finish(mover: Mover, items: list[Item], clock: Clock) -> None:
    mover.finish([(item, Sent("bucket", f"k/{item.name.file}", "etag")) for item in items], clock())


def _set_aside(mover: Mover, items: list[Item], clock: Clock) -> None:
    for item in items:
        mover.set_aside(item, "a test says so", clock())


def _retry(mover: Mover, items: list[Item], clock: Clock) -> None:
    _set_aside(mover, items, clock)
    for item in items:
        mover.retry(item.id)


def _prune(mover: Mover, items: list[Item], clock: Clock) -> None:
    _finish(mover, items, clock)
    mover.prune(clock(), need=10**9)


def _sweep(mover: Mover, items: list[Item], clock: Clock) -> None:
    _finish(mover, items, clock)
    clock.advance(days=2)
    mover.sweep(clock())


MOVES = (_finish, _set_aside, _retry, _prune, _sweep)
LONGER = (_retry, _prune)
"""Each goes on from where another ended, which is tried by itself."""


@pytest.mark.parametrize(
    "crash",
    [
        pytest.param("", id="fails"),
        pytest.param("before", id="dies-before"),
        # The disk is as before the next step, which dies-before has tried.
        pytest.param("after", id="dies-after", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "move",
    [pytest.param(one, marks=pytest.mark.slow if one in LONGER else ()) for one in MOVES],
    ids=lambda move: move.__name__.strip("_"),
)
def test_every_move_that_breaks_off_anywhere_leaves_each_image_in_one_place(
    tmp_path: Path, move: Callable[[Mover, list[Item], Clock], None], crash: str
) -> None:
    nth, fired = 0, True
    while fired:
        nth += 1
        root = tmp_path / str(nth)
        root.mkdir()
        clock = Clock()
        spool = open_spool(root, clock)
        items = _ready(spool, 3)
        with spool.hold_drain_lock("a test", 0) as lock, Disk(nth, crash=crash)() as disk:
            with contextlib.suppress(DiskError, Crash):
                move(Mover(spool, lock), items, clock)
            fired = disk.fired
        spool.close()
        spool = open_spool(root, clock)
        spool.recover()
        with spool.hold_drain_lock("a test", 0) as lock:
            mover = Mover(spool, lock)
            mover.reconcile(clock())
            found = verify.disagreements(spool, deep=True, sleep=lambda _: None)
            assert not [trouble for trouble in found if trouble.kind is DisagreementKind.LOST]
            assert verify.repair(spool, mover, found) == []
        places = images_below(root / "var" / "spool")
        for item in items:
            receipt = spool.receipt(item.id)
            assert receipt is not None
            if receipt.state is State.UPLOADED and not receipt.local:
                assert item.id not in places
            else:
                assert len(places[item.id]) == 1
        assert verify.disagreements(spool, deep=True, sleep=lambda _: None) == []
        spool.close()
    assert nth > 5


def test_a_pruned_copy_is_gone_from_the_disk_before_the_note_of_it_is(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut brings it back, beside a receipt that says it is gone."""
    items, forget = _ready(spool, 3), spool.site.put
    before_it_went: list[list[str]] = []

    def put_noted(name: str, value: object) -> None:
        if name == "pruning" and value is None:
            before_it_went.append(names_of(disk))
        forget(name, value)

    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        _finish(mover, items, clock)
        monkeypatch.setattr(spool.site, "put", put_noted)
        with Disk()() as disk:
            mover.prune(clock(), need=10**9)
    assert before_it_went[-1][-4:] == ["unlink", "unlink", "unlink", "fsync"]


RECORDS = {
    "catalog": ("finished", "put_aside", "put_back", "drop"),
    "receipts": ("add", "mark_pruned", "withdraw"),
}


@contextlib.contextmanager
def _at_each_record(spool: Spool, look: Callable[[], None]) -> Iterator[None]:
    """``look`` before each time that a database is told where images are, and after the last."""
    with contextlib.ExitStack() as stack:
        for owner, methods in RECORDS.items():
            for method in methods:
                table = getattr(spool, owner)
                real = getattr(table, method)

                def record(*args: Any, real: Callable[..., Any] = real, **more: Any) -> Any:
                    look()
                    return real(*args, **more)

                stack.enter_context(mock.patch.object(table, method, record))
        yield
    look()


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__.strip("_"))
def test_no_record_says_where_an_image_is_before_its_move_is_on_disk(
    spool: Spool, clock: Clock, move: Callable[[Mover, list[Item], Clock], None]
) -> None:
    items = _ready(spool, 3)
    unflushed: set[Path] = set()
    moves = 0
    real_move, real_sync = durable.move, durable.sync_folder

    def moved(source: Path | str, target: Path | str) -> None:
        nonlocal moves
        real_move(source, target)
        unflushed.update((Path(source).parent, Path(target).parent))
        moves += 1

    def synced(path: Path) -> None:
        real_sync(path)
        unflushed.discard(path)

    def look() -> None:
        assert not unflushed, "a power cut now would undo what is recorded next"

    with (
        spool.hold_drain_lock("a test", 0) as lock,
        mock.patch.object(durable, "move", moved),
        mock.patch.object(durable, "sync_folder", synced),
        _at_each_record(spool, look),
    ):
        move(Mover(spool, lock), items, clock)
    assert moves >= 3


@pytest.mark.parametrize("move", MOVES, ids=lambda move: move.__name__.strip("_"))
def test_at_each_record_of_a_move_something_counts_each_image(
    spool: Spool, clock: Clock, move: Callable[[Mover, list[Item], Clock], None]
) -> None:
    """A kill between two of them finds each image in the catalog, in the receipts, or in both."""
    items = _ready(spool, 3)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for item in items:
            assert spool.catalog.get(item.id) or spool.receipts.get(item.id)

    with spool.hold_drain_lock("a test", 0) as lock, _at_each_record(spool, look):
        move(Mover(spool, lock), items, clock)
    assert looks >= 3


def test_a_run_killed_between_a_receipt_and_its_row_is_counted_right_by_the_next_one(
    spool: Spool, clock: Clock
) -> None:
    """Also by one that may send nothing, and so would not come across the row."""
    items = _ready(spool, 3)
    with spool.hold_drain_lock("a test", 0) as lock:
        with mock.patch.object(spool.catalog, "finished", side_effect=Crash):
            with pytest.raises(Crash):
                _finish(Mover(spool, lock), items, clock)
        assert spool.inventory().unaccounted == -3
        Mover(spool, lock).reconcile(clock())
    assert spool.inventory().unaccounted == 0
    assert verify.disagreements(spool, sleep=lambda _: None) == []


def test_a_prune_that_broke_off_is_finished_by_the_next_run(spool: Spool, clock: Clock) -> None:
    items = _ready(spool, 3)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        _finish(mover, items, clock)
        with Disk(2)() as disk, pytest.raises(DiskError):
            mover.prune(clock(), need=10**9)
        assert [name for name, _ in disk.calls] == ["unlink", "unlink"]
        assert len(images_below(spool.path)) == 2
        mover.reconcile(clock())
    assert images_below(spool.path) == {}
    assert verify.disagreements(spool, sleep=lambda _: None) == []


def test_leaving_an_upload_early_leaves_no_file_and_no_descriptor(spool: Spool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pytest.raises(RuntimeError), spool.incoming() as incoming:
            incoming.write(b"half an ima")
            raise RuntimeError("the client hung up")
    assert list(spool.files.tmp.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_state_file_replaces_nothing_but_a_file(tmp_path: Path) -> None:
    """rename(2) replaces a device or a pipe without a word."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DiskError, match="not a regular file"):
        durable.write_file(pipe, b"new")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
