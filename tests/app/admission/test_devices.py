"""Devices over HTTP: their tokens, their rates, their numbers, their clocks, what they may ask."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support.receiver import (
    FORM_TYPE,
    Answer,
    Receiver,
    check,
    enrol,
    form,
    head,
    metadata,
    part,
    read_answer,
    running,
    site,
)
from tests.support.wait import join, wait_until

Photo = Callable[[], bytes]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver where everybody needs a token."""
    settings = {"receiver__auth": "token", "receiver__device_rate": "0"}
    with running(tmp_path_factory.mktemp("guarded"), **settings) as found:
        yield found


# -- tokens


def test_an_image_is_its_tokens_devices(guarded: Receiver, photo: Photo) -> None:
    token = enrol(guarded, "cam-a")
    bearer = {"Authorization": f"Bearer {token}"}
    receipt = check(guarded.post_raw(photo(), **bearer), 201).json
    assert receipt["device"] == "cam-a"
    basic = base64.b64encode(f"cam-a:{token}".encode()).decode()
    named = guarded.post_form(
        part("device", "cam-a"), part("image", photo(), "a.jpg"), Authorization=f"Basic {basic}"
    )
    assert check(named, 201).json["device"] == "cam-a"


def test_without_a_token_nothing_is_taken_or_told(guarded: Receiver, photo: Photo) -> None:
    token = enrol(guarded, "cam-b")
    receipt = check(guarded.post_raw(photo(), Authorization=f"Bearer {token}"), 201).json
    before = guarded.images()
    for answer in (
        guarded.post_raw(photo()),
        guarded.post_raw(photo(), Authorization="Bearer hg_nonsense"),
        guarded.post_form(part("image", photo(), "a.jpg"), X_Device="cam-b"),
        guarded.get(f"/images/{receipt['id']}"),
        guarded.get("/devices/cam-b/gaps"),
        guarded.request("GET", "/limits", Authorization="Bearer hg_nonsense"),
    ):
        check(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"]
    assert guarded.images() == before
    assert guarded.half_received() == []
    assert token not in guarded.log.read_text()


def test_the_device_of_a_request_is_its_tokens(guarded: Receiver, photo: Photo) -> None:
    bearer = {"Authorization": f"Bearer {enrol(guarded, 'cam-c')}"}
    enrol(guarded, "cam-d")
    image = part("image", photo(), "a.jpg")
    for answer in (guarded.post_raw(photo(), X_Device="cam-d", **bearer),
                   guarded.post_form(image, part("device", "cam-d"), **bearer)):  # fmt: skip
        receipt = check(answer, 201).json
        assert receipt["device"] == "cam-c"
        assert "cam-d" in receipt["warnings"][0]
    check(guarded.request("GET", "/devices/cam-d/gaps", **bearer), 403, "wrong_device")


def test_a_device_sees_its_own_receipts_only(guarded: Receiver, photo: Photo) -> None:
    mine, other = (enrol(guarded, name) for name in ("cam-e", "cam-f"))
    data = photo()
    receipt = check(guarded.post_raw(data, Authorization=f"Bearer {mine}"), 201).json
    for ref in (receipt["id"], hashlib.sha256(data).hexdigest()):
        path = f"/images/{ref}"
        found = guarded.request("GET", path, Authorization=f"Bearer {mine}")
        assert check(found, 200).json["id"] == receipt["id"]
        check(guarded.request("GET", path, Authorization=f"Bearer {other}"), 404, "no_receipt")


def test_devices_that_sent_the_same_bytes_each_find_their_own_image(
    guarded: Receiver, photo: Photo
) -> None:
    data = photo()
    ref = hashlib.sha256(data).hexdigest()
    bearers = [{"Authorization": f"Bearer {enrol(guarded, name)}"} for name in ("cam-s", "cam-t")]
    sent = [check(guarded.post_raw(data, **bearer), 201).json["id"] for bearer in bearers]
    found = [guarded.request("GET", f"/images/{ref}", **bearer) for bearer in bearers]
    assert [check(answer, 200).json["id"] for answer in found] == sent
    small = [guarded.request("GET", f"/images/{ref}/thumbnail", **bearer) for bearer in bearers]
    assert all(b"no_receipt" not in answer.body for answer in small)


def test_a_gateways_token_sends_for_the_devices_that_it_names(
    guarded: Receiver, photo: Photo
) -> None:
    gateway = {"Authorization": f"Bearer {enrol(guarded, 'box-1', forward=True)}"}
    enrol(guarded, "cam-u")
    named = check(guarded.post_raw(photo(), X_Device="cam-u", **gateway), 201).json
    assert named["device"] == "cam-u" and "warnings" not in named
    form = guarded.post_form(part("device", "cam-v"), part("image", photo(), "a.jpg"), **gateway)
    assert check(form, 201).json["device"] == "cam-v"
    assert check(guarded.post_raw(photo(), **gateway), 201).json["device"] == "box-1"
    limits = check(guarded.request("GET", "/limits", **gateway), 200).json
    assert limits["device"]["forward"] is True


def test_a_gateway_sends_as_fast_as_it_may(own: Path, photo: Photo) -> None:
    with running(own, receiver__device_rate="1") as receiver:
        gateway = {"Authorization": f"Bearer {enrol(receiver, 'box-1', forward=True)}"}
        camera = {"Authorization": f"Bearer {enrol(receiver, 'cam-1')}"}
        for _ in range(5):
            check(receiver.post_raw(photo(), X_Device="cam-2", **gateway), 201)
        answers = [receiver.post_raw(photo(), **camera).status for _ in range(5)]
        assert 429 in answers


def test_a_receipt_is_found_by_the_key_that_its_image_came_with(
    guarded: Receiver, photo: Photo
) -> None:
    """Also where the same device sent the same bytes more than once."""
    gateway = {"Authorization": f"Bearer {enrol(guarded, 'box-2', forward=True)}"}
    data = photo()
    path = f"/images/{hashlib.sha256(data).hexdigest()}"
    ids = {}
    for key in ("one", "two"):
        sent = guarded.post_raw(data, X_Device="cam-w", Idempotency_Key=key, **gateway)
        ids[key] = check(sent, 201).json["id"]
        assert sent.json["idempotency_key"] == key
    assert len(set(ids.values())) == 2
    for key, image in ids.items():
        named = {"X_Device": "cam-w", "Idempotency_Key": key, **gateway}
        assert check(guarded.request("GET", path, **named), 200).json["id"] == image
        other = guarded.request("GET", f"/images/{'0' * 64}", **named)
        check(other, 404, "no_receipt")
    absent = {"X_Device": "cam-w", "Idempotency_Key": "three", **gateway}
    check(guarded.request("GET", path, **absent), 404, "no_receipt")


def test_revoked_while_the_receiver_runs(guarded: Receiver, photo: Photo) -> None:
    bearer = {"Authorization": f"Bearer {enrol(guarded, 'cam-g')}"}
    check(guarded.post_raw(photo(), **bearer), 201)
    with site(guarded) as opened:
        opened.devices.revoke(["cam-g"], datetime.now(UTC))
    check(guarded.post_raw(photo(), **bearer), 401, "unauthorized")


def test_a_wrong_token_is_told_before_the_body_and_while_it_is_sent(
    guarded: Receiver, photo: Photo
) -> None:
    top = head("POST", "/images", Content_Type="image/jpeg", Content_Length="5000000",
               Expect="100-continue")  # fmt: skip
    check(guarded.send(top), 401, "unauthorized")
    top = head("POST", "/images", Content_Type="image/jpeg", Content_Length="5000000")
    with guarded.connect() as connection:
        connection.sendall(top + bytes(5_000_000))  # no reset while it is sent
        check(read_answer(connection), 401, "unauthorized")
        assert connection.recv(1) == b""  # and none behind the answer, which could destroy it


# -- urgent


def test_urgent_belongs_to_the_token(guarded: Receiver, photo: Photo) -> None:
    may = {"Authorization": f"Bearer {enrol(guarded, 'cam-h', urgent=True)}"}
    may_not = {"Authorization": f"Bearer {enrol(guarded, 'cam-i')}"}
    receipt = check(guarded.post_raw(photo(), X_Priority="urgent", **may), 201).json
    assert metadata(guarded, receipt["id"]).urgent is True
    for said, who, warns in (("urgent", may_not, True), ("normal", may_not, False),
                             ("now", may, True)):  # fmt: skip
        receipt = check(guarded.post_raw(photo(), X_Priority=said, **who), 201).json
        assert metadata(guarded, receipt["id"]).urgent is False
        assert ("warnings" in receipt) == warns


def test_nobody_without_a_token_is_urgent(receiver: Receiver, photo: Photo) -> None:
    image = part("image", photo(), "a.jpg")
    receipt = check(receiver.post_form(part("priority", "urgent"), image), 201).json
    assert metadata(receiver, receipt["id"]).urgent is False
    assert "priority" in receipt["warnings"][0]


# -- how often, how much


def test_a_device_that_sends_too_often_is_told_before_its_body(own: Path, photo: Photo) -> None:
    with running(own, receiver__device_rate="2") as receiver:
        codes = [receiver.post_raw(photo(), X_Device="cam-fast").status for _ in range(6)]
        assert set(codes) == {201, 429}
        assert codes[:2] == [201, 201]
        check(receiver.post_raw(photo(), X_Device="cam-calm"), 201)
        for _ in range(6):  # nobody in particular: not a device
            check(receiver.post_raw(photo()), 201)
        refused = [receiver.post_form(part("device", "cam-form"), part("image", photo(), "a.jpg"))
                   for _ in range(6)][-1]  # fmt: skip
        check(refused, 429, "too_many_requests")
        assert int(refused.headers["retry-after"]) == refused.json["retry_after"] == 1
        assert receiver.half_received() == []


def test_a_device_that_sends_too_much_at_once(own: Path, photo: Photo) -> None:
    with running(own, receiver__device_parallel="2", receiver__device_rate="0") as receiver:
        data = photo()
        top = head("POST", "/images", data, Content_Type="image/jpeg", X_Device="cam-many")
        begun = [receiver.connect() for _ in range(2)]
        for connection in begun:
            connection.sendall(top + data[:1000])
        wait_until(lambda: len(receiver.half_received()) == 2, "both uploads have begun")
        check(receiver.post_raw(photo(), X_Device="cam-many"), 429, "too_many_at_once")
        check(receiver.post_raw(photo(), X_Device="cam-other"), 201)
        for connection in begun:
            with connection:
                connection.sendall(data[1000:])
                answer = read_answer(connection)
                assert answer is not None
                assert answer.status in (200, 201)
        check(receiver.post_raw(photo(), X_Device="cam-many"), 201)


def test_the_sites_intake(own: Path, photo: Photo) -> None:
    with running(own, receiver__intake="20kB/s") as receiver:
        check(receiver.post_raw(photo()), 201)  # larger than a second's worth: it may come
        refused = check(receiver.post_raw(photo()), 503, "intake_spent")
        assert int(refused.headers["retry-after"]) == refused.json["retry_after"] > 1
        check(receiver.get("/readyz"), 503, "intake_spent")
        limits = check(receiver.get("/limits"), 200)
        assert (limits.json["accepting"], limits.json["reason"]) == (False, "intake_spent")
        assert 0 < limits.json["retry_after"] <= refused.json["retry_after"]
        assert limits.headers["cache-control"] == f"max-age={limits.json['retry_after']}"


def test_what_an_upload_promised_and_never_sent_is_not_counted(own: Path, photo: Photo) -> None:
    with running(own, receiver__intake="200kB/s") as receiver:
        top = head("POST", "/images", Content_Type="image/jpeg", Content_Length="15000000")
        with receiver.connect() as connection:
            connection.sendall(top + photo()[:1000])
            wait_until(lambda: bool(receiver.half_received()), "the upload has begun")
            check(receiver.post_raw(photo()), 503, "intake_spent")
        receiver.await_empty_tmp()
        receiver.await_ready()
        check(receiver.post_raw(photo()), 201)


# -- what was promised of the bytes


def test_a_digest_of_the_image(receiver: Receiver, photo: Photo) -> None:
    data = photo()
    digest = hashlib.sha256(data).hexdigest()
    image = part("image", data, "a.jpg")
    check(receiver.post_form(part("sha256", digest.upper()), image), 201)
    data = photo()
    refused = check(receiver.post_raw(data, X_Sha256=digest), 422, "digest_mismatch")
    assert refused.json["promised"] == digest
    assert refused.json["found"] == hashlib.sha256(data).hexdigest()
    assert refused.json["retry"] is True
    # One that cannot be read promises nothing.
    assert "sha256" in check(receiver.post_raw(data, X_Sha256=digest[:-1]), 201).json["warnings"][0]
    assert receiver.half_received() == []


def test_content_digest_covers_the_whole_body(receiver: Receiver, photo: Photo) -> None:
    data = photo()
    of_data = base64.b64encode(hashlib.sha256(data).digest()).decode()
    check(receiver.post_raw(data, Content_Digest=f"sha-256=:{of_data}:"), 201)
    other = photo()
    check(receiver.post_raw(other, Content_Digest=f"sha-256=:{of_data}:"), 422, "digest_mismatch")
    body = form(part("image", other, "a.jpg"))
    of_body = base64.b64encode(hashlib.sha512(body).digest()).decode()
    common = {"Content_Type": FORM_TYPE}
    wrong = {**common, "Content_Digest": f"sha-256=:{of_data}:"}
    check(receiver.request("POST", "/images", body, **wrong), 422, "digest_mismatch")
    right = {**common, "Content_Digest": f"sha-512=:{of_body}:"}
    check(receiver.request("POST", "/images", body, **right), 201)
    unread = check(receiver.post_raw(photo(), Content_Digest="sha-256=xyz"), 201)
    assert "Content-Digest" in unread.json["warnings"][0]


# -- the handshake


def test_the_handshake_knows_who_asks(guarded: Receiver, photo: Photo) -> None:
    anybody = check(guarded.get("/limits"), 200)
    assert anybody.json["device"] is None
    assert anybody.json["auth"] == "token"
    assert anybody.headers["cache-control"] == "max-age=60"
    bearer = {"Authorization": f"Bearer {enrol(guarded, 'cam-j', urgent=True)}"}
    known = check(guarded.request("GET", "/limits", **bearer), 200)
    assert known.json["device"] == {
        "name": "cam-j",
        "urgent": True,
        "forward": False,
        "last_at": None,
        "images": 0,
        "clock_offset_seconds": None,
    }
    assert known.headers["cache-control"] == "private, max-age=60"
    assert known.headers["vary"] == "Authorization"
    receipt = check(guarded.post_raw(photo(), **bearer), 201).json
    known = check(guarded.request("OPTIONS", "/images", **bearer), 200)
    assert known.json["device"]["images"] == 1
    assert known.json["device"]["last_at"] == receipt["received_at"]


# -- numbers and clocks


def test_what_never_arrived_is_listed_until_it_is_sent_again(
    receiver: Receiver, photo: Photo
) -> None:
    path = "/devices/cam-gaps/gaps"
    check(receiver.get(path), 404, "no_sequence")
    for number in ("7", "8", "12"):
        check(receiver.post_raw(photo(), X_Device="cam-gaps", X_Sequence=number), 201)
    found = check(receiver.get(path), 200).json
    assert datetime.fromisoformat(found.pop("since")) <= datetime.now(UTC)
    assert found == {
        "device": "cam-gaps",
        "first": 7,
        "last": 12,
        "missing": 3,
        "gaps": [{"first": 9, "last": 11}],
    }
    ten = photo()
    check(receiver.post_raw(ten, X_Device="cam-gaps", X_Sequence="10"), 201)
    check(receiver.post_raw(ten, X_Device="cam-gaps", X_Sequence="10"), 200)
    assert receiver.get(path).json["gaps"] == [{"first": 9, "last": 9}, {"first": 11, "last": 11}]


def test_a_clock_that_is_off_is_told_once_and_orders_nothing(
    receiver: Receiver, photo: Photo
) -> None:
    def send(**off: float) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(**off), usegmt=True)
        check(receiver.post_raw(photo(), X_Device="cam-clock", Date=date), 201)

    def told(name: str) -> int:
        return sum(
            event["event"] == name and event.get("device") == "cam-clock"
            for event in receiver.events
        )

    send()
    assert told("device.clock_off") == 0
    send(hours=2)
    send(hours=2)
    assert told("device.clock_off") == 1
    # Other tests' devices have clocks as well, so not all are named in the verdict.
    seen = {one["device"]: one for one in receiver.get("/status.json").json["devices"]}
    assert 7000 < seen["cam-clock"]["clock_offset_seconds"] < 7400
    send()
    assert told("device.clock_right") == 1
    names = [path.name for path in receiver.images() if "_cam-clock_" in path.name]
    stamps = [datetime.strptime(name[:15], "%Y%m%dT%H%M%S") for name in names]  # noqa: DTZ007
    assert max(stamps) - min(stamps) < timedelta(hours=1)


