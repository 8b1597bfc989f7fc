"""Refusals that any image would get: none is set aside, few bodies leave, all arrive later."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.host.exit_codes import Exit
from headgate.spool.upkeep.mover import Mover
from tests.support.s3_server import Place
from tests.support.site import Answer, Site, unpaced
from uploader.run.breaker import LIMIT

IMAGES = int(os.environ.get("HEADGATE_TEST_FAULT_IMAGES", "12"))
PAGE = b"<!DOCTYPE html><html><head><title>Guest network: log in</title></head></html>"


def coded(status: int, code: str, message: str = "No more of this.") -> Answer:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return f"{status} Refused", [("Content-Type", "application/xml")], body


def page(status: int) -> Answer:
    return f"{status} Page", [("Content-Type", "text/html")], PAGE


def bare(status: int) -> Answer:
    return f"{status} Bare", [], b""


ANSWERS: dict[str, tuple[Answer, str]] = {
    "QuotaExceeded 403": (coded(403, "QuotaExceeded"), "quota is used up"),
    "QuotaExceeded 409": (coded(409, "QuotaExceeded"), "quota is used up"),
    "QuotaExceeded 400": (coded(400, "QuotaExceeded"), "quota is used up"),
    "cap_exceeded 403": (coded(403, "cap_exceeded"), "quota is used up"),
    "bucket quota of MinIO": (coded(400, "XMinioAdminBucketQuotaExceeded"), "quota is used up"),
    "disk of MinIO full": (coded(507, "XMinioStorageFull"), "quota is used up"),
    "bare 507": (bare(507), "quota is used up"),
    "AccessDenied": (coded(403, "AccessDenied"), "s3:PutObject"),
    "no storage class": (coded(400, "InvalidStorageClass"), "s3.storage_class"),
    "no KMS": (coded(501, "KMSNotConfigured"), "s3.kms_key"),
    "no header": (coded(501, "NotImplemented"), "config check"),
    "InvalidRequest": (coded(400, "InvalidRequest"), "No more of this"),
    "InvalidArgument": (coded(400, "InvalidArgument"), "No more of this"),
    "InvalidDigest": (coded(400, "InvalidDigest"), "No more of this"),
    "MetadataTooLarge": (coded(400, "MetadataTooLarge"), "No more of this"),
    "a code nobody knows, 400": (coded(400, "OutOfCheese"), "No more of this"),
    "a code nobody knows, 409": (coded(409, "OutOfCheese"), "No more of this"),
    "a code nobody knows, 418": (coded(418, "OutOfCheese"), "No more of this"),
    "EntityTooLarge": (coded(400, "EntityTooLarge"), "size"),
    "bare 413": (bare(413), "size"),
    "BadDigest": (coded(400, "BadDigest"), "file is unchanged"),
    "XAmzContentSHA256Mismatch": (coded(400, "XAmzContentSHA256Mismatch"), "file is unchanged"),
    "OperationAborted": (coded(409, "OperationAborted"), "under way"),
    "bare 400": (bare(400), "no S3 error in it"),
    "bare 403": (bare(403), "no S3 error in it"),
    "page 403": (page(403), "Guest network: log in"),
    "page 400": (page(400), "Guest network: log in"),
    "page 404": (page(404), "Guest network: log in"),
    "page 451": (page(451), "Guest network: log in"),
    "page 200": (page(200), "nothing in it that S3 says"),
    "nothing 200": (bare(200), "does not have the image"),
    "redirect to a login": (("302 Found", [("Location", "http://login/")], PAGE), "wants a login"),
}
QUICK = {"QuotaExceeded 409", "InvalidRequest", "bare 400", "page 403", "page 200"}
"""Of each kind one, for every day; all of them in make test-slow and CI."""
assert set(ANSWERS) > QUICK


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with unpaced(tmp_path, place, monkeypatch) as made:
        yield made


@pytest.mark.parametrize("after", [0, IMAGES // 2])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ANSWERS]
)
def test_what_any_image_would_be_answered_sets_none_aside(
    site: Site, name: str, after: int
) -> None:
    images = site.fill(IMAGES)
    answer, words = ANSWERS[name]
    site.server.answer, site.server.after = answer, after
    site.server.everything = name == "page 200"
    for number in range(3):
        before = len(site.server.refused)
        report = site.run()
        sent = len(site.server.refused) - before
        assert site.aside == []
        assert report.exit_code == Exit.ERROR, report
        assert words in report.message
        if after and not number:  # what was under way at that moment had left already
            assert sent <= IMAGES - after
        else:
            assert sent <= (LIMIT if not number else 1)
    items = site.spool.catalog.after(0, 10 * IMAGES)
    assert {item.attempts for item in items} == {0}
    site.server.repair()
    report = site.run()
    assert (report.exit_code, report.set_aside) == (0, 0), report
    site.assert_arrived(images)


@pytest.mark.parametrize("status, code", [(400, "InvalidRequest"), (403, "AccessDenied")])
def test_a_bucket_that_refuses_a_random_third_is_drained_over_runs(
    site: Site, status: int, code: str
) -> None:
    """Such answers end many runs early, and now and then an innocent image is refused between two
    others that are confirmed, and set aside. Each run still gets some images through, and what was
    set aside goes the same way once it is put back."""
    images = site.fill(20)
    chance = random.Random(1604)
    site.server.answer = coded(status, code)
    site.server.keys = lambda _key: chance.random() < 1 / 3
    runs, ended_early = 0, 0
    while site.spool.catalog.after(0, 1) or not ended_early:  # threads change who is refused
        if not site.spool.catalog.after(0, 1):
            images.update(site.fill(20))
        runs += 1
        assert runs <= 150, "the backlog does not shrink"
        waiting = site.spool.catalog.totals().waiting.images
        if not waiting:
            with site.spool.hold_drain_lock("test", 0) as lock:
                for image in site.aside:
                    Mover(site.spool, lock).retry(image)
        report = site.run()
        ended_early += report.exit_code == Exit.ERROR
    site.assert_arrived(images)


def test_of_good_images_only_the_bad_one_is_set_aside(site: Site) -> None:
    images = site.fill(IMAGES)
    bad = next(iter(images))
    site.server.answer = coded(400, "InvalidRequest")
    site.server.keys = lambda key: bad in key
    for _ in range(3):  # it takes others after it, and its turn may come last
        assert site.run().exit_code in (0, Exit.SET_ASIDE)
        assert site.spool.catalog.totals().waiting.images <= 1
        images.update(site.fill(4))
        if site.aside:
            break
    assert site.aside == [bad]
    assert len(site.server.refused) <= 3
    site.server.repair()
    with site.spool.hold_drain_lock("test", 0) as lock:
        assert Mover(site.spool, lock).retry(bad)
    site.run()
    site.assert_arrived(images)


@pytest.mark.parametrize(
    "answer",
    [coded(400, "InvalidRequest"), pytest.param(page(403), marks=pytest.mark.slow)],
)
def test_bad_images_at_the_head_do_not_keep_the_others_for_ever(site: Site, answer: Answer) -> None:
    good = site.fill(6, "cam-good")
    bad = site.fill(5, "cam-bad")  # newer, so they go first within the order
    site.server.answer = answer
    site.server.keys = lambda key: "cam-bad" in key
    for _ in range(15):
        site.run()
    assert set(site.objects()) == set(good)
    # Whom nothing could be compared with waits for more; the next good ones settle it.
    for _ in range(4):
        good.update(site.fill(6, "cam-good"))
        site.run()
    assert set(site.aside) == set(bad)
    assert set(site.objects()) == set(good)


def test_a_lone_image_that_is_refused_is_told_each_time_and_never_set_aside(site: Site) -> None:
    images = site.fill(1)
    site.server.answer = coded(400, "InvalidRequest")
    for _ in range(3):
        report = site.run()
        assert (report.exit_code, site.aside) == (Exit.ERROR, [])
        assert "InvalidRequest" in report.message
    assert len(site.server.refused) == 3
    site.server.repair()
    assert site.run().exit_code == 0
    site.assert_arrived(images)


def test_another_image_probes_each_time(site: Site) -> None:
    site.fill(6)
    site.server.answer = coded(403, "QuotaExceeded")
    for _ in range(6):
        site.run()
    assert len(set(site.server.refused)) == 6
    for _ in range(6):
        site.run()
    assert len(site.server.refused) == 12
    assert len(set(site.server.refused)) == 6
