"""One image is one image, however often and however concurrently it is sent."""

from __future__ import annotations

import threading

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.errors import IdentityConflict
from headgate.spool.image.image import Metadata, Receipt, Sent, State
from headgate.spool.image.names import Name
from headgate.spool.spool import Accepted, Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, images_below, put, upload_all
from tests.support.wait import join


def test_the_same_image_again_gets_the_first_receipt(spool: Spool) -> None:
    first = put(spool, b"image")
    again = put(spool, b"image")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.receipt == first.receipt
    assert len(images_below(spool.path)) == 1


def test_the_same_image_after_its_upload_gets_a_receipt_that_allows_erasing(spool: Spool) -> None:
    first = put(spool, b"image").receipt
    assert not first.safe_to_erase
    upload_all(spool)
    again = put(spool, b"image")
    assert again.duplicate
    assert again.receipt.safe_to_erase
    assert again.receipt.key == f"k/{first.name.file}"


def test_after_the_time_for_duplicates_the_same_bytes_are_a_new_image(
    spool: Spool, clock: Clock
) -> None:
    put(spool, b"image")
    upload_all(spool)
    clock.advance(days=1, hours=23)
    assert put(spool, b"image").duplicate
    clock.advance(days=2)
    assert not put(spool, b"image").duplicate


def test_an_id_as_long_as_a_digest_is_an_id(spool: Spool) -> None:
    image = put(spool, b"image", device="d" * 23).receipt
    assert len(image.id) == 64
    assert spool.receipt(image.id) == spool.receipt(image.sha256) == image


def test_another_device_or_another_sequence_number_is_another_image(spool: Spool) -> None:
    put(spool, b"image", device="cam-1", sequence=1)
    assert not put(spool, b"image", device="cam-2", sequence=1).duplicate
    assert not put(spool, b"image", device="cam-1", sequence=2).duplicate
    assert put(spool, b"image", device="cam-1", sequence=2).duplicate


def test_the_key_decides_where_there_is_one(spool: Spool) -> None:
    first = put(spool, b"image", key="k1").receipt
    assert put(spool, b"image", key="k1").receipt == first
    assert not put(spool, b"image", key="k2").duplicate
    assert not put(spool, b"image", device="cam-2", key="k1").duplicate
    with pytest.raises(IdentityConflict) as conflict:
        put(spool, b"another image", key="k1")
    assert conflict.value.held.id == first.id
    upload_all(spool)
    with pytest.raises(IdentityConflict):
        put(spool, b"another image", key="k1")


@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "uploaded"])
def test_without_a_device_the_same_bytes_are_one_image_for_ten_minutes(
    spool: Spool, clock: Clock, sent: bool
) -> None:
    """As a client sends them again that got no answer; each time anew, from the last one on."""
    address = "_10.0.0.1"
    for _ in range(2):
        first = put(spool, b"image", device=address)
        assert not first.duplicate
        assert not put(spool, b"image", device=f"{address}1").duplicate
        if sent:
            upload_all(spool)
        clock.advance(minutes=9)
        again = put(spool, b"image", device=address)
        assert again.duplicate and again.receipt.id == first.receipt.id
        clock.advance(minutes=2)
    put(spool, b"keyed", device="_10.0.0.1", key="k")
    assert put(spool, b"keyed", device="_10.0.0.1", key="k").duplicate


