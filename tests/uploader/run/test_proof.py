"""A server that confirms and does not keep: found out before anything counts as sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.s3_local.faults import Act, Fault
from headgate.host.exit_codes import Exit
from headgate.spool.image.image import Presence
from tests.support.s3_server import Place, script, strict_place, upload_of
from tests.support.site import Site, unpaced
from uploader.destination.contract import Stored, Upload
from uploader.run import sample, workers
from uploader.s3.probe import probe
from uploader.wire.errors import SendError


@pytest.fixture(scope="module", params=["sha256", "etag"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    echoes = request.param == "sha256"
    with strict_place(tmp_path_factory.mktemp("s3"), echo_sha256=echoes) as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(workers, "_LOOK_PAUSES", (0.0, 0.0, 0.0))
    with unpaced(tmp_path, place, monkeypatch) as made:
        yield made
        script(place)


def learn(site: Site) -> None:
    """What the server can confirm, and how: from then on it is known."""
    site.fill(1)
    assert site.run().images == 1


def assert_nothing_counts(site: Site, images: dict[str, bytes]) -> None:
    for image in images:
        receipt = site.spool.receipt(image)
        assert receipt is not None and not receipt.safe_to_erase
    assert site.aside == []


def test_a_server_that_keeps_nothing_is_found_out_by_the_first_image(site: Site) -> None:
    learn(site)
    images = site.fill(20)
    script(site.place, Fault(Act.ECHO_UNSTORED))
    for _ in range(2):
        report = site.run()
        assert (report.images, report.exit_code) == (0, Exit.ERROR)
        assert "does not hold it" in report.message
        assert_nothing_counts(site, images)
    assert site.place.strict is not None
    assert site.place.strict.script.seen("PUT") == 2
    script(site.place)
    assert site.run().exit_code == 0
    assert images.items() <= site.objects().items()


def test_one_that_begins_to_keep_nothing_is_found_out_by_a_sample(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "LOOK_IMAGES", 5)
    monkeypatch.setattr(sample, "_FINISH_SECONDS", 3600.0)  # nothing, however slow this machine is
    learn(site)
    images = site.fill(40)
    script(site.place, Fault(Act.ECHO_UNSTORED, first=8))
    report = site.run()
    assert "does not hold it" in report.message
    assert report.images < 20
    script(site.place)
    assert site.run().exit_code == 0
    assert images.items() <= site.objects().items()
    assert_uploaded(site, images)


def assert_uploaded(site: Site, images: dict[str, bytes]) -> None:
    for image in images:
        receipt = site.spool.receipt(image)
        assert receipt is not None and receipt.safe_to_erase


@pytest.mark.parametrize("status", [400, 405, 418, 451, 500, 503])
def test_where_nothing_can_be_seen_nothing_counts(site: Site, status: int) -> None:
    learn(site)
    images = site.fill(3)
    script(site.place, Fault(Act.STATUS, "HEAD", status=status, code="Whatever"))
    report = site.run()
    assert (report.images, report.exit_code) == (0, Exit.ERROR)
    assert "does not show it" in report.message
    assert_nothing_counts(site, images)


def test_where_looking_is_forbidden_the_digest_in_the_answer_has_to_do(site: Site) -> None:
    learn(site)
    images = site.fill(3)
    script(site.place, Fault(Act.STATUS, "HEAD", status=403, code="AccessDenied"))
    assert site.run().images == 3
    assert_uploaded(site, images)


def test_a_look_costs_one_head_for_many_images(site: Site) -> None:
    learn(site)
    site.fill(60)
    script(site.place)
    assert site.run().images == 60
    assert site.place.strict is not None
    assert site.place.strict.script.seen("HEAD") == 1


def test_the_probe_finds_what_it_put_or_the_bucket_is_of_no_use(
    place: Place, tmp_path: Path
) -> None:
    script(place)
    with contextlib.closing(place.sender()) as sender:
        assert probe(sender, "").usable
        for head in (Fault(Act.STATUS, "HEAD", status=404, code="NoSuchKey"),
                     Fault(Act.STATUS, "HEAD", status=400, code="BadRequest"),
                     Fault(Act.UNSTORED, "HEAD")):  # fmt: skip
            script(place, head)
            seen = probe(sender, "")
            assert (seen.readable, seen.usable) == (False, False), head
            assert "did not find it again" in " ".join(seen.sentences)
    script(place)


@pytest.fixture
def stored(place: Place, tmp_path: Path) -> tuple[Upload, Stored]:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"x" * 1000)
    upload = upload_of(path, "seen/image.jpg")
    script(place)
    with contextlib.closing(place.sender()) as sender:
        sent = sender.send(upload)
    return upload, Stored(upload.key, upload.size, upload.sha256, sent.etag)


def test_a_look_tells_what_is_there_from_what_is_not(
    place: Place, stored: tuple[Upload, Stored]
) -> None:
    upload, known = stored
    with contextlib.closing(place.sender()) as sender:
        assert sender.see(known) is Presence.THERE
        shouting = Stored(known.key, known.size, known.sha256, f'W/"{known.etag.upper()}"')
        assert sender.see(shouting) is Presence.THERE
        assert sender.see(Stored("none", 1, known.sha256, known.etag)) is Presence.GONE
        place.client.put_object(Bucket=place.bucket, Key=known.key, Body=b"another")
        assert sender.see(known) is Presence.GONE
        script(place, Fault(Act.UNSTORED, "HEAD"))
        with pytest.raises(SendError) as caught:
            sender.see(known)
        assert caught.value.code == "not-s3"
        place.client.delete_object(Bucket=place.bucket, Key=upload.key)
    script(place)
