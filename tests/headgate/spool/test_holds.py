"""What a person holds is not sent and not pruned, whatever happens meanwhile, and is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.actions import holds
from headgate.actions.errors import ActionRefused
from headgate.actions.images import Result, retry
from headgate.spool.catalog import holds as catalog_holds
from headgate.spool.image.image import Item, State
from headgate.spool.site.audit import TERMINAL, Action, Actor
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, open_spool, put, upload_all

BY = Actor("anna", TERMINAL)


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    opened = open_spool(tmp_path, clock, spool__keep_done="1h", spool__keep_done_max="0B")
    yield opened
    opened.close()


def may_go(spool: Spool) -> list[str]:
    """What a run could pick."""
    devices = spool.catalog.backlog.waiting_devices()
    found = [spool.catalog.backlog.oldest_of(device, 0, 100) for device in devices]
    return [item.id for items in found for item in items]


def assert_counted(spool: Spool, held: int) -> None:
    images = spool.inventory()
    assert (images.held.images, images.unaccounted) == (held, 0)
    assert spool.catalog.counted() == spool.catalog.totals()
    assert verify.disagreements(spool, sleep=lambda _: None) == []


def test_a_held_device_keeps_its_images_and_those_to_come_and_returns_to_its_order(
    spool: Spool,
) -> None:
    images = [put(spool, bytes([n]), f"cam-{n % 2}").receipt.id for n in range(6)]
    before = may_go(spool)
    holds.hold(spool, BY, "cam-1", "claim 4711")
    came = put(spool, b"new", "cam-1").receipt.id
    assert may_go(spool) == images[::2]
    assert_counted(spool, 4)
    receipt = spool.receipt(came)
    assert receipt is not None and receipt.state is State.HELD
    assert not receipt.safe_to_erase
    holds.release(spool, BY, "cam-1")
    assert may_go(spool) == [*before, came]
    assert_counted(spool, 0)
    written = [(one.action, one.who, one.subject) for one in spool.site.audit.entries()]
    assert written == [(Action.RELEASE, "anna", "cam-1"), (Action.HOLD, "anna", "cam-1")]


def failed(spool: Spool, item: Item, lock: Any) -> None:
    spool.catalog.claim([item])
    spool.catalog.defer(item, spool.now(), "it failed", unknown=False)
    spool.catalog.due(spool.now() + timedelta(hours=1))


def refused(spool: Spool, item: Item, lock: Any) -> None:
    spool.catalog.hold(item, spool.now(), "refused", unknown=False, refusals=1)
    spool.catalog.release()


def killed(spool: Spool, item: Item, lock: Any) -> None:
    spool.catalog.claim([item])
    Mover(spool, lock).reconcile(spool.now())


def put_aside_and_back(spool: Spool, item: Item, lock: Any) -> None:
    Mover(spool, lock).set_aside(item, "a test", spool.now())
    Mover(spool, lock).retry(item.id)


def lost_from_the_catalog(spool: Spool, item: Item, lock: Any) -> None:
    spool.catalog.drop([item.id])
    verify.repair(spool, Mover(spool, lock), verify.disagreements(spool, sleep=lambda _: None))


@pytest.mark.parametrize(
    "way", [failed, refused, killed, put_aside_and_back, lost_from_the_catalog]
)
@pytest.mark.parametrize("what", ["image", "device"])
def test_no_way_back_to_the_queue_passes_a_hold(
    spool: Spool, what: str, way: Callable[[Spool, Item, Any], None]
) -> None:
    image = put(spool, b"one").receipt.id
    holds.hold(spool, BY, image if what == "image" else "cam-1")
    item = spool.catalog.get(image)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        way(spool, item, lock)
    assert may_go(spool) == []
    assert retry(spool, BY, [image])[image].result is Result.HELD
    assert_counted(spool, 1)


@pytest.mark.parametrize("step", ["hold", "release"])
def test_a_kill_between_the_two_databases_is_made_good_when_a_run_begins(
    tmp_path: Path, clock: Clock, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_told: object) -> None:
        raise Killed

    with closing(open_spool(tmp_path, clock)) as spool:
        image = put(spool, b"one").receipt.id
        if step == "release":
            holds.hold(spool, BY, image)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(catalog_holds.Holds, "agree", killed)
            getattr(holds, step)(spool, BY, image)
    with closing(open_spool(tmp_path, clock)) as spool:
        with spool.hold_drain_lock("a run", 0) as lock:
            Mover(spool, lock).reconcile(spool.now())
        assert may_go(spool) == ([] if step == "hold" else [image])
        assert_counted(spool, int(step == "hold"))


def test_an_image_that_is_held_itself_stays_when_its_device_is_released(spool: Spool) -> None:
    first, second = (put(spool, bytes([n])).receipt.id for n in range(2))
    holds.hold(spool, BY, first)
    holds.hold(spool, BY, "cam-1")
    holds.release(spool, BY, "cam-1")
    assert may_go(spool) == [second]
    assert_counted(spool, 1)


def test_what_waited_for_its_next_attempt_waits_for_it_again(spool: Spool) -> None:
    image = put(spool, b"one").receipt.id
    item = spool.catalog.get(image)
    assert item is not None
    later = spool.now() + timedelta(minutes=10)
    spool.catalog.defer(item, later, "it failed", unknown=True)
    holds.hold(spool, BY, image)
    holds.release(spool, BY, image)
    assert may_go(spool) == []
    spool.catalog.due(later)
    assert may_go(spool) == [image]


def test_copies_of_what_is_held_are_never_pruned(spool: Spool, clock: Clock) -> None:
    kept = put(spool, b"one", "cam-1").receipt.id
    by_device = put(spool, b"two", "cam-2").receipt.id
    goes = put(spool, b"three", "cam-3").receipt.id
    upload_all(spool)
    holds.hold(spool, BY, kept)
    holds.hold(spool, BY, "cam-2")
    clock.advance(days=2)
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).prune(clock(), need=10**9, need_images=100)
    local = {image: r.local for image in (kept, by_device, goes) if (r := spool.receipt(image))}
    assert local == {kept: True, by_device: True, goes: False}
    holds.release(spool, BY, kept)
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).prune(clock(), need=10**9)
    receipt = spool.receipt(kept)
    assert receipt is not None and not receipt.local


def test_what_cannot_be_held_is_said(spool: Spool) -> None:
    image = put(spool, b"one").receipt.id
    (item,) = spool.catalog.after(0, 1)
    spool.catalog.claim([item])
    with pytest.raises(ActionRefused, match="is sending"):
        holds.hold(spool, BY, image)
    for call in (holds.hold, holds.release):
        with pytest.raises(ActionRefused, match=r"no device|not held"):
            call(spool, BY, "cam-9")
    assert spool.site.holds.all() == []
