"""What a start makes good after an unclean stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool import sqlite
from headgate.spool.disk.layout import write_sent
from headgate.spool.image import names
from headgate.spool.image.image import Receipt, Sent, State
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, open_spool, put, upload_all


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    opened = open_spool(tmp_path / "spool", clock)
    yield opened
    opened.close()


def lose_rows(spool: Spool, receipts: list[Receipt]) -> None:
    """As a power cut does to the last rows of the catalog."""
    db = sqlite.raw(spool.files.state / "catalog.sqlite3")
    for one in receipts:
        db.execute("DELETE FROM images WHERE id = ?", (one.id,))
        for table, where in (
            ("totals", "state = -1"),
            ("minutes", f"folder = '{one.name.folder}'"),
        ):
            db.execute(
                f"UPDATE {table} SET images = images - 1, bytes = bytes - ? WHERE {where}",
                (one.size,),
            )
    db.close()


def test_lost_rows_come_back_from_the_files(spool: Spool) -> None:
    kept, *lost = [put(spool, bytes([n]), key=f"key-{n}").receipt for n in range(4)]
    lose_rows(spool, lost)
    assert spool.recover().restored == 3
    assert snapshot(spool).unaccounted == 0
    assert [spool.receipt(one.id) for one in (kept, *lost)] == [kept, *lost]


def test_an_image_in_done_is_known_although_neither_row_nor_receipt_was_flushed(
    spool: Spool,
) -> None:
    """The power went after the move to done/ was on disk, and before the receipt was."""
    image = put(spool, b"sent", key="key-1").receipt
    source, target = spool.files.in_new(image.name), spool.files.in_done(image.name)
    target.parent.mkdir(parents=True)
    write_sent(source, Sent("bucket", "k/1", "etag", uploaded_at=spool.now()))
    source.rename(target)
    lose_rows(spool, [image])
    assert spool.recover().restored == 1
    assert put(spool, b"sent", key="key-1").duplicate
    item = spool.catalog.get(image.id)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        assert Mover(spool, lock).locate(item, spool.now()) == "done"
    uploaded = spool.receipt(image.id)
    assert uploaded is not None and uploaded.safe_to_erase and uploaded.key == "k/1"
    assert spool.recover().restored == 0
    assert snapshot(spool).unaccounted == 0


@pytest.mark.parametrize("place", ["new", "aside", "done"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "unreadable", "attribute"])
def test_one_bad_file_never_stops_a_start(
    spool: Spool, clock: Clock, place: str, kind: str
) -> None:
    good = put(spool, b"good").receipt
    name = names.make(clock(), "cam-9", "a" * 64, "jpg")
    bad = {
        "new": spool.files.in_new(name),
        "aside": spool.files.in_aside(name),
        "done": spool.files.in_done(name),
    }[place]
    bad.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        bad.mkdir()
    elif kind == "fifo":
        os.mkfifo(bad)
    elif kind == "link":
        bad.symlink_to("nowhere")
    else:
        bad.write_bytes(b"x")
        if kind == "unreadable":
            bad.chmod(0)
        else:
            os.setxattr(bad, "user.headgate", b'{"sha256":"' + b"a" * 16 + b'zz","size":1e999}')
    lose_rows(spool, [good])
    spool.recover()
    assert spool.receipt(good.id) == good
    # A file in done/ that nothing vouches for is counted, so that verify is asked for.
    counted = place == "done" and bad.is_file()
    assert snapshot(spool).unaccounted == int(counted)


def test_what_was_being_received_is_gone(spool: Spool) -> None:
    with spool.incoming() as cut_off:
        cut_off.write(b"half an im")
        assert spool.recover().cut_off == 1
        assert os.listdir(spool.files.tmp) == []


def test_starting_again_changes_nothing(spool: Spool) -> None:
    for number in range(3):
        put(spool, bytes([number]))
    upload_all(spool)
    put(spool, b"more")
    before = snapshot(spool)
    for _ in range(3):
        assert spool.recover().restored == 0
    after = snapshot(spool)
    assert (after.received, after.waiting, after.uploaded_local, after.unaccounted) == (
        before.received,
        before.waiting,
        before.uploaded_local,
        0,
    )


def test_an_image_of_which_only_the_receipt_is_left_stays_counted(spool: Spool) -> None:
    image = put(spool, b"image").receipt
    upload_all(spool)
    spool.receipts.mark_pruned(image.name.day, [image.id])
    spool.files.in_done(image.name).unlink()
    spool.recover()
    facts = snapshot(spool)
    assert (facts.received.images, facts.uploaded_pruned.images, facts.unaccounted) == (1, 1, 0)


def test_a_clock_that_was_set_back_counts_nothing_twice(spool: Spool, clock: Clock) -> None:
    first = clock.at
    for number in range(5):
        put(spool, bytes([number]))
    upload_all(spool)
    for minutes in (1, 2, 3):
        clock.at = first
        clock.advance(minutes=minutes)
        put(spool, b"later %d" % minutes)
    clock.at = first
    clock.advance(seconds=20)
    put(spool, b"the same minute, again")
    assert snapshot(spool).unaccounted == 0
    spool.recover()
    facts = snapshot(spool)
    assert (facts.received.images, facts.unaccounted) == (9, 0)


def test_an_image_whose_upload_outlived_its_row_is_counted(
    spool: Spool, clock: Clock, tmp_path: Path
) -> None:
    """The catalog is as it was before the image came; its receipt, flushed, is not."""
    put(spool, b"before")
    state = spool.files.state
    spool.close()
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in state.glob("catalog.sqlite3*"):
        shutil.copy(file, kept)
    again = open_spool(tmp_path / "spool", clock)
    put(again, b"image")
    upload_all(again)
    again.close()
    for file in state.glob("catalog.sqlite3*"):
        file.unlink()
    for file in kept.iterdir():
        shutil.copy(file, state)
    last = open_spool(tmp_path / "spool", clock)
    last.recover()
    facts = snapshot(last)
    assert (facts.received.images, facts.uploaded_local.images) == (2, 2)
    # The row of the first came back with the old catalog; a run that picks it finds no file.
    (item,) = last.catalog.after(0, 10)
    with last.hold_drain_lock("a test", 0) as lock:
        assert Mover(last, lock).locate(item, clock()) == "done"
    assert snapshot(last).unaccounted == 0
    assert last.images(State.WAITING, 10) == []
    last.close()
