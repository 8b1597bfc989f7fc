"""Before a local copy goes its object is seen in the bucket again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from headgate.host.exit_codes import Exit
from headgate.monitor import collect, metrics
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.disk import durable, xattrs
from headgate.spool.image.image import Presence, Receipt, State
from headgate.spool.receipts.receipts import Receipts
from headgate.spool.site.gone import Gone
from headgate.spool.upkeep import mover, verify, withdrawal
from headgate.spool.upkeep.mover import Mover
from tests.support.s3_server import Place, script
from tests.support.site import FreePacer, Site, unpaced
from tests.support.spooling import Crash, images_below
from uploader.destination.contract import Page
from uploader.run.seen import Lookout
from uploader.s3.client import S3Sender
from uploader.s3.listing import page_of
from uploader.wire.errors import ErrorKind, SendError


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with unpaced(tmp_path, place, monkeypatch, spool__keep_done_max="1B") as made:
        yield made
        script(place)


def take_out(site: Site, images: list[str]) -> None:
    """Somebody removes these objects from the bucket."""
    client = site.place.client
    for entry in client.list_objects_v2(Bucket=site.bucket)["Contents"]:
        if any(image in entry["Key"] for image in images):
            client.delete_object(Bucket=site.bucket, Key=entry["Key"])


def sent(site: Site, count: int) -> list[str]:
    images = [*site.fill(count, "cam-1")]
    assert site.run().images == count
    return images


def test_copies_of_what_is_there_go_after_one_listing(site: Site) -> None:
    sent(site, 10)
    script(site.place)
    assert site.run().exit_code == 0
    assert images_below(site.spool.path) == {}
    assert site.place.strict is not None
    assert site.place.strict.script.seen("HEAD") == 0


def test_a_copy_of_what_is_not_there_stays_and_the_run_says_so(site: Site) -> None:
    images = sent(site, 10)
    take_out(site, images[:2])
    report = site.run()
    assert images_below(site.spool.path) == {image: ["aside"] for image in images[:2]}
    assert report.exit_code == Exit.ERROR
    assert report.set_aside == 2
    assert "2 images that were confirmed once cannot be found" in report.message
    assert site.run().exit_code == 0  # it is reported once, and by the alert while it lasts


def test_the_receipt_of_what_the_bucket_lost_says_so_everywhere(site: Site) -> None:
    images = site.fill(10, "cam-1")
    site.run()
    lost = [*images][:2]
    take_out(site, lost)
    site.run()
    for image in images:
        receipt = site.spool.receipt(image)
        assert receipt is not None
        assert receipt.safe_to_erase is (image not in lost)
        if image in lost:
            assert receipt.state is State.SET_ASIDE
            assert "does not hold it any more" in receipt.reason
    seen = collect.snapshot(site.spool)
    assert (seen.set_aside.images, seen.received.images, seen.unaccounted) == (2, 10, 0)
    assert verify.disagreements(site.spool, deep=True, sleep=lambda _: None) == []
    text = metrics.text(metrics.measures(seen, "1", "3"))
    (line,) = re.findall(r'^headgate_images{state="set_aside".*', text, re.M)
    assert line.endswith(" 2")


def test_a_sample_of_pruned_images_is_looked_at_once_a_day(site: Site) -> None:
    images = sent(site, 60)
    site.run()  # prunes, and looks
    assert images_below(site.spool.path) == {}
    take_out(site, images)
    assert site.run().exit_code == 0  # it was asked today
    script(site.place)
    site.spool.site.put("looked_at_pruned", [0, 0])  # another day
    report = site.run()
    lost = site.spool.site.gone.totals()[0].images
    assert 10 < lost <= 32  # one may be drawn twice
    assert site.place.strict is not None
    assert site.place.strict.script.seen("HEAD") + site.place.strict.script.seen("GET") <= lost
    assert report.exit_code == Exit.ERROR
    assert f"{lost} images that were confirmed, and whose copies here were pruned" in report.message


def test_what_the_bucket_lost_after_its_copy_was_pruned_is_reported_as_lost(site: Site) -> None:
    images = sent(site, 5)
    site.run()
    take_out(site, images[:2])
    site.spool.site.put("looked_at_pruned", [0, 0])
    assert site.run().exit_code == Exit.ERROR
    assert site.run().exit_code == 0  # and the alert stands
    for image in images:
        receipt = site.spool.receipt(image)
        assert receipt is not None
        assert (receipt.state is State.LOST) is (image in images[:2])
        assert receipt.safe_to_erase is (image not in images[:2])
    seen = collect.snapshot(site.spool)
    assert (seen.lost.images, seen.received.images, seen.unaccounted) == (2, 5, 0)
    found = verify.disagreements(site.spool, deep=True, sleep=lambda _: None)
    assert {(one.kind, one.what) for one in found} == {
        (verify.DisagreementKind.LOST, image) for image in images[:2]
    }
    assert all("does not hold it any more" in one.detail for one in found)


@pytest.mark.parametrize("step", range(3))
def test_a_crash_while_an_image_is_noted_as_lost_leaves_the_books_straight(
    site: Site, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sent(site, 3)
    site.run()
    take_out(site, images[:1])
    site.spool.site.put("looked_at_pruned", [0, 0])
    calls = [(Gone, "lose"), (Receipts, "withdraw"), (withdrawal, "finish")]

    def crash(*_args: object, **_more: object) -> None:
        raise Crash

    with site.spool.hold_drain_lock("test", 0), monkeypatch.context() as patch:
        receipt = site.spool.receipts.get(images[0])
        assert receipt is not None
        patch.setattr(*calls[step], crash)
        with contextlib.suppress(Crash):
            withdrawal.lose(site.spool, [receipt], site.spool.now())
    if step:  # a line is there, and no other look is due that would find it again
        site.spool.site.put("looked_at_pruned", [int(site.spool.now().timestamp())] * 2)
    site.run()
    assert site.spool.receipt(images[0]).state is State.LOST  # type: ignore[union-attr]
    seen = collect.snapshot(site.spool)
    assert (seen.lost.images, seen.received.images, seen.unaccounted) == (1, 3, 0)


def test_where_nothing_could_be_told_it_is_asked_again_in_an_hour(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sent(site, 3)
    site.run()
    take_out(site, images)
    site.spool.site.put("looked_at_pruned", [0, 0])
    with monkeypatch.context() as patch:
        patch.setattr(Lookout, "__call__", lambda _self, some: {
            one.id: Presence.UNKNOWN for one in some
        })  # fmt: skip
        assert site.run().exit_code == 0
    answered, asked = site.spool.site.get("looked_at_pruned")
    assert answered == 0 and asked > 0
    assert site.run().exit_code == 0
    site.spool.site.put("looked_at_pruned", [0, asked - 3600])
    assert site.run().exit_code == Exit.ERROR
    assert site.spool.site.gone.totals()[0].images == 3


def test_what_the_bucket_lost_is_sent_again_when_a_person_says_so(site: Site) -> None:
    images = site.fill(5, "cam-1")
    site.run()
    take_out(site, [*images][:2])
    site.run()
    with site.spool.hold_drain_lock("test", 0) as lock:
        for image in [*images][:2]:
            assert Mover(site.spool, lock).retry(image)
    assert site.run().images == 2
    assert site.objects() == images
    for image in images:
        receipt = site.spool.receipt(image)
        assert receipt is not None and receipt.safe_to_erase
    assert verify.disagreements(site.spool, deep=True, sleep=lambda _: None) == []


@pytest.mark.parametrize("step", range(8))
def test_a_crash_while_a_receipt_is_withdrawn_is_made_good_by_the_next_run(
    site: Site, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sent(site, 3)
    take_out(site, images[:1])
    calls = [
        (durable, "move"), (durable, "sync_folders"), (xattrs, "clear_attribute"),
        (mover, "write_reason"), (mover, "read_metadata"), (Catalog, "reopen"),
        (Receipts, "withdraw"),
    ]  # fmt: skip
    with site.spool.hold_drain_lock("test", 0) as lock, monkeypatch.context() as patch:
        for place, name in calls[step:]:

            def crash(*_args: object, **_more: object) -> None:
                raise Crash

            patch.setattr(place, name, crash)
        with contextlib.suppress(Crash):
            Mover(site.spool, lock).prune(site.spool.now(), need=10**9, look=only_gone(images[0]))
    site.run()
    assert images_below(site.spool.path) == {images[0]: ["aside"]}
    assert verify.disagreements(site.spool, deep=True, sleep=lambda _: None) == []
    receipt = site.spool.receipt(images[0])
    assert receipt is not None and not receipt.safe_to_erase


def only_gone(image: str) -> Callable[[Sequence[Receipt]], dict[str, Presence]]:
    return lambda batch: {
        one.id: Presence.GONE if one.id == image else Presence.UNKNOWN for one in batch
    }


def test_another_object_in_its_place_is_not_it(site: Site) -> None:
    images = sent(site, 5)
    (key,) = [e["Key"] for e in site.place.client.list_objects_v2(Bucket=site.bucket)["Contents"]
              if images[0] in e["Key"]]  # fmt: skip
    site.place.client.put_object(Bucket=site.bucket, Key=key, Body=b"another")
    site.run()
    assert images_below(site.spool.path) == {images[0]: ["aside"]}


def test_without_the_right_to_list_each_is_asked_for(site: Site) -> None:
    sent(site, 5)
    asked: list[str] = []

    class Unlisted(S3Sender):
        def listed(self, prefix: str, after: str) -> Page:
            asked.append(prefix)
            raise SendError(ErrorKind.FATAL, "AccessDenied", "S3 refused access.")

    with contextlib.closing(Unlisted(site.spool.settings, FreePacer())) as sender:
        found = Lookout(sender)(receipts(site))
    assert set(found.values()) == {Presence.THERE}
    assert len(asked) == 1


def receipts(site: Site) -> list[Receipt]:
    (day,) = site.spool.receipts.days()
    return site.spool.receipts.oldest_local(day, 100)


def nobody_knows(batch: Sequence[Receipt]) -> dict[str, Presence]:
    return {one.id: Presence.UNKNOWN for one in batch}


def test_what_nobody_could_see_stays_unless_the_disk_needs_its_room(site: Site) -> None:
    images = sent(site, 4)
    with site.spool.hold_drain_lock("test", 0) as lock:
        mover = Mover(site.spool, lock)
        assert mover.prune(site.spool.now(), look=nobody_knows).images == 0
        assert images_below(site.spool.path) == {image: ["done"] for image in images}
        assert mover.prune(site.spool.now(), need=3000, look=nobody_knows).images == 2


def test_where_objects_are_taken_out_on_purpose_nothing_is_asked(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"spool__keep_done_max": "1B", "s3__check_copies": "off"}
    with unpaced(tmp_path, place, monkeypatch, **settings) as site:
        take_out(site, sent(site, 3))
        assert site.run().exit_code == 0
        assert images_below(site.spool.path) == {}


@pytest.mark.slow
def test_a_listing_of_more_than_a_page_is_read_on(place: Place) -> None:
    script(place)
    keys = [f"many/é {number:04}&.jpg" for number in range(1003)]
    for key in keys:
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"x")
    with contextlib.closing(place.sender()) as sender:
        first = sender.listed("many/", "many/é 000")
        assert (list(first.objects), first.more) == (keys[:1000], True)
        rest = sender.listed("many/", keys[999])
        assert (list(rest.objects), rest.more) == (keys[1000:], False)
        assert rest.objects[keys[1000]] == (1, "9dd4e461268c8034f5c8564e155c67a6")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"<html></html>", b"<ListBucketResult><Contents/></ListBucketResult>"],
)
def test_what_is_no_listing_is_none(body: bytes) -> None:
    with pytest.raises(SendError) as caught:
        page_of(body)
    assert caught.value.code == "no-listing"