@pytest.mark.parametrize("more", [{}, {"key": "k"}], ids=["by-digest", "by-key"])
def test_of_many_at_once_one_is_new_and_the_others_wait_for_it(
    spool: Spool, more: dict[str, str]
) -> None:
    everybody = threading.Barrier(16)
    accepted: list[Accepted] = []

    def send() -> None:
        everybody.wait(60)
        accepted.append(put(spool, b"image", **more))

    for _ in range(10):
        threads = [threading.Thread(target=send) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            join(thread)
    assert len(accepted) == 160
    assert sum(not one.duplicate for one in accepted) == 1
    assert len({one.receipt.id for one in accepted}) == 1
    assert len(images_below(spool.path)) == 1


def test_while_the_first_fails_the_second_takes_its_place(spool: Spool) -> None:
    began, go_on = threading.Event(), threading.Event()
    real = spool.catalog.minutes.enter

    def enter(*_args: object) -> None:
        spool.catalog.minutes.enter = real  # type: ignore[method-assign]
        began.set()
        go_on.wait(120)
        raise RuntimeError("the first one fails")

    spool.catalog.minutes.enter = enter  # type: ignore[method-assign]
    outcome: list[object] = []

    def first() -> None:
        try:
            put(spool, b"image")
        except RuntimeError as error:
            outcome.append(str(error))

    def second() -> None:
        outcome.append(put(spool, b"image").duplicate)

    one, two = threading.Thread(target=first), threading.Thread(target=second)
    one.start()
    assert began.wait(120)
    two.start()
    two.join(0.2)
    assert two.is_alive()  # it waits for the outcome of the first
    go_on.set()
    join(one)
    join(two)
    assert outcome == ["the first one fails", False]


def test_what_repair_or_a_run_does_before_the_answer_changes_nothing_of_it(
    spool: Spool, clock: Clock
) -> None:
    real = spool.catalog.add

    def after_repair(name: Name, meta: Metadata, clock: object) -> None:
        spool.catalog.restore(name, meta, State.WAITING, received=True)
        real(name, meta, None)

    def before_a_run(name: Name, meta: Metadata, clock: object) -> None:
        real(name, meta, None)
        upload_all(spool)

    for number, meanwhile in enumerate((after_repair, before_a_run)):
        spool.catalog.add = meanwhile  # type: ignore[method-assign]
        accepted = put(spool, b"image %d" % number)
        assert (accepted.duplicate, accepted.receipt.state) == (False, State.WAITING)
        assert snapshot(spool).unaccounted == 0
    assert snapshot(spool).received.images == 2


def test_by_their_bytes_each_device_finds_its_own_image_in_every_state(
    spool: Spool, clock: Clock
) -> None:
    first, second = (put(spool, b"the same", device=name).receipt for name in ("cam-1", "cam-2"))

    def found(ref: str, device: str) -> str | None:
        receipt = spool.receipt(ref, device)
        return None if receipt is None else receipt.id

    def check() -> None:
        assert found(first.sha256, "cam-1") == found(first.id, "cam-1") == first.id
        assert found(first.sha256, "cam-2") == found(second.id, "cam-2") == second.id
        assert found(first.sha256, "") in (first.id, second.id)
        assert found(first.sha256, "cam-3") is found(first.id, "cam-2") is None

    check()
    one, two = spool.catalog.after(0, 10)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        mover.finish([(one, Sent("b", "k", "e"))], clock())
        check()
        mover.finish([(two, Sent("b", "k2", "e"))], clock())
        check()


def test_by_their_bytes_each_device_finds_its_own_lost_image(spool: Spool, clock: Clock) -> None:
    images = [put(spool, b"the same", device=name).receipt for name in ("cam-1", "cam-2")]
    with spool.hold_drain_lock("a test", 0) as lock:
        for item in spool.catalog.after(0, 10):
            Mover(spool, lock).lose(item, clock())
    found = [spool.receipt(image.sha256, image.device) for image in images]
    assert [receipt and (receipt.id, receipt.state) for receipt in found] == [
        (image.id, State.LOST) for image in images
    ]


def test_a_receipt_is_found_by_id_and_by_digest_in_every_state(spool: Spool, clock: Clock) -> None:
    image = put(spool, b"image").receipt

    def both() -> Receipt:
        by_id, by_digest = spool.receipt(image.id), spool.receipt(image.sha256)
        assert by_id is not None
        assert by_id == by_digest
        return by_id

    assert both().state is State.WAITING
    (item,) = spool.catalog.after(0, 10)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        mover.set_aside(item, "torn", clock())
        assert (both().state, both().reason) == (State.SET_ASIDE, "torn")
        mover.retry(item.id)
        assert both().state is State.WAITING
        spool.catalog.claim([item])
        assert both().state is State.SENDING
        mover.finish([(item, Sent("b", "k", "e"))], clock())
        assert (both().state, both().local, both().safe_to_erase) == (State.UPLOADED, True, True)
        mover.prune(clock(), need=10**6)
        assert (both().state, both().local, both().safe_to_erase) == (State.UPLOADED, False, True)
    assert spool.receipt("20261123T160400.000001Z_cam-1_0123456789abcdef") is None
    assert spool.receipt("0" * 64) is None
    assert spool.receipt("no id at all") is None


def test_a_device_that_repeats_itself_is_alive(spool: Spool, clock: Clock) -> None:
    put(spool, b"image", sequence=7)
    first = spool.catalog.arrivals_of("cam-1")
    clock.advance(minutes=5)
    assert put(spool, b"image", sequence=7).duplicate
    again = spool.catalog.arrivals_of("cam-1")
    assert first is not None
    assert again is not None
    assert (again.images, again.last_at > first.last_at) == (1, True)
