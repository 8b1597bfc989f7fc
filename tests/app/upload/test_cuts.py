"""Bodies that are cut: never acknowledged, and nothing is left of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.images import small_jpeg
from tests.support.paths import PHOTOS
from tests.support.receiver import (
    FORM_TYPE,
    Answer,
    Receiver,
    chunked,
    form,
    head,
    part,
    running,
    serving_process,
)
from tests.support.wait import wait_until

Photo = Callable[[], bytes]


def _requests() -> dict[str, tuple[bytes, bytes]]:
    image = small_jpeg(1)
    body = form(part("device", "cam-cut"), part("image", image, "a.jpg", "image/jpeg"))
    coded = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    return {
        "form": (head("POST", "/images", body, Content_Type=FORM_TYPE), body),
        "raw": (head("POST", "/images", image, Content_Type="image/jpeg"), image),
        "chunked": (coded, chunked(body, 100)),
        "raw chunked": (coded.replace(FORM_TYPE.encode(), b"image/jpeg"), chunked(image, 100)),
    }


REQUESTS = _requests()


def refused(answer: Answer | None) -> bool:
    return answer is None or 400 <= answer.status < 500


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("kind", ["form", "raw", "chunked", "raw chunked"])
def test_a_cut_anywhere_is_never_acknowledged(receiver: Receiver, kind: str, end: str) -> None:
    top, body = REQUESTS[kind]
    before = receiver.images()
    whole = len(body)
    needed = whole
    if "chunked" in kind:  # closed from there on
        needed = body.rindex(b"--\r\n" if kind == "chunked" else b"\xff\xd9") + 2
    for at in range(needed):
        answer = receiver.send(top, body[:at], end=end)
        assert refused(answer), (at, answer)
        if answer is not None and "chunked" not in kind:
            assert answer.code == "short_body"
            assert answer.json["received"] == at
            assert answer.json["expected"] == whole
    receiver.await_empty_tmp()
    assert receiver.images() == before


def test_a_form_that_promises_more_than_it_sends(receiver: Receiver) -> None:
    _, body = REQUESTS["form"]
    top = head("POST", "/images", body, Content_Type=FORM_TYPE, Content_Length=str(len(body) + 7))
    before = receiver.images()
    answer = receiver.send(top, body, end="fin")
    assert answer is not None
    assert (answer.status, answer.code) == (400, "short_body")
    assert receiver.images() == before


def test_a_chunked_form_cut_before_its_closing_boundary(receiver: Receiver) -> None:
    """Every chunk is there, the last one too: only the boundary tells that the form is not."""
    body = form(part("image", small_jpeg(), "a.jpg"))
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    for cut in (body[:-4], body[:-10], body[: body.rindex(b"\r\n--")], body[: len(body) // 2]):
        answer = receiver.send(top + chunked(cut))
        assert answer is not None
        assert (answer.status, answer.code) == (400, "bad_multipart")
    receiver.await_empty_tmp()


def test_a_chunked_form_whose_image_was_cut_by_its_sender(receiver: Receiver) -> None:
    body = form(part("image", small_jpeg()[:-2], "a.jpg"))
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    answer = receiver.send(top + chunked(body))
    assert answer is not None
    assert answer.status == 201
    assert answer.json["complete"] is False
    cut = (PHOTOS / "coffee.png").read_bytes()[:5000]  # what no decoder shows
    answer = receiver.send(top + chunked(form(part("image", cut, "a.png"))))
    assert answer is not None
    assert (answer.status, answer.code, answer.json["retry"]) == (422, "truncated_image", False)


def test_the_last_chunk_missing_after_the_closing_boundary_is_harmless_or_refused(
    receiver: Receiver,
) -> None:
    """The image is whole by its boundary and its own end; the answer may not be a 5xx."""
    body = form(part("image", small_jpeg(), "a.jpg"))
    top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
    answer = receiver.send(top, chunked(body)[: -len(b"0\r\n\r\n")], end="fin")
    assert answer is None or answer.status < 500
    receiver.await_empty_tmp()


def test_aborts_leave_no_descriptor_no_file_and_no_reservation(own: Path, photo: Photo) -> None:
    tight = {"receiver__device_parallel": "1", "receiver__device_rate": "0"}
    with running(own, **tight) as receiver:
        assert receiver.post_raw(photo()).status == 201
        serving = serving_process(receiver)
        descriptors = len(os.listdir(f"/proc/{serving}/fd"))
        top, body = REQUESTS["form"]
        by_token = top.replace(b"\r\n\r\n", b"\r\nX-Device: cam-abort\r\n\r\n")
        for number in range(1000):
            receiver.send((top, by_token)[number % 2], body[: 1 + number % 300], end="rst")
        receiver.await_empty_tmp()
        wait_until(
            # What it opens once, some seconds after its start, are a few; a leak would be hundreds.
            lambda: len(os.listdir(f"/proc/{serving}/fd")) <= descriptors + 20,
            "the descriptors are closed",
        )
        # Nothing is still counted for the device, of which one upload at once may come.
        wait_until(
            lambda: receiver.post_raw(photo(), X_Device="cam-abort").status == 201,
            "nothing is counted for the device any more",
        )
        assert receiver.post_raw(photo()).status == 201
        assert not [event for event in receiver.events if event["level"] == "error"]


def test_many_stalled_clients_do_not_hold_up_a_good_one(own: Path, photo: Photo) -> None:
    with running(own, receiver__threads="64") as receiver:
        top, body = REQUESTS["form"]
        stalled = [receiver.connect() for _ in range(50)]
        try:
            for connection in stalled:
                connection.sendall(top + body[:200])
            assert receiver.post_raw(photo()).status == 201
        finally:
            for connection in stalled:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
        receiver.await_empty_tmp()