def test_many_devices_at_once_each_with_its_own_token(guarded: Receiver, photo: Photo) -> None:
    tokens = {f"cam-p{n}": enrol(guarded, f"cam-p{n}") for n in range(8)}
    images = {name: photo() for name in tokens}
    answers: dict[str, Answer] = {}

    def send(name: str) -> None:
        bearer = {"Authorization": f"Bearer {tokens[name]}"}
        answers[name] = guarded.post_raw(images[name], **bearer)

    threads = [threading.Thread(target=send, args=(name,)) for name in tokens]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)
    assert {name: answer.json["device"] for name, answer in answers.items()} == {
        name: name for name in tokens
    }


# -- a proxy that leaves no mark, and names that are not one's own


def test_auto_needs_a_token_of_everybody_as_soon_as_one_device_has_one(
    own: Path, photo: Photo
) -> None:
    """Behind a proxy that adds no header every request seems to come from this machine."""
    with running(own) as receiver:
        check(receiver.get("/status.json"), 200)
        enrol(receiver, "cam-1")
        for path in ("/", "/status.json", "/metrics"):
            check(receiver.get(path), 401 if path == "/metrics" else 403)
        check(receiver.post_raw(photo()), 401, "unauthorized")
        for path in ("/healthz", "/readyz"):
            check(receiver.get(path), 200)
        with site(receiver) as opened:
            opened.devices.revoke(["cam-1"], datetime.now(UTC))
        check(receiver.get("/status.json"), 200)


