"""An image that cannot be taken counts against its device, whoever says which that is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.refusals import REFUSALS
from headgate.spool import sqlite
from tests.support.paths import PHOTOS
from tests.support.receiver import FORM_TYPE, Receiver, check, enrol, form, part, running

Photo = Callable[[], bytes]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    settings = {"receiver__auth": "open", "receiver__device_rate": "0",
                "receiver__max_image": "1MB"}  # fmt: skip
    with running(tmp_path_factory.mktemp("unusable"), **settings) as found:
        yield found


def counted(receiver: Receiver) -> dict[str, int]:
    devices = receiver.get("/status.json").json["devices"]
    return {
        one["device"]: one["unusable"]["lately"] for one in devices if one["unusable"]["lately"]
    }


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "unsupported_image": lambda _photo: b"no image",
    "truncated_image": lambda _photo: (PHOTOS / "coffee.png").read_bytes()[:5000],
    "digest_mismatch": lambda photo: photo + b"\0",
    "too_large": lambda photo: photo + bytes(2_000_000),
}


@pytest.mark.parametrize("code", SPOILT)
def test_it_counts_by_the_token(receiver: Receiver, photo: Photo, code: str) -> None:
    device = "token-" + code.replace("_", "-")
    bearer = {"Authorization": f"Bearer {enrol(receiver, device)}"}
    image = photo()
    promised = {"X_SHA256": hashlib.sha256(image).hexdigest()} if "digest" in code else {}
    refused = receiver.post_raw(SPOILT[code](image), **bearer, **promised)
    check(refused, REFUSALS[code].status, code)
    assert counted(receiver)[device] == 1
    check(receiver.post_raw(image, **bearer), 201)
    assert counted(receiver)[device] == 1


def test_it_counts_by_the_header_of_a_device_that_was_seen(
    receiver: Receiver, photo: Photo
) -> None:
    check(receiver.post_raw(b"no image", X_Device="by-header"), 415)
    assert "by-header" not in counted(receiver)  # anybody can invent names
    check(receiver.post_raw(photo(), X_Device="by-header"), 201)
    check(receiver.post_raw(b"no image", X_Device="by-header"), 415)
    assert counted(receiver)["by-header"] == 1


def test_it_counts_by_the_form_or_else_by_the_address(receiver: Receiver, photo: Photo) -> None:
    field = part("device", b"by-form")
    for body, status in ((form(field, part("image", photo(), "a.jpg")), 201),
                         (form(field, part("image", b"no image", "a.jpg")), 415)):  # fmt: skip
        check(receiver.request("POST", "/images", body, Content_Type=FORM_TYPE), status)
    assert counted(receiver)["by-form"] == 1
    check(receiver.post_raw(photo()), 201)
    check(receiver.post_raw(b"no image"), 415)
    assert counted(receiver)["_127.0.0.1"] == 1


def test_a_refusal_for_another_reason_is_not_the_images_fault(
    receiver: Receiver, photo: Photo
) -> None:
    bearer = {"Authorization": f"Bearer {enrol(receiver, 'innocent')}"}
    check(receiver.post_raw(photo(), **bearer, Content_Encoding="br"), 415)
    body = form(part("wrong", "text"))
    refused = receiver.request("POST", "/images", body, Content_Type=FORM_TYPE, **bearer)
    check(refused, 400, "no_image")
    assert "innocent" not in counted(receiver)


def test_the_answer_stays_the_same_where_it_cannot_be_counted(tmp_path: Path, photo: Photo) -> None:
    with running(tmp_path) as receiver:
        check(receiver.post_raw(photo(), X_Device="cam"), 201)
        with closing(sqlite.raw(receiver.spool / "state" / "catalog.sqlite3")) as db:
            db.execute("DROP TABLE unusable")
        refused = check(receiver.post_raw(b"no image", X_Device="cam"), 415, "unsupported_image")
        assert refused.headers["content-type"] == "application/problem+json"
        assert "image.unusable_not_counted" in receiver.log.read_text()
        check(receiver.post_raw(photo() + b"\0", X_Device="cam"), 201)
