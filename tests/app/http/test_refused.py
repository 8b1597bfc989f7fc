"""Every refusal over the wire: its row of the table, and that nothing stays behind."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.refusals import REFUSALS
from tests.support.paths import PHOTOS
from tests.support.receiver import (
    BOUNDARY,
    FORM_TYPE,
    Answer,
    Receiver,
    chunked,
    form,
    head,
    part,
    read_answer,
    running,
)

Photo = Callable[[], bytes]
MAX_IMAGE = 1_000_000


@pytest.fixture(autouse=True)
def nothing_stays(receiver: Receiver) -> Iterator[None]:
    before = receiver.images()
    yield
    receiver.await_empty_tmp()
    assert receiver.images() == before


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A strict one, which refuses all that can be refused; the lenient one is in
    ``tests/app/upload/test_picture_first.py``."""
    settings = {"receiver__max_image": "1MB", "receiver__device_rate": "0", "jobs__rate": "1000",
                "receiver__device_parallel": "0", "receiver__strict": "true"}  # fmt: skip
    with running(tmp_path_factory.mktemp("strict"), **settings) as found:
        yield found


def check(answer: Answer | None, status: int, code: str) -> Answer:
    assert answer is not None
    assert (answer.status, answer.code) == (status, code), answer
    row = REFUSALS[code]
    problem = answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.body.endswith(b"}\n")
    assert problem["type"] == f"/problems/{code}"
    assert problem["title"] == row.title
    assert problem["status"] == status == row.status
    assert problem["retry"] is row.retry
    assert problem["detail"].strip()
    assert "{" not in problem["detail"]
    assert ("retry-after" in answer.headers) == bool(row.retry_seconds)
    return answer


def test_a_file_under_another_name(receiver: Receiver, photo: Photo) -> None:
    answer = check(receiver.post_form(part("file", photo(), "a.jpg")), 400, "wrong_field")
    assert "field file" in answer.json["detail"]
    assert "field image" in answer.json["detail"]


def test_two_files(receiver: Receiver, photo: Photo) -> None:
    one, two = part("image", photo(), "a.jpg"), part("image", photo(), "b.jpg")
    check(receiver.post_form(one, two), 400, "two_files")
    check(receiver.post_form(one, part("other", photo(), "b.jpg")), 400, "two_files")


def test_a_form_without_an_image(receiver: Receiver) -> None:
    answer = check(receiver.post_form(part("device", "cam-1")), 400, "no_image")
    assert "device" in answer.json["detail"]
    check(receiver.post_form(), 400, "no_image")


def test_an_empty_image(receiver: Receiver) -> None:
    check(receiver.post_form(part("image", b"", "")), 400, "empty_image")
    check(receiver.post_raw(b"", Content_Length="0"), 400, "empty_image")


def test_content_that_is_no_image(receiver: Receiver) -> None:
    check(receiver.post_form(part("image", b"hello", "a.jpg")), 415, "unsupported_image")
    check(receiver.post_raw(b"%PDF-1.7" * 1000), 415, "unsupported_image")
    check(receiver.post_raw(b"MZ" + bytes(200_000), "image/png"), 415, "unsupported_image")


def test_an_image_that_is_cut_off(receiver: Receiver) -> None:
    for name in ("china.jpg", "coffee.png"):
        image = (PHOTOS / name).read_bytes()[:100_000]
        check(receiver.post_raw(image), 422, "truncated_image")
        check(receiver.post_form(part("image", image, "a")), 422, "truncated_image")


def test_an_image_that_is_too_large(receiver: Receiver) -> None:
    image = (PHOTOS / "rocket.jpg").read_bytes()
    large = image + bytes(MAX_IMAGE + 1 - len(image))
    answer = check(receiver.post_raw(large), 413, "too_large")
    assert answer.json["limit"] == MAX_IMAGE
    check(receiver.post_form(part("image", large, "a.jpg")), 413, "too_large")
    body = form(part("image", large, "a.jpg"))
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    check(receiver.send(top + chunked(body, 65536)), 413, "too_large")


def test_a_client_that_only_writes_sees_that_it_was_too_large(receiver: Receiver) -> None:
    body = form(part("image", b"\xff\xd8\xff" + bytes(20_000_000), "a.jpg"))
    check(receiver.request("POST", "/images", body, Content_Type=FORM_TYPE), 413, "too_large")


def test_a_refused_body_is_read_to_its_end_so_that_the_connection_lives(
    receiver: Receiver,
) -> None:
    body = form(part("image", b"\xff\xd8\xff" + bytes(5_000_000), "a.jpg"))
    top = head("POST", "/images", body, Content_Type=FORM_TYPE, Connection="keep-alive")
    with receiver.connect() as connection:
        connection.sendall(top + body)
        check(read_answer(connection), 413, "too_large")
        connection.sendall(head("GET", "/healthz"))
        answer = read_answer(connection)
        assert answer is not None
        assert answer.status == 200


