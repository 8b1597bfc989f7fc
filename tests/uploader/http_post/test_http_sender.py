"""What the sender for HTTP makes of each answer, by a server that follows scripts."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from headgate.spool.image.image import Presence
from tests.support.images import picture
from tests.support.posting import posted, settings_for
from tests.support.s3_server import PATIENT, CountingPacer
from tests.support.scripted_server import read_request, server
from uploader.destination.contract import Stored, Upload
from uploader.http_post.client import HttpSender
from uploader.http_post.errors import RULES
from uploader.http_post.probe import look
from uploader.wire.errors import ErrorKind, SendError


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "image.jpg"
    path.write_bytes(picture(3000))
    return posted(path, "cam-07", captured_at="2026-11-23T16:04:05Z", sequence=7,
                  tags={"raum": "Küche, links"}, file_name="Küche 1.jpg", urgent=True)  # fmt: skip


def answer(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> bytes:
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in named.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


def receipt(upload: Upload, **more: Any) -> dict[str, Any]:
    return {
        "id": "there-1", "sha256": upload.sha256, "size": upload.size, "state": "waiting",
        "safe_to_erase": False, "idempotency_key": upload.key,
        "received_at": "2026-11-23T17:00:00Z", **more,
    }  # fmt: skip


class Scripted:
    """A server that gives these answers, one a connection, and the requests that it got."""

    def __init__(self, *answers: bytes, **settings: Any) -> None:
        self.requests: list[bytes] = []
        self._scripts = [self._script(one) for one in answers]
        self._settings = settings

    def _script(self, said: bytes) -> Callable[[socket.socket], None]:
        def serve(sock: socket.socket) -> None:
            self.requests.append(read_request(sock))
            sock.sendall(said)

        return serve

    def ask(self, question: Callable[[HttpSender], Any]) -> Any:
        with server(*self._scripts) as port:
            settings = settings_for(
                f"http://127.0.0.1:{port}/in/images", "hg_secret", **self._settings
            )
            sender = HttpSender(settings, CountingPacer(), timeouts=PATIENT)
            with closing(sender):
                return question(sender)

    def refused(self, question: Callable[[HttpSender], Any]) -> SendError:
        with pytest.raises(SendError) as caught:
            self.ask(question)
        return caught.value


def test_a_form_says_everything_and_is_digested_as_a_whole(upload: Upload) -> None:
    scripted = Scripted(answer(201, receipt(upload)), field="photo")
    sent = scripted.ask(lambda sender: sender.send(upload))
    head, _, body = scripted.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /in/images HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["Authorization"] == "Bearer hg_secret"
    assert headers["Idempotency-Key"] == upload.key
    assert headers["X-Device"] == "cam-07" and headers["X-Priority"] == "urgent"
    assert int(headers["Content-Length"]) == len(body)
    whole = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert headers["Content-Digest"] == f"sha-256=:{whole}:"
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[-1] == b"--\r\n"
    said = {}
    for part in parts[1:-1]:
        top, _, value = part.partition(b"\r\n\r\n")
        said[top.partition(b'name="')[2].partition(b'"')[0].decode()] = value[:-2], top.decode()
    assert said["photo"][0] == upload.path.read_bytes()
    assert 'filename="Küche 1.jpg"' in said["photo"][1]
    assert "Content-Type: image/jpeg" in said["photo"][1]
    texts = {name: value.decode() for name, (value, _) in said.items() if name != "photo"}
    assert texts["device"] == "cam-07" and texts["sequence"] == "7"
    assert texts["captured_at"] == "2026-11-23T16:04:05Z"
    assert texts["received_at"].startswith("2026-11-23T16:04:05")
    assert json.loads(texts["tags"])["raum"] == "Küche, links"
    assert (sent.key, sent.bucket) == ("there-1", scripted_url(headers))
    assert base64.b64decode(sent.sha256).hex() == upload.sha256


def scripted_url(headers: dict[str, str]) -> str:
    return f"http://{headers['Host']}/in/images"


def test_a_raw_body_is_the_image_alone(upload: Upload) -> None:
    scripted = Scripted(answer(200, receipt(upload)), field="")
    scripted.ask(lambda sender: sender.send(upload))
    head, _, body = scripted.requests[0].partition(b"\r\n\r\n")
    assert body == upload.path.read_bytes()
    digest = base64.b64encode(bytes.fromhex(upload.sha256)).decode()
    assert f"Content-Digest: sha-256=:{digest}:".encode() in head
    assert b"filename*=UTF-8''K%C3%BCche%201.jpg" in head


@pytest.mark.parametrize(
    "broken",
    [
        {"sha256": "0" * 64}, {"size": 1}, {"idempotency_key": "another"}, {"id": ""},
    ],
)  # fmt: skip
def test_the_receipt_of_another_image_proves_nothing(
    upload: Upload, broken: dict[str, Any]
) -> None:
    scripted = Scripted(answer(201, receipt(upload) | broken))
    error = scripted.refused(lambda sender: sender.send(upload))
    assert (error.kind, error.code) == (ErrorKind.TRANSIENT, "not-confirmed")
    assert error.unknown and error.refusal


@pytest.mark.parametrize("body", [b"", b"ok", b"<html>Log in</html>", b"[]", b"{}"])
def test_a_status_proves_nothing_unless_a_setting_says_so(upload: Upload, body: bytes) -> None:
    error = Scripted(answer(200, body)).refused(lambda sender: sender.send(upload))
    assert (error.kind, error.code) == (ErrorKind.FATAL, "no-receipt")
    assert "destination.proof" in error.message
    by_status = Scripted(answer(204 if not body else 200, body), proof="status")
    sent = by_status.ask(lambda sender: sender.send(upload))
    assert sent.key == upload.key and sent.sha256 == ""


@pytest.mark.parametrize("state", ["lost", "discarded"])
def test_an_image_that_is_lost_there_is_not_there(upload: Upload, state: str) -> None:
    lost = answer(200, receipt(upload, state=state, duplicate=True))
    error = Scripted(lost).refused(lambda sender: sender.send(upload))
    assert (error.kind, error.code) == (ErrorKind.PERMANENT, "gone-there")
    stored = Stored("there-1", upload.size, upload.sha256, "")
    assert Scripted(lost).ask(lambda sender: sender.see(stored)) is Presence.GONE


def test_safe_to_erase_is_awaited_where_that_is_set(upload: Upload) -> None:
    there = answer(200, receipt(upload))
    safe = answer(200, receipt(upload, state="uploaded", safe_to_erase=True))
    error = Scripted(there, await_safe=True).refused(lambda sender: sender.send(upload))
    assert error.held and error.unknown and not error.refusal
    assert Scripted(safe, await_safe=True).ask(lambda sender: sender.find(upload)) is not None
    stored = Stored("there-1", upload.size, upload.sha256, "")
    for said, seen in ((there, Presence.UNKNOWN), (safe, Presence.THERE)):
        assert Scripted(said, await_safe=True).ask(lambda sender: sender.see(stored)) is seen


NO_RECEIPT = answer(404, {"code": "no_receipt", "retry": False})


@pytest.mark.parametrize("status", [409, 412])
def test_held_already_is_settled_by_asking(upload: Upload, status: int) -> None:
    scripted = Scripted(answer(status), answer(200, receipt(upload)))
    assert scripted.ask(lambda sender: sender.send(upload)).key == "there-1"
    question = scripted.requests[1].decode()
    assert question.startswith(f"GET /in/images/{upload.sha256} ")
    assert f"Idempotency-Key: {upload.key}" in question and "X-Device: cam-07" in question
    absent = Scripted(answer(status), NO_RECEIPT)
    error = absent.refused(lambda sender: sender.send(upload))
    assert (error.kind, error.unknown, error.refusal) == (ErrorKind.TRANSIENT, True, True)


def test_a_key_of_another_image_sets_aside_and_overwrites_nothing(upload: Upload) -> None:
    scripted = Scripted(answer(409, {"code": "key_conflict", "retry": False}), NO_RECEIPT)
    error = scripted.refused(lambda sender: sender.send(upload))
    assert (error.kind, error.code, error.refusal) == (
        ErrorKind.PERMANENT, "different-object", True,
    )  # fmt: skip


def test_without_receipts_a_server_may_name_what_it_has(upload: Upload) -> None:
    def length(size: int) -> bytes:
        return f"HTTP/1.1 200 Yes\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()

    named = Scripted(answer(409, Location="/got/7"), length(upload.size), proof="status")
    assert named.ask(lambda sender: sender.send(upload)).key == "/got/7"
    assert named.requests[1].startswith(b"HEAD /got/7 ")
    other = Scripted(answer(409, Location="/got/7"), length(1), proof="status")
    assert other.refused(lambda sender: sender.send(upload)).refusal
    elsewhere = Scripted(answer(409, Location="http://other.example/7"), proof="status")
    assert elsewhere.refused(lambda sender: sender.send(upload)).refusal
    assert len(elsewhere.requests) == 1


def test_a_redirect_is_not_followed(upload: Upload) -> None:
    scripted = Scripted(answer(307, Location="https://other.example/images"))
    error = scripted.refused(lambda sender: sender.send(upload))
    assert error.kind is ErrorKind.FATAL and "https://other.example/images" in error.message
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("status", "problem", "kind", "refusal", "slow_down"),
    [
        (401, {"code": "unauthorized"}, "fatal", True, False),
        (403, {}, "fatal", True, False),
        (404, {}, "fatal", True, False),
        (413, {"code": "too_large", "retry": False}, "permanent", True, False),
        (415, {}, "permanent", True, False),
        (422, {"code": "digest_mismatch", "retry": True}, "transient", True, False),
        (422, {"code": "unheard_of", "retry": True}, "transient", True, False),
        (429, {"code": "too_many_requests", "retry": True}, "transient", False, True),
        (500, {}, "transient", False, False),
        (503, {}, "transient", False, True),
        (503, {"code": "disk_trouble", "retry": True}, "transient", True, False),
        (507, {"code": "disk_full", "retry": True}, "transient", True, False),
        (599, {}, "transient", True, False),
    ],
)
def test_what_each_answer_means(
    upload: Upload, status: int, problem: dict[str, Any], kind: str, refusal: bool, slow_down: bool
) -> None:
    why = {"detail": "Because\u202e of \x1b[31mthis."}
    said = problem | why if problem else b"<title>No</title>"
    error = Scripted(answer(status, said)).refused(lambda sender: sender.send(upload))
    assert (error.kind, error.refusal, error.slow_down) == (kind, refusal, slow_down)
    assert "\x1b" not in error.message and "\u202e" not in error.message
    assert error.rehash == (problem.get("code") == "digest_mismatch")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999", 3600),
        ("Mon, 23 Nov 2026 16:05:05 GMT", 60),
        ("Mon, 23 Nov 2026 16:00:00 GMT", 0),
        ("Fri, 23 Nov 2126 16:00:00 GMT", 3600),
        ("soon", 0),
        ("-5", 0),
        ("", 0),
    ],
)
def test_how_long_the_server_asks_to_be_left_alone(
    upload: Upload, said: str, seconds: float
) -> None:
    busy = answer(503, Date="Mon, 23 Nov 2026 16:04:05 GMT", Retry_After=said)
    error = Scripted(busy).refused(lambda sender: sender.send(upload))
    assert (error.wait_seconds, error.slow_down) == (seconds, True)


@pytest.mark.parametrize("wrong", ["authority", "expired", "not yet", "name", "system"])
def test_a_certificate_that_does_not_fit_stops_the_run(
    upload: Upload, tmp_path: Path, wrong: str
) -> None:
    """Before a byte of the token or of the image leaves."""
    authority, trusted = trustme.CA(), tmp_path / "ca.pem"
    (trustme.CA() if wrong == "authority" else authority).cert_pem.write_to_path(str(trusted))
    now, day = datetime.now(UTC), timedelta(days=1)
    since, until = {"expired": (-2, -1), "not yet": (1, 2)}.get(wrong, (-1, 1))
    leaf = authority.issue_cert(
        "127.0.0.2" if wrong == "name" else "127.0.0.1",
        not_before=now + since * day, not_after=now + until * day,
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(tls)
    with server(read_request, tls=tls) as port:
        bundle = {} if wrong == "system" else {"ca_bundle": str(trusted)}
        settings = settings_for(f"https://127.0.0.1:{port}/images", "hg_secret", **bundle)
        pacer = CountingPacer()
        with closing(HttpSender(settings, pacer, timeouts=PATIENT)) as sender:
            with pytest.raises(SendError) as caught:
                sender.send(upload)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.FATAL, "certificate")
    assert "destination.url" in caught.value.message
    assert "destination.ca_bundle" in caught.value.message
    assert pacer.written < 2000  # the handshake


def test_a_bundle_that_cannot_be_read_is_named(upload: Upload, tmp_path: Path) -> None:
    settings = settings_for("https://127.0.0.1:1/images", ca_bundle=str(tmp_path / "none.pem"))
    with closing(HttpSender(settings, CountingPacer(), timeouts=PATIENT)) as sender:
        with pytest.raises(SendError, match=r"correct destination\.ca_bundle"):
            sender.send(upload)


def test_no_code_stands_in_two_rows() -> None:
    codes = [code for rule in RULES for code in rule.codes]
    statuses = [status for rule in RULES for status in rule.statuses]
    assert len(codes) == len(set(codes)) and len(statuses) == len(set(statuses))


def test_a_server_that_cannot_be_asked_is_not_looked_at(upload: Upload) -> None:
    stored = Stored("x", 1, upload.sha256, "")
    error = Scripted(proof="status").refused(lambda sender: sender.see(stored))
    assert error.blind
    assert Scripted(proof="status").ask(lambda sender: sender.find(upload)) is None


def probed(*answers: bytes, by_status: bool = False, **settings: Any) -> Any:
    return Scripted(*answers, **settings).ask(
        lambda sender: look(sender, by_status=by_status, max_image=20_000_000)
    )


LIMITS = {"accepting": True, "max_image": 20_000_000, "auth": "token",
          "device": {"name": "box-1", "forward": True}}  # fmt: skip


def test_the_probe_tells_whether_images_would_be_confirmed() -> None:
    good = probed(answer(200, LIMITS), NO_RECEIPT)
    assert good.usable and not good.warnings
    assert "receipt of the Headgate" in good.notes[0]
    alone = probed(
        answer(200, LIMITS | {"device": {"name": "box-1", "forward": False}}), NO_RECEIPT
    )
    assert alone.usable and "--forward" in alone.warnings[0]
    small = probed(answer(200, LIMITS | {"max_image": 1000}), NO_RECEIPT)
    assert "receiver.max_image" in small.warnings[0]
    full = probed(answer(200, LIMITS | {"accepting": False, "reason": "disk full"}), NO_RECEIPT)
    assert "disk full" in full.warnings[0]
    for answers in (
        (answer(200, b"<html>"),),
        (answer(401, {"code": "unauthorized", "detail": "No."}),),
        (answer(200, LIMITS | {"device": None}), NO_RECEIPT),
        (answer(200, LIMITS), answer(404, b"<html>")),
        (answer(200, LIMITS), answer(200, {})),
    ):
        assert not probed(*answers).usable
    other = probed(answer(404), by_status=True, proof="status")
    assert other.usable and "No upload was tried" in other.warnings[0]
    assert not probed(answer(401), by_status=True, proof="status").usable
