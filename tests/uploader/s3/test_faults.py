"""An S3 that fails, lies and vanishes: never a false proof, and the next attempt settles it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.s3_local.faults import Act, Fault, once
from headgate.spool.site.confirmation import ProofKind
from tests.support.s3_server import CountingPacer, Place, script, strict_place, upload_of
from uploader.destination.contract import Sent, Upload
from uploader.s3.client import S3Sender
from uploader.s3.dialect import Dialect
from uploader.s3.probe import probe
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import Timeouts

PATIENT = Timeouts(connect=30, stall=30, answer=30)  # a busy machine is no fault
IMPATIENT = Timeouts(connect=30, stall=30, answer=0.3)
RAISED = {  # what the first attempt raises: kind, code, whether the outcome is unknown
    Act.STATUS: (ErrorKind.TRANSIENT, "SlowDown", False),
    Act.STATUS_LATE: (ErrorKind.TRANSIENT, "SlowDown", False),
    Act.RESET_MIDWAY: (ErrorKind.TRANSIENT, "connection-lost", None),
    Act.RESET: (ErrorKind.TRANSIENT, "connection-lost", None),
    Act.RESET_STORED: (ErrorKind.TRANSIENT, "connection-lost", True),
    Act.SILENT: (ErrorKind.UPLINK_DOWN, "timeout", True),
    Act.SILENT_STORED: (ErrorKind.UPLINK_DOWN, "timeout", True),
    Act.UNSTORED: (ErrorKind.TRANSIENT, "not-confirmed", True),
    Act.ERROR_IN_200: (ErrorKind.TRANSIENT, "InternalError", True),
}
STORED = {Act.RESET_STORED, Act.SILENT_STORED, Act.STATUS_STORED}
STORES_AND_MISREPORTS = {Act.WRONG_CHECKSUM, Act.WRONG_ETAG, Act.NO_PROOF}

both = pytest.mark.parametrize("sender", ["new", "known"], indirect=True)


@pytest.fixture(scope="module", params=["sha256", "etag"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with strict_place(
        tmp_path_factory.mktemp("s3"), echo_sha256=request.param == "sha256"
    ) as found:
        yield found


@pytest.fixture
def sender(request: pytest.FixtureRequest, place: Place) -> Iterator[S3Sender]:
    """One that knows nothing of the server yet, or what it would have learnt."""
    known = place.dialect if getattr(request, "param", "") == "known" else None
    sender = place.sender(timeouts=PATIENT, dialect=known)
    yield sender
    sender.close()


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "image.jpg"
    path.write_bytes(os.urandom(400_000))
    return upload_of(path, f"faults/{os.urandom(8).hex()}.jpg")


def settle(sender: S3Sender, upload: Upload, unknown: bool) -> Sent:
    """What the caller does next: ask if the outcome is unknown, and send if it is not there."""
    found = sender.find(upload) if unknown else None
    return found or sender.send(upload)


def check_proof(place: Place, sent: Sent, upload: Upload) -> None:
    assert place.strict is not None
    assert place.strict.objects()[upload.key] == upload.path.read_bytes()
    assert bool(sent.sha256) == place.echoes_sha256


@both
@pytest.mark.parametrize("act", sorted(RAISED))
def test_a_fault_is_raised_for_what_it_is_and_settled_next_time(
    place: Place, sender: S3Sender, upload: Upload, act: Act
) -> None:
    kind, code, unknown = RAISED[act]
    script(place, once(act))
    silent = act in (Act.SILENT, Act.SILENT_STORED)
    hasty = place.sender(timeouts=IMPATIENT, dialect=sender.dialect)
    with contextlib.closing(hasty), pytest.raises(SendError) as caught:
        (hasty if silent else sender).send(upload)
    assert (caught.value.kind, caught.value.code) == (kind, code)
    if unknown is not None:
        assert caught.value.unknown is unknown
    assert place.strict is not None
    assert (upload.key in place.strict.objects()) == (act in STORED)
    check_proof(place, settle(sender, upload, caught.value.unknown), upload)
    stored_twice = place.strict.script.seen("PUT") == 2 and act in STORED
    assert not stored_twice, "a body that had arrived was sent again"


def test_an_error_after_it_was_stored_is_unknown_if_the_status_allows_that(
    place: Place, sender: S3Sender, upload: Upload
) -> None:
    script(place, once(Act.STATUS_STORED, status=500, code="InternalError"))
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    assert caught.value.unknown
    check_proof(place, settle(sender, upload, True), upload)


def test_a_503_after_it_was_stored_is_found_by_the_condition(
    place: Place, sender: S3Sender, upload: Upload
) -> None:
    script(place, once(Act.STATUS_STORED))
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    check_proof(place, settle(sender, upload, caught.value.unknown), upload)


@both
@pytest.mark.parametrize("act", sorted(STORES_AND_MISREPORTS))
def test_a_wrong_or_missing_proof_is_settled_with_a_head(
    place: Place, sender: S3Sender, upload: Upload, act: Act
) -> None:
    script(place, once(act))
    check_proof(place, sender.send(upload), upload)
    assert place.strict is not None
    wrong_but_ignored = not place.echoes_sha256 and act is Act.WRONG_CHECKSUM
    assert place.strict.script.seen("HEAD") == (0 if wrong_but_ignored else 1)


@pytest.mark.parametrize("act", sorted(STORES_AND_MISREPORTS))
def test_without_a_head_a_wrong_or_missing_proof_is_no_proof(
    place: Place, sender: S3Sender, upload: Upload, act: Act
) -> None:
    if not place.echoes_sha256 and act is Act.WRONG_CHECKSUM:
        pytest.skip("this server reports no checksum, so it cannot report a wrong one")
    script(place, once(act), Fault(Act.STATUS, "HEAD", status=403, code="AccessDenied"))
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    assert caught.value.kind is ErrorKind.TRANSIENT
    assert caught.value.unknown


def test_a_head_that_is_refused_cannot_tell(place: Place, sender: S3Sender, upload: Upload) -> None:
    script(place, Fault(Act.STATUS, "HEAD", status=403, code="AccessDenied"))
    with pytest.raises(SendError) as caught:
        sender.find(upload)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.TRANSIENT, "403")
    assert "s3:ListBucket" in caught.value.message


def test_a_put_that_is_refused_stops_the_run(
    place: Place, sender: S3Sender, upload: Upload
) -> None:
    script(place, once(Act.STATUS, status=403, code="AccessDenied"))
    with pytest.raises(SendError) as caught:
        sender.send(upload)
    assert caught.value.kind is ErrorKind.FATAL
    assert "s3:PutObject" in caught.value.message


def test_an_early_refusal_saves_the_rest_of_the_body(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(os.urandom(20_000_000))
    pacer = CountingPacer()
    script(place, once(Act.STATUS))
    sender = place.sender(pacer, timeouts=PATIENT, dialect=place.dialect)
    with pytest.raises(SendError):
        sender.send(upload_of(path, "faults/large.jpg"))
    sender.close()
    assert pacer.written < 10_000_000


def test_a_slow_answer_is_waited_for(place: Place, sender: S3Sender, upload: Upload) -> None:
    script(place, once(Act.SLOW, seconds=0.3))
    check_proof(place, sender.send(upload), upload)


def test_missing_rights_are_named_by_the_probe(place: Place, sender: S3Sender) -> None:
    script(place, Fault(Act.STATUS, status=403, code="AccessDenied"))
    assert probe(sender, "").missing_rights == ("s3:PutObject",)
    assert not probe(sender, "").usable
    script(place, Fault(Act.STATUS, "HEAD", status=403, code="AccessDenied"))
    seen = probe(sender, "")
    assert (seen.missing_rights, seen.usable) == (("s3:GetObject",), True)
    script(
        place,
        Fault(Act.STATUS, "HEAD", first=2, status=403, code="AccessDenied"),
    )
    assert probe(sender, "").missing_rights == ("s3:ListBucket",)


def test_a_server_that_can_confirm_nothing_is_not_usable(place: Place, sender: S3Sender) -> None:
    script(place, Fault(Act.NO_PROOF))
    seen = probe(sender, "")
    assert (seen.confirmed_by, seen.usable) == ("", False)
    assert "neither" in seen.sentences[0]


def test_what_was_learnt_of_the_server_is_remembered(
    place: Place, sender: S3Sender, upload: Upload
) -> None:
    script(place)
    sender.send(upload)
    assert sender.dialect.proof is place.dialect.proof
    assert sender.clock_offset is not None
    assert abs(sender.clock_offset) < 5


def test_a_server_known_to_report_sha256_is_held_to_it(place: Place, upload: Upload) -> None:
    script(place, once(Act.NO_CHECKSUM))
    assert place.strict is not None
    sender = place.sender(dialect=place.dialect)
    check_proof(place, sender.send(upload), upload)
    assert place.strict.script.seen("HEAD") == (1 if place.echoes_sha256 else 0)
    sender.close()


def test_content_md5_is_sent_where_it_is_what_the_server_checks(
    place: Place, upload: Upload
) -> None:
    script(place)
    assert place.strict is not None
    seen: list[str | None] = []
    application = place.strict.server.application

    def watching(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            seen.append(environ.get("HTTP_CONTENT_MD5"))
        return application(environ, start)

    place.strict.server.application = watching
    sender = place.sender()
    for number in range(2):
        sender.send(replace(upload, key=f"{upload.key}-{number}"))
    sender.close()
    place.strict.server.application = application
    md5 = base64.b64encode(hashlib.md5(upload.path.read_bytes()).digest()).decode()
    assert seen == [None, None if place.echoes_sha256 else md5]


def test_what_was_remembered_wrongly_is_learnt_anew(place: Place, upload: Upload) -> None:
    script(place)
    assert place.strict is not None
    other = ProofKind.ETAG if place.echoes_sha256 else ProofKind.SHA256
    sender = place.sender(dialect=Dialect(proof=other))
    check_proof(place, sender.send(upload), upload)
    assert sender.dialect.proof is place.dialect.proof
    heads = place.strict.script.seen("HEAD")
    sender.send(replace(upload, key=f"{upload.key}-2"))
    assert place.strict.script.seen("HEAD") == heads
    sender.close()


@pytest.mark.parametrize("skew", [-1200, 1200])
def test_the_servers_clock_is_measured(place: Place, upload: Upload, skew: int) -> None:
    script(place)
    sender = S3Sender(place.settings(), CountingPacer(), now=lambda: time.time() - skew)
    sender.send(upload)
    sender.close()
    assert sender.clock_offset == pytest.approx(skew, abs=5)