def test_under_open_an_enrolled_name_needs_its_token(own: Path, photo: Photo) -> None:
    with running(own, receiver__auth="open") as receiver:
        bearer = {"Authorization": f"Bearer {enrol(receiver, 'cam-1')}", "Idempotency-Key": "k"}
        enrol(receiver, "cam-2")
        with site(receiver) as opened:
            opened.devices.revoke(["cam-2"], datetime.now(UTC))
        key = {"Idempotency-Key": "k"}
        check(receiver.post_raw(photo(), **{"X-Device": "cam-3", **key}), 201)
        for name in ("cam-1", "cam-2"):
            said = receiver.post_raw(photo(), **{"X-Device": name, **key})
            assert b"need its token" in check(said, 401, "unauthorized").body
            image = part("image", photo(), "a.jpg")
            said = receiver.post_form(part("device", name.encode()), image, **key)
            assert b"need its token" in check(said, 401, "unauthorized").body
        check(receiver.post_raw(photo(), **bearer), 201)  # nobody else took its key


def test_a_page_of_another_site_sends_no_image(own: Path, photo: Photo) -> None:
    with running(own) as receiver:
        for header, value in (
            ("Origin", "https://evil.example"), ("Sec_Fetch_Site", "cross-site"),
        ):  # fmt: skip
            check(receiver.post_raw(photo(), **{header: value}), 403, "forbidden")
        check(receiver.post_raw(photo(), Sec_Fetch_Site="same-origin"), 201)
        check(receiver.get("/images/" + "a" * 6000), 404)
        refused = [e for e in receiver.events if e["event"] == "request.refused"]
        assert max(len(event["path"]) for event in refused) == 200
