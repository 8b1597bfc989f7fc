"""What goes because it is old, goes only then, and stays counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.budget import ledger
from headgate.spool.image.image import Receipt, Sent
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, Crash, Disk, put


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The wall clock; the time since boot goes with it, unless a test steps the one alone."""
    made = Clock()
    started = made.at
    monkeypatch.setattr(
        ledger, "boottime", lambda: round((made.at - started).total_seconds() * 1e9) + 10**12
    )
    return made


@pytest.fixture
def mover(spool: Spool) -> Iterator[Mover]:
    with spool.hold_drain_lock("a test", 0) as lock:
        yield Mover(spool, lock)


def upload(spool: Spool, mover: Mover, image: Receipt) -> None:
    item = spool.catalog.get(image.id)
    assert item is not None
    spool.catalog.claim([item])
    mover.finish([(item, Sent("bucket", f"k/{item.name.file}", "etag"))], spool.now())


def age(spool: Spool, mover: Mover) -> list[str]:
    """What a run does before it picks; the days whose receipts went."""
    mover.prune(spool.now())
    return mover.drop_old_receipts(spool.now())


def test_a_local_copy_goes_after_a_day_and_its_receipt_after_thirty(
    spool: Spool, mover: Mover, clock: Clock
) -> None:
    image = put(spool, b"image").receipt
    upload(spool, mover, image)
    clock.advance(hours=23)
    assert age(spool, mover) == []
    assert spool.files.in_done(image.name).exists()
    clock.advance(hours=2)
    assert age(spool, mover) == []
    assert not spool.files.in_done(image.name).exists()
    clock.advance(days=29)
    assert age(spool, mover) == []
    assert spool.receipt(image.id) is not None
    clock.advance(days=1)
    assert age(spool, mover) == ["2026-11-23"]
    assert spool.receipt(image.id) is None
    assert snapshot(spool).uploaded_pruned.images == 1
    assert snapshot(spool).unaccounted == 0


def test_after_a_jump_of_the_clock_nothing_goes_for_its_age(
    spool: Spool, mover: Mover, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(spool, b"image").receipt
    upload(spool, mover, image)
    kept = put(spool, b"kept").receipt
    upload(spool, mover, kept)
    spool.receipts.mark_pruned(image.name.day, [image.id])
    spool.files.in_done(image.name).unlink()
    assert age(spool, mover) == []
    standing = ledger.boottime()
    monkeypatch.setattr(ledger, "boottime", lambda: standing + 10**9)
    clock.advance(days=40)
    assert age(spool, mover) == []
    assert spool.files.in_done(kept.name).exists()
    spool.receipts.mark_pruned(kept.name.day, [kept.id])  # no copy keeps the day from going
    assert age(spool, mover) == []
    assert spool.receipt(image.id) is not None
    monkeypatch.setattr(ledger, "boottime", lambda: standing + 25 * 3600 * 10**9)
    clock.advance(hours=25)
    assert age(spool, mover) == ["2026-11-23"]


def test_an_image_that_is_finished_after_its_day_was_dropped_is_counted_once(
    spool: Spool, mover: Mover, clock: Clock
) -> None:
    images = [put(spool, bytes([number])).receipt for number in range(4)]
    for image in images[:2]:
        upload(spool, mover, image)
    for expected in (2, 3, 4):
        assert snapshot(spool).unaccounted == 0
        clock.advance(days=32)
        age(spool, mover)
        facts = snapshot(spool)
        assert (facts.uploaded_pruned.images, facts.unaccounted) == (expected, 0)
        if expected < 4:
            upload(spool, mover, images[expected])
            facts = snapshot(spool)
            assert (facts.uploaded_local.images, facts.unaccounted) == (1, 0)
            late = spool.receipt(images[expected].id)
            assert late is not None and late.safe_to_erase


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_while_a_day_is_dropped_counts_nothing_twice(
    spool: Spool, mover: Mover, clock: Clock, when: str
) -> None:
    images = [put(spool, bytes([number])).receipt for number in range(3)]
    for image in images:
        upload(spool, mover, image)
    clock.advance(days=2)
    mover.prune(spool.now())
    clock.advance(days=30)
    for call in (1, 2, 3):
        with Disk(nth=call, crash=when)() as disk:
            with contextlib.suppress(Crash):
                mover.drop_old_receipts(spool.now())
        facts = snapshot(spool)
        assert (facts.uploaded_pruned.images, facts.unaccounted) == (3, 0), disk.calls
    age(spool, mover)
    facts = snapshot(spool)
    assert (facts.uploaded_pruned.images, facts.unaccounted) == (3, 0)
    assert spool.receipts.days() == []


def test_another_program_sees_that_a_day_was_dropped_and_made_again(
    spool: Spool, mover: Mover, clock: Clock
) -> None:
    first, second = (put(spool, data).receipt for data in (b"first", b"second"))
    upload(spool, mover, first)
    receiver = Receipts(spool.files.state / "receipts")
    assert receiver.get(first.id) is not None
    clock.advance(days=32)
    assert age(spool, mover) == ["2026-11-23"]
    assert receiver.get(first.id) is None
    upload(spool, mover, second)
    assert receiver.get(second.id) is not None
    assert receiver.totals()[0].images == 1
    receiver.close()
