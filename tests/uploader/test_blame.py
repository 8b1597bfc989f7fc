"""Refusals that any image would get: none is set aside, few bodies leave, all arrive later."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spool import verify
from spool.facts import Run
from spool.item import State
from spool.mover import Mover
from spool.spool import Spool
from tests.s3_server import CountingPacer, Place, strict_place
from tests.spooling import images_below, put
from uploader.exits import Exit
from uploader.run import start
from uploader.run.breaker import LIMIT
from uploader.run.start import Order, run

IMAGES = int(os.environ.get("HEADGATE_TEST_FAULT_IMAGES", "12"))
PAGE = b"<!DOCTYPE html><html><head><title>Guest network: log in</title></head></html>"
Answer = tuple[str, list[tuple[str, str]], bytes]


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
QUICK = {
    "QuotaExceeded 409", "cap_exceeded 403", "InvalidRequest", "BadDigest", "bare 400", "page 403",
    "page 200", "nothing 200", "no header", "bare 413",
}  # fmt: skip
"""Of each kind one, for every day; all of them in make test-slow and CI."""
assert set(ANSWERS) > QUICK


class Refusing:
    """Stands before the server and answers PUTs, and with ``everything`` all else, as told.

    ``after``: so many bodies are taken first. ``keys``: which keys are refused.
    """

    def __init__(self, place: Place) -> None:
        assert place.strict is not None
        self._server = place.strict.server
        self._application = self._server.application
        self._server.application = self
        self.answer: Answer | None = None
        self.everything = False
        self.keys: Callable[[str], bool] = lambda _key: True
        self.after = 0
        self.refused: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        key, put = environ["RAW_URI"], environ["REQUEST_METHOD"] == "PUT"
        if self.answer is None or not (put or self.everything) or not self.keys(key):
            return self._application(environ, start)
        if put and self.after > 0:
            self.after -= 1
            return self._application(environ, start)
        if put:
            self.refused.append(key)
            while environ["wsgi.input"].read(65536):
                pass
        if self.after > 0:
            return self._application(environ, start)
        start(*self.answer[:2])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.answer[2]]

    def repair(self) -> None:
        self.answer, self.everything, self.keys = None, False, lambda _key: True
        self.refused.clear()

    def stop(self) -> None:
        self._server.application = self._application


class Site:
    """A spool and a bucket; runs in this process."""

    def __init__(self, root: Path, place: Place) -> None:
        from spool.settings import combine

        self.place = place
        self.bucket = f"blame-{secrets.token_hex(6)}"
        place.client.create_bucket(Bucket=self.bucket)
        flags = {
            "s3.bucket": self.bucket, "s3.endpoint_url": place.url, "s3.region": "us-east-1",
            "spool.path": str(root / "spool"), "site.name": "north",
        }  # fmt: skip
        self.spool = Spool.open(combine(None, None, {}, flags, root))
        self.server = Refusing(place)

    def fill(self, count: int, device: str = "") -> dict[str, bytes]:
        images = {}
        for number in range(count):
            data = random.randbytes(1500)
            images[put(self.spool, data, device=device or f"cam-{number % 5}").receipt.id] = data
        return images

    def run(self) -> Run:
        return run(self.spool, Order())

    @property
    def aside(self) -> list[str]:
        return [item.id for item in self.spool.catalog.in_state(State.SET_ASIDE, 10_000)]

    def objects(self) -> dict[str, bytes]:
        client, found = self.place.client, {}
        for shown in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in shown.get("Contents", []):
                body = client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"]
                found[entry["Key"].rpartition("/")[2].removesuffix(".jpg")] = body.read()
        return found

    def assert_arrived(self, images: dict[str, bytes]) -> None:
        assert self.objects() == images
        assert images_below(self.spool.path) == {image: ["done"] for image in images}
        assert verify.disagreements(self.spool, deep=True, sleep=lambda _: None) == []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with strict_place(tmp_path_factory.mktemp("s3")) as found:
        yield found


class FreePacer(CountingPacer):
    """In the place of the run's: nothing waits for the ledger's next second."""

    def __init__(self, *_args: object, **_more: object) -> None:
        super().__init__()
        self.closed, self.rate = None, 10**9

    @property
    def sent(self) -> int:
        return self.written

    def waited(self) -> float:
        return 0.0

    def close(self, reason: object) -> None:
        raise AssertionError(f"stopped: {reason}")


@pytest.fixture
def site(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(start, "Pacer", FreePacer)
    made = Site(tmp_path, place)
    yield made
    made.server.stop()
    made.spool.close()


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


@pytest.mark.parametrize("answer", [coded(400, "InvalidRequest"), page(403)])
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