def test_expect_100_is_refused_before_the_body(receiver: Receiver) -> None:
    top = head(
        "POST",
        "/images",
        Content_Type="image/jpeg",
        Content_Length="500000000",
        Expect="100-continue",
    )
    with receiver.connect() as connection:
        connection.sendall(top)
        received = connection.recv(65536, socket.MSG_PEEK)
        assert received.startswith(b"HTTP/1.1 413 ")  # and no 100: the body is not asked for
        check(read_answer(connection), 413, "too_large")


def test_expect_100_is_answered_before_the_body(receiver: Receiver) -> None:
    top = head(
        "POST", "/images", Content_Type="image/jpeg", Content_Length="9", Expect="100-continue"
    )
    with receiver.connect() as connection:
        connection.sendall(top)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")


def test_a_chunked_raw_body(receiver: Receiver, photo: Photo) -> None:
    top = head("POST", "/images", Content_Type="image/jpeg", Transfer_Encoding="chunked")
    answer = check(receiver.send(top + chunked(photo())), 411, "length_required")
    assert "Content-Length" in answer.json["detail"]


def test_no_length_at_all(receiver: Receiver) -> None:
    check(receiver.send(head("POST", "/images", Content_Type=FORM_TYPE)), 411, "length_required")


def test_a_coding_other_than_chunked(receiver: Receiver) -> None:
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="gzip, chunked")
    check(receiver.send(top + chunked(b"x")), 400, "bad_length")


@pytest.mark.parametrize("length", ["-5", "+5", "5, 5", "5 5", "0x5", "five", "9" * 30])
def test_a_length_that_is_none(receiver: Receiver, length: str) -> None:
    top = head("POST", "/images", Content_Type="image/jpeg", Content_Length=length)
    answer = receiver.send(top + b"hello")
    assert answer is not None
    assert answer.status == 400


def test_two_lengths(receiver: Receiver) -> None:
    top = head("POST", "/images", Content_Type="image/jpeg", Content_Length="5")
    answer = receiver.send(top.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n") + b"hello!")
    assert answer is not None
    assert answer.status == 400


def test_a_length_and_a_coding_never_leave_a_second_request(
    receiver: Receiver, photo: Photo
) -> None:
    inner = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    top = head("POST", "/images", Content_Type="image/jpeg", Transfer_Encoding="chunked")
    top = top.replace(b"Connection: close\r\n", b"Content-Length: 5\r\n")
    with receiver.connect() as connection:
        connection.sendall(top + b"0\r\n\r\n" + inner)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 411 ")
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_compressed_body(receiver: Receiver, photo: Photo) -> None:
    answer = receiver.post_raw(photo(), Content_Encoding="gzip")
    check(answer, 415, "content_encoding")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_another_kind_of_body(receiver: Receiver, photo: Photo, kind: str) -> None:
    check(receiver.post_raw(photo(), kind), 415, "unsupported_body")


def test_a_raw_image_where_a_form_is_expected(receiver: Receiver, photo: Photo) -> None:
    answer = receiver.request("POST", "/uploadImage", photo(), Content_Type="image/jpeg")
    assert "image/jpeg" in check(answer, 415, "unsupported_body").json["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "Küche"),
        ("device", "../x"),
        ("device", "_10.0.0.1"),
        ("device", "x" * 65),
        ("captured_at", "yesterday"),
        ("captured_at", "9" * 50),
        ("sequence", "-1"),
        ("sequence", "1.5"),
        ("sequence", "9" * 30),
        ("tags", "a=1,a=2"),
        ("tags", "a=\x01"),
        ("tags", ",".join(f"t{n}=x" for n in range(30))),
        ("idempotency_key", "k" * 300),
        ("idempotency_key", "Küche"),
    ],
)
def test_a_field_that_is_not_usable(
    receiver: Receiver, photo: Photo, name: str, value: str
) -> None:
    check(receiver.post_form(part(name, value), part("image", photo(), "a.jpg")), 400, "bad_field")


def test_a_header_that_is_not_usable(receiver: Receiver, photo: Photo) -> None:
    check(receiver.post_raw(photo(), X_Device="a/b"), 400, "bad_field")


def test_a_field_that_is_said_twice_and_differently(receiver: Receiver, photo: Photo) -> None:
    image = part("image", photo(), "a.jpg")
    twice = part("device", "a"), part("device", "b"), image
    check(receiver.post_form(*twice), 400, "bad_field")
    check(receiver.post_form(part("device", "a"), image, X_Device="b"), 400, "bad_field")


def test_more_metadata_than_fits(receiver: Receiver, photo: Photo) -> None:
    tags = ",".join(f"t{n}={'x' * 100}" for n in range(20))
    answer = receiver.post_form(part("tags", tags), part("image", photo(), "a.jpg"))
    check(answer, 400, "metadata_too_large")


