"""Images that are taken: what is answered, and what lies on the disk then."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.paths import PHOTOS
from tests.support.receiver import (
    FORM_TYPE,
    Receiver,
    chunked,
    form,
    head,
    metadata,
    part,
    running,
    stored,
)
from uploader.cli.main import headgate

Photo = Callable[[], bytes]


def test_a_form_with_a_photograph_gets_201_and_lies_in_new(
    receiver: Receiver, photo: Photo
) -> None:
    image = photo()
    answer = receiver.post_form(part("image", image, "a.jpg", "image/jpeg"))
    assert answer.status == 201
    receipt = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/images/{receipt['id']}"
    assert answer.body.endswith(b"}\n")
    assert receipt["sha256"] == hashlib.sha256(image).hexdigest()
    assert receipt["size"] == len(image)
    assert receipt["state"] == "waiting"
    assert receipt["local"] is True
    assert receipt["safe_to_erase"] is False
    assert receipt["duplicate"] is False
    assert receipt["device"] == "_127.0.0.1"
    assert "bucket" not in receipt
    path = stored(receiver, receipt["id"])
    assert path.read_bytes() == image
    assert path.suffix == ".jpg"
    assert path.stat().st_nlink == 1
    assert receiver.half_received() == []


@pytest.mark.parametrize("name", ["china.jpg", "coffee.png", "hubble_deep_field.jpg"])
def test_a_raw_body_is_the_image(receiver: Receiver, name: str) -> None:
    image = (PHOTOS / name).read_bytes()
    answer = receiver.post_raw(image, "image/jpeg", X_Device="raw-cam")
    assert answer.status == 201
    path = stored(receiver, answer.json["id"])
    assert path.read_bytes() == image
    assert path.suffix == Path(name).suffix  # by content, whatever the Content-Type said


def test_images_takes_a_form_as_well(receiver: Receiver, photo: Photo) -> None:
    assert receiver.post_form(part("image", photo(), "a.jpg"), path="/images").status == 201


def test_what_the_device_says_travels_with_the_file(receiver: Receiver, photo: Photo) -> None:
    answer = receiver.post_form(
        part("device", "cam-07"),
        part("captured_at", "2026-11-23T16:04:05+01:00"),
        part("image", photo(), "Küche 1.jpg"),
        part("sequence", "4711"),
        part("tags", "site=north, lens=wide angle"),
        part("idempotency_key", "k-1"),
        part("unheard-of", "ignored"),
    )
    assert answer.status == 201
    assert answer.json["device"] == "cam-07"
    said = metadata(receiver, answer.json["id"])
    assert said.file_name == "Küche 1.jpg"
    assert said.captured_at == "2026-11-23T16:04:05+01:00"
    assert said.sequence == 4711
    assert said.tags == {"site": "north", "lens": "wide angle"}
    assert said.key == "k-1"
    assert said.media_type == "image/jpeg"


def test_headers_say_the_same_as_form_fields(receiver: Receiver, photo: Photo) -> None:
    answer = receiver.post_raw(
        photo(),
        X_Device="cam-08",
        X_Captured_At="2026:11:23 16:04:05",
        X_Sequence="0",
        X_Tags="a=b",
        Idempotency_Key="k-2",
        Content_Disposition="attachment; filename*=UTF-8''K%C3%BCche%202.jpg",
    )
    assert answer.status == 201
    said = metadata(receiver, answer.json["id"])
    assert (said.sequence, said.key, said.tags) == (0, "k-2", {"a": "b"})
    assert said.file_name == "Küche 2.jpg"


@pytest.mark.parametrize(
    "name",
    ["Küche 1.jpg", "é" * 255, "写真.jpg", "📷 1.jpg", "a;b='c'.jpg", "100%.jpg", "a b.jpg"],
)
def test_any_unicode_file_name_survives(receiver: Receiver, photo: Photo, name: str) -> None:
    answer = receiver.post_form(part("image", photo(), name))
    assert answer.status == 201
    assert metadata(receiver, answer.json["id"]).file_name == name


@pytest.mark.parametrize("sent", ["../../etc/passwd", "C:\\photos\\passwd", "/etc/passwd"])
def test_a_path_in_the_file_name_is_cut_off(receiver: Receiver, photo: Photo, sent: str) -> None:
    answer = receiver.post_form(part("image", photo(), sent))
    assert metadata(receiver, answer.json["id"]).file_name == "passwd"


def test_a_chunked_form_is_taken_however_it_is_cut(receiver: Receiver, photo: Photo) -> None:
    for size in (7, 4096, 70_000):
        image = photo()
        body = form(part("device", "cam-chunked"), part("image", image, "a.jpg"))
        top = head("POST", "/uploadImage", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
        answer = receiver.send(top + chunked(body, size))
        assert answer is not None
        assert answer.status == 201
        assert stored(receiver, answer.json["id"]).read_bytes() == image


def test_line_breaks_around_the_form_do_no_harm(receiver: Receiver, photo: Photo) -> None:
    body = b"\r\n" + form(part("image", photo(), "a.jpg")) + b"\r\nepilogue\r\n"
    answer = receiver.request("POST", "/uploadImage", body, Content_Type=FORM_TYPE)
    assert answer.status == 201


def test_the_same_image_again_gets_200_and_the_first_receipt(
    receiver: Receiver, photo: Photo
) -> None:
    parts = part("device", "cam-twice"), part("image", photo(), "a.jpg")
    first, second = receiver.post_form(*parts), receiver.post_form(*parts)
    assert (first.status, second.status) == (201, 200)
    assert second.json == first.json | {"duplicate": True}
    assert second.headers["location"] == first.headers["location"]
    assert receiver.half_received() == []


def test_a_client_that_shuts_down_its_sending_side_makes_one_image(
    receiver: Receiver, photo: Photo
) -> None:
    """It gets no answer (docs/DESIGN.md says why), and sends the same again; with a name or not."""
    for who in ({}, {"X_Device": "cam-half"}):
        image = photo()
        before = len(receiver.images())
        request = head("POST", "/images", image, Content_Type="image/jpeg", **who) + image
        for _ in range(10):
            with receiver.connect() as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while connection.recv(65536):
                        pass
        again = receiver.post_raw(image, **who)
        assert (again.status, again.json["duplicate"]) == (200, True)
        assert len(receiver.images()) == before + 1


def test_without_a_device_another_file_name_is_another_image(
    receiver: Receiver, photo: Photo
) -> None:
    image = photo()
    sent = [receiver.post_form(part("image", image, name)) for name in ("1.jpg", "1.jpg", "2.jpg")]
    assert [answer.status for answer in sent] == [201, 200, 201]
    assert metadata(receiver, sent[2].json["id"]).file_name == "2.jpg"


def test_a_key_with_other_bytes_gets_409(receiver: Receiver, photo: Photo) -> None:
    first = receiver.post_raw(photo(), X_Device="cam-key", Idempotency_Key="one")
    second = receiver.post_raw(photo(), X_Device="cam-key", Idempotency_Key="one")
    assert (first.status, second.status) == (201, 409)
    assert second.code == "key_conflict"
    assert second.json["held"] == first.json["id"]
    assert receiver.half_received() == []


def test_of_two_identical_uploads_at_once_one_is_the_image(
    receiver: Receiver, photo: Photo
) -> None:
    for _ in range(5):
        image, before = photo(), len(receiver.images())
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _, i=image: receiver.post_raw(i, X_Device="cam-at-once"), range(8))
            )
        assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
        assert len({answer.json["id"] for answer in answers}) == 1
        assert len(receiver.images()) == before + 1


def test_a_receipt_can_be_asked_for_by_id_and_by_digest(receiver: Receiver, photo: Photo) -> None:
    sent = receiver.post_raw(photo(), X_Device="cam-receipt").json
    by_id, by_digest = (
        receiver.get(f"/images/{sent['id']}"),
        receiver.get("/images/" + sent["sha256"]),
    )
    assert by_id.status == by_digest.status == 200
    assert by_id.json == by_digest.json
    assert sent == by_id.json | {"duplicate": False}
    assert by_id.headers["safe-to-erase"] == "false"
    top = receiver.request("HEAD", f"/images/{sent['id']}")
    assert (top.status, top.body) == (200, b"")
    assert top.headers["safe-to-erase"] == "false"


def test_the_settings_name_the_field_and_the_status(own: Path, photo: Photo) -> None:
    with running(own, receiver__field="photo", receiver__upload_status="200") as receiver:
        assert receiver.post_form(part("photo", photo(), "a.jpg")).status == 200
        refused = receiver.post_form(part("image", photo(), "a.jpg"))
        assert (refused.status, refused.code) == (400, "wrong_field")
        assert "image" in refused.json["detail"]
        assert "photo" in refused.json["detail"]


def test_the_handshake_says_what_fits(receiver: Receiver) -> None:
    told = receiver.get("/limits")
    assert told.status == 200
    assert told.headers["cache-control"] == "max-age=60"
    assert told.json["max_image"] == 1_000_000
    assert told.json["accepting"] is True
    assert told.json["field"] == "image"
    assert "image/heic" in told.json["types"]
    for path in ("/uploadImage", "/images"):
        options = receiver.request("OPTIONS", path)
        assert options.headers["allow"] == "POST, OPTIONS"
        assert options.json | {"server_time": ""} == told.json | {"server_time": ""}


def test_no_header_names_software_versions(receiver: Receiver) -> None:
    for path in ("/", "/limits", "/nowhere"):
        headers = receiver.get(path).headers
        assert headers["server"] == "headgate"
        assert "x-powered-by" not in headers
        assert "date" in headers  # a camera without a clock sets it by this


def test_the_receipt_of_a_discarded_image_is_still_there(own: Path, photo: Photo) -> None:
    """A device that asks may not erase its copy, and learns who gave the image up and why."""
    with running(own) as receiver:
        body = photo()
        image = receiver.post_raw(body, X_Device="cam-7").json
        held = next(path for path in receiver.images() if path.stem == image["id"])
        held.unlink()
        for words in (("verify", "--repair"), ("discard", image["id"], "--reason", "a test card")):
            ran = CliRunner().invoke(headgate, ["--set", f"spool.path={receiver.spool}", *words])
            assert ran.exit_code == (1 if "verify" in words else 0), ran.output
        for ref in (image["id"], hashlib.sha256(body).hexdigest()):
            answer = receiver.get(f"/images/{ref}")
            assert answer.status == 200
            assert (answer.json["state"], answer.json["local"]) == ("discarded", False)
            assert answer.json["safe_to_erase"] is False
            assert answer.headers["safe-to-erase"] == "false"
            assert "a test card" in answer.json["reason"]
        assert receiver.get(f"/images/{image['id']}/thumbnail").code == "no_thumbnail"
        # The same picture again is a new image: nobody holds the other.
        again = receiver.post_raw(body, X_Device="cam-7")
        assert (again.status, again.json["state"]) == (201, "waiting")
