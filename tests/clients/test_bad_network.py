"""Both clients against a real receiver, through a network that is bad on purpose."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headgate.settings.settings import combine
from headgate.spool.spool import Spool
from tests.support.bad_network import (
    BAD_GATEWAY,
    GOOD,
    PORTAL,
    Fault,
    Kind,
    problem,
)
from tests.support.cameras import Field, Gateway
from tests.support.s3_server import strict_place
from tests.support.site import FreePacer
from tests.support.wait import kill, wait_for_event
from uploader.run import start
from uploader.run.bounds import RunRequest
from uploader.run.start import run
from uploader.s3.probe import KEY

Photo = Callable[[], bytes]
PASSES = 60


def digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


def fill(field: Field, photo: Photo, count: int) -> list[bytes]:
    pictures = [photo() for _ in range(count)]
    for picture in pictures:
        field.camera.put(picture)
    return pictures


def until(field: Field, state: str, count: int) -> None:
    """Passes until so many pictures are in this state."""
    for _ in range(PASSES):
        field.camera.send()
        if list(field.camera.states().values()).count(state) == count:
            return
    raise AssertionError(f"{PASSES} passes left {field.camera.states()}")


def safe(document: dict[str, object]) -> None:
    document["safe_to_erase"] = True


def every_fault(dice: random.Random) -> Fault:
    return dice.choice(
        [
            Fault(Kind.REFUSE),
            Fault(Kind.CUT_REQUEST, at=dice.choice([1, 100, 400, 2000, 10_000])),
            Fault(Kind.DROP_ANSWER),
            Fault(Kind.HALF_ANSWER, at=dice.choice([1, 12, 60, 300, 500])),
            Fault(Kind.DELAY),
            PORTAL,
            BAD_GATEWAY,
            problem(503, "stopping", retry=True, after="1"),
            problem(422, "digest_mismatch", retry=True),
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_picture_arrives_once_and_none_is_erased_without_its_receipt(
    field: Field, photo: Photo, seed: int
) -> None:
    dice = random.Random(seed)
    field.network.decide = lambda _head: every_fault(dice) if dice.random() < 0.6 else GOOD
    pictures = fill(field, photo, 8)
    for passes in range(PASSES):
        field.camera.send()
        states = field.camera.states()
        assert set(states) == {digest(picture) for picture in pictures}  # none is erased
        if set(states.values()) == {"held"}:
            break
        field.camera.retry()  # a fault that was answered three times looks like a bad picture
        assert passes + 1 < PASSES, states
    assert field.arrived() == sorted(pictures)


def test_after_a_real_run_each_is_erased_and_is_one_object(
    gateway: Gateway, field: Field, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "Pacer", FreePacer)
    pictures = fill(field, photo, 4)
    until(field, "held", 4)
    with strict_place(tmp_path / "s3") as place:
        bucket = f"cameras-{field.device}"
        place.client.create_bucket(Bucket=bucket)
        flags = {
            "s3.bucket": bucket, "s3.endpoint_url": place.url, "s3.region": "us-east-1",
            "spool.path": str(gateway.receiver.spool), "site.name": "north",
        }  # fmt: skip
        with closing(Spool.open(combine(None, None, {}, flags, tmp_path), create=False)) as spool:
            run(spool, RunRequest(device=field.device))
        dice = random.Random(field.device)
        field.network.decide = lambda _head: every_fault(dice) if dice.random() < 0.5 else GOOD
        until(field, "held", 0)
        assert field.camera.states() == {}
        keys = place.client.list_objects_v2(Bucket=bucket)["Contents"]
        stored = [place.client.get_object(Bucket=bucket, Key=key["Key"])["Body"].read()
                  for key in keys if not key["Key"].endswith(KEY)]  # fmt: skip
    assert sorted(stored) == sorted(pictures)


@pytest.mark.parametrize(
    "poison",
    [
        Fault(Kind.REFUSE),
        Fault(Kind.CUT_REQUEST, at=2000),
        Fault(Kind.DROP_ANSWER),
        Fault(Kind.HALF_ANSWER, at=300),
        BAD_GATEWAY,
        PORTAL,
        problem(503, "stopping", retry=True, after="1"),
    ],
    ids=lambda fault: f"{fault.kind}{fault.say[9:12].decode()}",
)
def test_a_poisoned_picture_is_tried_three_times_and_never_blocks_the_next(
    field: Field, photo: Photo, poison: Fault
) -> None:
    mark = "X-Sequence: 1\r\n"
    field.network.decide = lambda head: poison if mark.encode() in head else GOOD
    bad, *good = fill(field, photo, 4)
    field.camera.send()
    assert field.network.count("POST", mark) == 3
    assert field.camera.states() == {digest(bad): "waiting"} | {digest(p): "held" for p in good}
    field.network.decide = lambda _head: GOOD
    until(field, "held", 4)
    assert field.arrived() == sorted([bad, *good])


def test_those_that_failed_least_come_first(field: Field, photo: Photo) -> None:
    """Also where a pass ends before it has come to the last picture."""
    down = Fault(Kind.REFUSE)
    pictures = fill(field, photo, 3)
    for expected in (1, 2, 3):
        field.network.requests.clear()
        posted = False

        def decide(head: bytes) -> Fault:
            nonlocal posted
            posted = posted or head.startswith(b"POST")
            return down if posted else GOOD

        field.network.decide = decide
        assert field.camera.send()
        assert field.network.count("POST") == 3
        assert field.network.count("POST", f"X-Sequence: {expected}\r\n") == 3
    assert len(field.camera.states()) == len(pictures)


@pytest.mark.parametrize("where", ["answer", "document"])
def test_half_a_receipt_erases_nothing_wherever_it_is_cut(
    field: Field, photo: Photo, where: str
) -> None:
    (picture,) = fill(field, photo, 1)
    until(field, "held", 1)
    answer = field.gateway.receiver.request(
        "GET", f"/images/{digest(picture)}", Authorization=f"Bearer {field.token}"
    )
    whole = len(answer.body)
    cuts = range(0, 400, 40) if where == "answer" else range(whole - 40, whole, 4)
    for cut in cuts:
        at = cut + 1
        field.network.decide = lambda head, at=at: (  # type: ignore[misc]
            Fault(Kind.HALF_ANSWER, at=at, edit=safe) if b"GET /images/" in head else GOOD
        )
        field.camera.send()
        assert list(field.camera.states()) == [digest(picture)], cut
    field.network.decide = lambda head: Fault(edit=safe) if b"GET /images/" in head else GOOD
    until(field, "held", 0)
    assert field.camera.states() == {}


def test_half_a_receipt_without_a_length_erases_nothing(field: Field, photo: Photo) -> None:
    """Where the end of the connection is the end of the answer, only the document says so."""
    (picture,) = fill(field, photo, 1)
    until(field, "held", 1)
    answer = field.gateway.receiver.request(
        "GET", f"/images/{digest(picture)}", Authorization=f"Bearer {field.token}"
    )
    whole = json.dumps({**answer.json, "safe_to_erase": True}).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    for text, left in ((whole[:-1], 1), (whole, 0)):
        say = Fault(Kind.SAY, say=head + text)
        field.network.decide = lambda one, say=say: (  # type: ignore[misc]
            say if b"GET /images/" in one else GOOD
        )
        field.camera.send()
        assert len(field.camera.states()) == left


def other_sha(document: dict[str, object]) -> None:
    document.update(safe_to_erase=True, sha256="0" * 64)


def other_size(document: dict[str, object]) -> None:
    document.update(safe_to_erase=True, size=1)


def other_id(document: dict[str, object]) -> None:
    document.update(safe_to_erase=True, id="20260101T000000.000000Z_cam-1_0123456789abcdef")


def in_words(document: dict[str, object]) -> None:
    document["safe_to_erase"] = "true"


def deeper(document: dict[str, object]) -> None:
    document["more"] = {"safe_to_erase": True, "text": '"safe_to_erase": true, \\"'}


def set_aside(document: dict[str, object]) -> None:
    document.update(state="set_aside", reason="somebody looks")


@pytest.mark.parametrize(
    "edit", [other_sha, other_size, other_id, in_words, deeper, set_aside],
    ids=lambda edit: str(edit.__name__),
)  # fmt: skip
def test_a_receipt_that_is_not_this_pictures_word_erases_nothing(
    field: Field, photo: Photo, edit: Callable[[dict[str, object]], None]
) -> None:
    fill(field, photo, 1)
    until(field, "held", 1)
    field.network.decide = lambda _head: Fault(edit=edit)
    field.camera.send()
    assert list(field.camera.states().values()) == ["held"]


def lost(document: dict[str, object]) -> None:
    document["state"] = "lost"


def test_what_the_gateway_has_lost_is_sent_again(field: Field, photo: Photo) -> None:
    fill(field, photo, 1)
    until(field, "held", 1)
    posts = field.network.count("POST")
    field.network.decide = lambda head: Fault(edit=lost) if b"GET /images/" in head else GOOD
    field.camera.send()
    assert list(field.camera.states().values()) == ["waiting"]
    until(field, "held", 1)
    assert field.network.count("POST") == posts + 1


def test_killed_whenever_an_answer_comes_it_sends_nothing_twice(field: Field, photo: Photo) -> None:
    pictures = fill(field, photo, 3)
    words, environment = field.camera.command()
    for nth in range(1, 6):  # a handshake, three pictures, and what comes after
        answered, go = threading.Event(), threading.Event()
        seen = 0

        def hold(_head: bytes, nth: int = nth, answered: threading.Event = answered,
                 go: threading.Event = go) -> None:  # fmt: skip
            nonlocal seen
            seen += 1
            if seen == nth:
                answered.set()
                wait_for_event(go, "the client is killed")

        field.network.answered = hold
        process = subprocess.Popen(
            words, env={**os.environ, **environment}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        if nth <= 4:
            wait_for_event(answered, f"answer {nth} is on its way")
        kill(process)
        go.set()
    field.network.answered = lambda _head: None
    until(field, "held", 3)
    assert field.arrived() == sorted(pictures)


def test_a_refused_picture_is_kept_and_the_others_go(field: Field, photo: Photo) -> None:
    words = b"this is no picture at all, " * 20
    field.camera.put(words)
    good = fill(field, photo, 2)
    field.camera.send()
    assert field.camera.states() == {digest(words): "refused"} | {digest(p): "held" for p in good}
    posts = field.network.count("POST")
    field.camera.send()
    assert field.network.count("POST") == posts  # it is never sent as it is
    field.camera.retry()
    field.camera.send()
    assert field.network.count("POST") == posts + 1
    assert field.camera.states()[digest(words)] == "refused"


def test_bytes_that_three_answers_call_damaged_are_not_sent_a_fourth_time(
    field: Field, photo: Photo
) -> None:
    again = problem(422, "truncated_image", retry=True)
    field.network.decide = lambda head: again if b"X-Sequence: 1\r\n" in head else GOOD
    bad, good = fill(field, photo, 2)
    for _ in range(3):
        field.camera.send()
    assert field.network.count("POST", "X-Sequence: 1\r\n") == 3
    assert field.camera.states() == {digest(bad): "refused", digest(good): "held"}


def test_a_picture_that_is_too_large_is_not_sent_at_all(field: Field, photo: Photo) -> None:
    large = photo() + bytes(1_000_000)
    field.camera.put(large)
    field.camera.send()
    assert field.camera.states() == {digest(large): "refused"}
    assert field.network.count("POST") == 0


def test_a_sender_that_is_not_admitted_keeps_everything_and_refuses_nothing(
    field: Field, photo: Photo
) -> None:
    pictures = fill(field, photo, 2)
    denied = problem(401, "unauthorized", retry=False)
    field.network.decide = lambda head: denied if head.startswith(b"POST") else GOOD
    assert "unauthorized" in field.camera.send()
    assert field.network.count("POST") == 1  # no picture would fare better
    field.network.decide = lambda _head: denied
    assert "unauthorized" in field.camera.send()
    assert set(field.camera.states().values()) == {"waiting"}
    field.network.decide = lambda _head: GOOD
    until(field, "held", 2)
    assert field.arrived() == sorted(pictures)


def not_accepting(document: dict[str, object]) -> None:
    document.update(accepting=False, reason="disk_full", retry_after=30)


def test_while_the_gateway_takes_nothing_no_picture_is_sent(field: Field, photo: Photo) -> None:
    fill(field, photo, 2)
    field.network.decide = lambda _head: Fault(edit=not_accepting)
    assert "now" in field.camera.send()
    assert field.network.count("POST") == 0
    assert set(field.camera.states().values()) == {"waiting"}


def test_without_a_gateway_a_pass_is_three_handshakes(field: Field, photo: Photo) -> None:
    fill(field, photo, 5)
    field.network.decide = lambda _head: Fault(Kind.REFUSE)
    assert "reached" in field.camera.send()
    assert field.network.count("GET /limits") == 3 and field.network.count("POST") == 0


def test_retry_after_is_waited_for_with_jitter(field: Field, photo: Photo) -> None:
    busy = problem(429, "too_many_requests", retry=True, after="7")
    field.network.decide = lambda head: busy if head.startswith(b"POST") else GOOD
    fill(field, photo, 4)
    field.camera.send()
    slept = list(field.camera.slept)
    assert len(slept) == 8 and all(7 <= one <= 10.6 for one in slept)
    assert len(set(slept)) > 1


@pytest.mark.parametrize("after", ["86400", "4000000000"])
def test_a_long_retry_after_ends_the_pass_and_keeps_the_rest(
    field: Field, photo: Photo, after: str
) -> None:
    pictures = fill(field, photo, 2)
    busy = problem(503, "stopping", retry=True, after=after)
    field.network.decide = lambda head: busy if head.startswith(b"POST") else GOOD
    assert field.camera.send()
    assert field.network.count("POST") == 1 and field.camera.slept == []
    field.network.decide = lambda _head: GOOD
    until(field, "held", 2)  # it may be a mistake: nothing waits for a day
    assert field.arrived() == sorted(pictures)


def test_without_an_answer_it_waits_longer_each_time(field: Field, photo: Photo) -> None:
    field.network.decide = lambda head: (
        Fault(Kind.DROP_ANSWER) if head.startswith(b"POST") else GOOD
    )
    fill(field, photo, 1)
    field.camera.send()
    first, second = field.camera.slept
    assert 1 <= first <= 1.51 and 2 <= second <= 3.01