def test_more_fields_than_fit(receiver: Receiver, photo: Photo) -> None:
    image = part("image", photo(), "a.jpg")
    many = [part(f"f{n}", "x") for n in range(100)]
    check(receiver.post_form(*many, image), 400, "form_too_large")
    check(receiver.post_form(part("f", "x" * 66_000), image), 400, "form_too_large")
    headers = "".join(f"X-{n}: 1\r\n" for n in range(20))
    wide = image.replace(b"\r\n", b"\r\n" + headers.encode(), 1)
    check(receiver.post_form(wide), 400, "form_too_large")


def test_more_headers_than_fit(receiver: Receiver, photo: Photo) -> None:
    headers = {f"X_{n}": "1" for n in range(95)}
    check(receiver.post_raw(photo(), **headers), 431, "too_many_headers")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"--" + BOUNDARY,
        b"--" + BOUNDARY + b"\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; name=image\r\n\r\nx",
        b"--" + BOUNDARY + b"\nContent-Disposition: form-data; name=image\n\nx",
        b"--" + BOUNDARY + b"\r\nno colon\r\n\r\nx\r\n--" + BOUNDARY + b"--\r\n",
        b"--other\r\nContent-Disposition: form-data; name=image\r\n\r\nx\r\n--other--\r\n",
    ],
)
def test_a_form_that_cannot_be_read(receiver: Receiver, body: bytes) -> None:
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    check(receiver.send(top + chunked(body) if body else top + b"0\r\n\r\n"), 400, "bad_multipart")


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 201])
def test_a_form_without_a_usable_boundary(receiver: Receiver, photo: Photo, boundary: str) -> None:
    kind = "multipart/form-data" + boundary
    check(receiver.post_raw(photo(), kind), 400, "bad_multipart")


def test_addresses_and_methods_that_are_not_there(receiver: Receiver) -> None:
    check(receiver.get("/nowhere"), 404, "not_found")
    check(receiver.get("/problems/nothing"), 404, "not_found")
    check(receiver.get("/images/" + "0" * 64), 404, "no_receipt")
    check(receiver.get("/images/20261123T160405.000000Z_cam_0123456789abcdef"), 404, "no_receipt")
    check(receiver.get("/images/%00"), 404, "no_receipt")
    answer = check(receiver.request("PUT", "/images"), 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


def test_a_problem_type_leads_to_its_row(receiver: Receiver) -> None:
    for code, row in REFUSALS.items():
        told = receiver.get(f"/problems/{code}").json
        assert (told["status"], told["title"]) == (row.status, row.title)


def test_who_comes_through_a_proxy(receiver: Receiver, photo: Photo) -> None:
    for header in ("Forwarded", "X_Forwarded_For", "X_Forwarded_Proto", "X_Real_IP"):
        answer = check(receiver.post_raw(photo(), **{header: "127.0.0.1"}), 401, "unauthorized")
        assert "receiver.auth" in answer.json["detail"]
        assert "bearer" in answer.headers["www-authenticate"].lower()


def test_a_network_that_is_not_allowed(own: Path, photo: Photo) -> None:
    settings = {"receiver__auth": "open", "receiver__allow": "192.0.2.0/24,2001:db8::/32"}
    with running(own, **settings) as other:
        check(other.post_raw(photo()), 403, "forbidden")


def test_a_sender_that_is_allowed(own: Path, photo: Photo) -> None:
    settings = {"receiver__auth": "open", "receiver__allow": "127.0.0.0/8"}
    with running(own, **settings) as other:
        assert other.post_raw(photo(), Forwarded="for=192.0.2.1").status == 201


def test_no_room_above_the_floor(own: Path, photo: Photo) -> None:
    with running(own, spool__keep_free="100%") as other:
        check(other.post_raw(photo()), 507, "disk_full")
        check(other.get("/readyz"), 507, "disk_full")
        assert other.get("/healthz").status == 200
        assert other.get("/limits").json["accepting"] is False
        assert "disk is full" in other.get("/status.json").json["verdict"]["sentence"]


def test_refusals_in_numbers_are_reported_except_where_a_device_is_merely_paced(
    own: Path, photo: Photo
) -> None:
    with running(own, receiver__device_rate="1") as other:
        codes = [other.post_raw(photo(), X_Device="cam-fast").status for _ in range(14)]
        assert codes.count(429) >= 10
        assert "too_many_requests" not in other.get("/status.json").body.decode()
        for _ in range(14):
            check(other.post_form(part("file", "text")), 400, "no_image")
        assert "refused in the last" in other.get("/status.json").body.decode()


def test_only_limits_of_a_devices_own_and_images_at_fault_raise_no_alert() -> None:
    silent = {code for code, row in REFUSALS.items() if not (row.counts or row.for_people)}
    assert silent == {
        "too_many_requests", "too_many_at_once",
        "empty_image", "too_large", "unsupported_image", "truncated_image", "digest_mismatch",
        "too_many_pixels", "no_picture",
    }  # fmt: skip
