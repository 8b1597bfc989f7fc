"""Hundreds of clients that are slow in every way there is, beside one that is not.

No time is asserted: the sockets give up after 20 s. How fast the good client is beside 500 of each
kind is measured by ``python -m bench.slow``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.receiver import FORM_TYPE, Receiver, form, head, part, read_answer, running

Photo = Callable[[], bytes]
BODY = form(part("image", b"\xff\xd8\xff\xe0" + bytes(3000), "a.jpg"))
HEAD = head("POST", "/images", BODY, Content_Type=FORM_TYPE)
ASK = b"GET /limits HTTP/1.1\r\nHost: a\r\n\r\n"

KINDS = {
    "idle": b"",
    "slow header": HEAD[:-20],
    "slow body": HEAD + BODY[:1000],
    "never reads": ASK * 5,
    "slow job": head("POST", "/jobs/drain", b"{}", Content_Type="application/json") + b"{",
}


@contextlib.contextmanager
def crowd(receiver: Receiver, count: int, *kinds: str) -> Iterator[None]:
    """``count`` connections of each kind that stay as they are; cut off at the end."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            for kind in kinds:
                connection = stack.enter_context(receiver.connect())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.sendall(KINDS[kind])
        yield


@pytest.mark.parametrize("processes", ["1", "2", pytest.param("4", marks=pytest.mark.slow)])
def test_a_good_client_is_served_beside_a_hundred_of_each_kind(
    own: Path, photo: Photo, processes: str
) -> None:
    with running(own, receiver__processes=processes) as receiver:
        with crowd(receiver, 100, *KINDS):
            assert [receiver.post_raw(photo()).status for _ in range(5)] == [201] * 5
        receiver.await_empty_tmp()
        assert receiver.post_raw(photo()).status == 201
        assert not [event for event in receiver.events if event["level"] == "error"]


@pytest.mark.parametrize("kind", ["idle", "slow header", "never reads"])
def test_who_sends_no_body_holds_no_thread(own: Path, photo: Photo, kind: str) -> None:
    """With four threads, which a hundred of these would hold long before."""
    with running(own, receiver__threads="4") as receiver:
        with crowd(receiver, 100, kind):
            assert [receiver.post_raw(photo()).status for _ in range(3)] == [201] * 3


def test_held_jobs_hold_no_threads_of_images(own: Path, photo: Photo) -> None:
    """As many as there are threads, and more; each sends half of its body and then nothing."""
    with running(own, receiver__threads="64") as receiver:
        with crowd(receiver, 100, "slow job"):
            assert [receiver.post_raw(photo()).status for _ in range(5)] == [201] * 5


@pytest.mark.slow
def test_a_job_whose_body_stops_is_answered_and_ended(own: Path) -> None:
    with running(own) as receiver, receiver.connect() as connection:
        connection.settimeout(60)  # seconds for what takes ten or twenty
        connection.sendall(KINDS["slow job"])
        answer = read_answer(connection)
    assert answer is not None
    assert (answer.status, answer.json["code"]) == (408, "too_slow")


@pytest.mark.parametrize("coded", [False, True])
def test_a_job_that_is_too_large_is_refused_before_it_is_read(own: Path, coded: bool) -> None:
    framing = {"Transfer_Encoding": "chunked"} if coded else {"Content_Length": "1000000"}
    top = head("POST", "/jobs/drain", Content_Type="application/json", **framing)
    with running(own) as receiver, receiver.connect() as connection:
        connection.sendall(top + (b"2000\r\n" + b"x" * 0x2000 + b"\r\n") * coded)
        answer = read_answer(connection)
    assert answer is not None
    assert (answer.status, answer.json["code"]) == (400, "bad_job")
