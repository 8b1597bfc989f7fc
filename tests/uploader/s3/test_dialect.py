"""What a server takes is found out, remembered, and used; what it does not take is left out."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dev.s3_local.faults import Act, once
from headgate.host.exit_codes import Exit
from headgate.settings.settings import SettingsError, combine
from headgate.spool.image.image import Presence, State
from headgate.spool.site.confirmation import PROOFS, ProofKind
from tests.support.receiver import ROOT
from tests.support.s3_dialects import BEHAVIOURS, IF_NONE_MATCH, MODE, SHA256, Behaviour, Speaking
from tests.support.s3_server import (
    PATIENT,
    CountingPacer,
    Place,
    environment,
    script,
    settings_for,
    strict_place,
)
from tests.support.scripted_server import read_request, server
from tests.support.site import FreePacer, Site
from uploader.cli.main import headgate
from uploader.destination.contract import Stored, Upload
from uploader.run import start
from uploader.s3 import client, dialect
from uploader.s3.client import S3Sender
from uploader.s3.dialect import CRC32, Dialect, Extras, IfNoneMatch, Taken
from uploader.s3.probe import BODY, probe
from uploader.wire.errors import ErrorKind, SendError

NAMED = {behaviour.name: behaviour for behaviour in BEHAVIOURS}
USABLE = [behaviour for behaviour in BEHAVIOURS if behaviour.proof is not ProofKind.NONE]


def name_of(behaviour: Behaviour) -> str:
    return behaviour.name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with strict_place(tmp_path_factory.mktemp("s3")) as found:
        yield found


def image(folder: Path, data: bytes = b"") -> Upload:
    data = data or secrets.token_bytes(2000)
    path = folder / secrets.token_hex(6)
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Upload(path, f"north/{path.name}.jpg", digest, len(data), "image/jpeg",
                  {"x-amz-meta-sha256": digest})  # fmt: skip


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=name_of)
def test_the_probe_finds_what_each_server_takes(place: Place, behaviour: Behaviour) -> None:
    speaking = Speaking(place, behaviour)
    try:
        with closing(place.sender()) as sender:
            seen = probe(sender, "")
            found = sender.dialect
    finally:
        speaking.stop()
    assert (found.sha256, found.checksum_mode) == (behaviour.sha256, behaviour.checksum_mode)
    assert (found.if_none_match, found.proof) == (behaviour.if_none_match, behaviour.proof)
    assert seen.usable == (behaviour.proof is not ProofKind.NONE), seen.sentences
    assert found.seen_at


@pytest.mark.parametrize("behaviour", USABLE, ids=name_of)
def test_after_the_probe_each_image_is_sent_in_one_put_and_confirmed(
    place: Place, behaviour: Behaviour, tmp_path: Path
) -> None:
    with closing(place.sender()) as sender:
        speaking = Speaking(place, behaviour)
        try:
            probe(sender, "")
            speaking.puts.clear()
            for _ in range(3):
                upload = image(tmp_path)
                sent = sender.send(upload)
                assert sent.key == upload.key and place.read(upload.key) == upload.path.read_bytes()
            assert len(speaking.puts) == 3
            for headers in speaking.puts:
                assert not headers.keys() & behaviour.refused.keys()
                by_crc32 = behaviour.proof is ProofKind.CRC32
                assert (CRC32 in headers) == by_crc32
                assert (SHA256 in headers) == (behaviour.sha256 and not by_crc32)
                conditional = behaviour.if_none_match is IfNoneMatch.HONOURED
                assert (IF_NONE_MATCH in headers) == conditional
                weak = behaviour.proof is not ProofKind.SHA256
                assert ("content-md5" in headers) == (weak and not by_crc32)
        finally:
            speaking.stop()


@pytest.mark.parametrize("behaviour", USABLE, ids=name_of)
def test_an_object_that_is_there_is_never_overwritten(
    place: Place, behaviour: Behaviour, tmp_path: Path
) -> None:
    upload, other = image(tmp_path), image(tmp_path, b"another image, of another length")
    with closing(place.sender()) as sender:
        speaking = Speaking(place, behaviour)
        try:
            probe(sender, "")
            sender.send(upload)
            speaking.puts.clear()
            assert sender.send(upload).key == upload.key  # it is the same image
            clash = Upload(other.path, upload.key, other.sha256, other.size, "image/jpeg",
                           other.metadata)  # fmt: skip
            with pytest.raises(SendError):
                sender.send(clash)
        finally:
            speaking.stop()
    assert place.read(upload.key) == upload.path.read_bytes()


@pytest.mark.parametrize("new", [True, False], ids=["nothing", "wrongly"])
@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(one, marks=pytest.mark.slow if number % 3 else ())
        for number, one in enumerate(one for one in USABLE if one.refused)
    ],
    ids=name_of,
)
def test_a_run_that_knows_nothing_or_wrongly_adapts_and_remembers(
    tmp_path: Path, place: Place, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """Nothing is set aside meanwhile, and the next run sends each image once."""
    monkeypatch.setattr(start, "Pacer", FreePacer)
    site = Site(tmp_path, place, new=new, uplink__parallel="2")
    speaking = Speaking(place, behaviour)
    try:
        images = site.fill(4)
        assert site.run().exit_code == Exit.OK
        assert not site.spool.catalog.in_state(State.WAITING, 1000)
        assert site.aside == []
        known = dialect.recall(site.spool.site, site.spool.settings)
        assert known is not None and known.sha256 == behaviour.sha256
        speaking.puts.clear()
        more = site.fill(3)
        done = site.run()
        assert done.exit_code == Exit.OK and len(speaking.puts) == 3
        found = site.objects()
        assert found == {**images, **more}
    finally:
        speaking.stop()
        site.server.stop()
        site.spool.close()


def test_the_first_run_finds_out_what_a_server_ignores(
    tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer to an image would tell. The second run knows it, and does not look again."""
    monkeypatch.setattr(start, "Pacer", FreePacer)
    site = Site(tmp_path, place, new=True)
    speaking = Speaking(place, NAMED["SeaweedFS 3.96"])
    try:
        images = site.fill(1)
        assert site.run().exit_code == Exit.OK
        known = dialect.recall(site.spool.site, site.spool.settings)
        assert known is not None and known.if_none_match is IfNoneMatch.IGNORED
        assert known.proof is ProofKind.ETAG and known.seen_at
        looks, speaking.methods[:] = len(speaking.methods), []
        images |= site.fill(1)
        assert site.run().exit_code == Exit.OK
        assert speaking.methods == ["HEAD", "PUT", "HEAD"]  # before, the image, seen after it
        assert looks > 6 and site.objects() == images
    finally:
        speaking.stop()
        site.server.stop()
        site.spool.close()


def test_a_server_that_changes_is_looked_at_again(place: Place, tmp_path: Path) -> None:
    """Once a run: an image that is refused for itself costs no second look."""
    looked: list[object] = []

    def learn(sender: object) -> None:
        looked.append(sender)
        probe(sender, "")  # type: ignore[arg-type]

    b2 = NAMED["Backblaze B2 (2024-07)"]
    with closing(place.sender(learn=learn)) as sender:
        sender.send(image(tmp_path))
        assert len(looked) == 1  # at the beginning nothing is known
        speaking = Speaking(place, b2)
        try:
            sender.send(image(tmp_path))  # refused, looked at, and sent again
            speaking.puts.clear()
            sender.send(image(tmp_path))
            assert len(speaking.puts) == 1
        finally:
            speaking.stop()
        refuses = Behaviour("", "", refused={"content-md5": (400, "InvalidArgument", "No.")})
        speaking = Speaking(place, refuses)
        try:
            for _ in range(2):
                with pytest.raises(SendError) as caught:
                    sender.send(image(tmp_path))
                assert caught.value.kind is ErrorKind.PERMANENT
        finally:
            speaking.stop()
    assert len(looked) == 2


def test_a_head_that_is_refused_for_its_checksum_mode_is_asked_without(
    place: Place, tmp_path: Path
) -> None:
    upload = image(tmp_path)
    with closing(place.sender()) as sender:
        sender.send(upload)
        speaking = Speaking(place, Behaviour("", "", refused={MODE: (400, "", "")}))
        try:
            assert sender.find(upload) is not None
            assert speaking.methods == ["HEAD", "HEAD"] and not sender.dialect.checksum_mode
            assert sender.find(upload) is not None
            assert speaking.methods == ["HEAD"] * 3
        finally:
            speaking.stop()


def test_head_proves_only_where_the_probe_found_that_it_may(place: Place, tmp_path: Path) -> None:
    upload = image(tmp_path)
    speaking = Speaking(place, NAMED["an ETag that is no MD5, no checksums"])
    try:
        with closing(place.sender()) as sender, pytest.raises(SendError) as caught:
            sender.send(upload)
        assert caught.value.code == "not-confirmed"
        head = Dialect(proof=ProofKind.HEAD)
        with closing(place.sender(dialect=head)) as sender:
            assert sender.find(upload) is not None
            other = Upload(upload.path, upload.key, "0" * 64, upload.size, "image/jpeg", {})
            with pytest.raises(SendError):
                sender.find(other)
    finally:
        speaking.stop()


def crc(data: bytes, polynomial: int, bits: int) -> str:
    """Bit by bit, reflected; as base64."""
    ones = (1 << bits) - 1
    value = ones
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
    return base64.b64encode((value ^ ones).to_bytes(bits // 8, "big")).decode()


def test_the_probe_learns_what_no_upload_needs(place: Place) -> None:
    """The checksums of its object are right, and no trouble with one of them is the bucket's."""
    crc32c, crc64nvme = "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme"
    for polynomial, bits, check in (
        (0x82F63B78, 32, 0xE3069283), (0x9A6C9329AC4BC9B5, 64, 0xAE8B14860A799888),
    ):  # fmt: skip
        known = base64.b64encode(check.to_bytes(bits // 8, "big")).decode()
        assert crc(b"123456789", polynomial, bits) == known
    refused = {
        crc32c: (503, "SlowDown", "Later."), crc64nvme: NAMED["OVH (2025-02)"].refused[SHA256],
        "expect": (417, "", ""), "x-amz-meta-text": (0, "", ""),
    }  # fmt: skip
    speaking = Speaking(place, Behaviour("", "", refused=refused))
    try:
        with closing(place.sender()) as sender:
            seen = probe(sender, "")
            assert seen.usable and sender.dialect.proof is ProofKind.SHA256
            assert sender.dialect.extras == Extras(
                crc32=Taken.CONFIRMED,
                crc32c=Taken.UNKNOWN,
                crc64nvme=Taken.REFUSED,
                expect_continue=Taken.REFUSED,
                unsigned_payload=Taken.TAKEN,
                utf8_metadata=Taken.UNKNOWN,
            )
        sent = {name: value for headers in speaking.puts for name, value in headers.items()}
        assert sent[crc32c] == crc(BODY, 0x82F63B78, 32)
        assert sent[crc64nvme] == crc(BODY, 0x9A6C9329AC4BC9B5, 64)
    finally:
        speaking.stop()
    with closing(place.sender()) as sender:
        probe(sender, "")
        extras = sender.dialect.extras
        assert (extras.expect_continue, extras.utf8_metadata) == (Taken.CONFIRMED, Taken.CONFIRMED)


def test_a_crc32_confirms_the_bytes_and_nothing_less(place: Place, tmp_path: Path) -> None:
    upload = image(tmp_path)
    speaking = Speaking(place, NAMED["a CRC-32 and no other digest"])
    try:
        with closing(place.sender(dialect=Dialect(proof=ProofKind.CRC32))) as sender:
            assert sender.send(upload).sha256 == "" and sender.find(upload) is not None
            assert sender.dialect.proof is ProofKind.CRC32
            place.client.put_object(
                Bucket=place.bucket, Key=upload.key, Body=bytes(upload.size),
                ChecksumAlgorithm="CRC32",
            )  # fmt: skip
            with pytest.raises(SendError) as caught:
                sender.find(upload)
            assert caught.value.code == "different-object"
            changed = image(tmp_path)
            Path(changed.path).write_bytes(bytes(changed.size))
            with pytest.raises(SendError) as caught:
                sender.send(changed)
            assert caught.value.code == "changed-before-it-left"
        blind = Behaviour("", "", ignored=frozenset({CRC32}), echoes=False, etag=lambda _: '"1"')
        speaking.stop()
        speaking = Speaking(place, blind)
        with closing(place.sender(dialect=Dialect(proof=ProofKind.CRC32))) as sender:
            with pytest.raises(SendError) as caught:
                sender.send(image(tmp_path))
            assert caught.value.code == "not-confirmed"
    finally:
        speaking.stop()


def test_a_large_image_is_held_back_where_the_server_asks_for_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal then costs the head alone. A server that takes no Expect, or falls silent, gets
    the next one at once."""
    pacer = CountingPacer()
    waits = Dialect(
        proof=ProofKind.SHA256, seen_at="2026-11-30T04:00:00+00:00",
        extras=Extras(expect_continue=Taken.CONFIRMED),
    )  # fmt: skip
    link = {"uplink": {"link": "100KB/s"}}
    settings = combine(
        {"s3": {"bucket": place.bucket, "endpoint_url": place.url, "region": "us-east-1"}, **link},
        None,
        {},
        {},
        Path.cwd(),
    )
    large, small = image(tmp_path, secrets.token_bytes(200_000)), image(tmp_path)
    with closing(S3Sender(settings, pacer, dialect=waits, timeouts=PATIENT)) as sender:
        speaking = Speaking(place, NAMED["Amazon"])
        try:
            for one in (small, large):
                sender.send(one)
            assert ["expect" in headers for headers in speaking.puts] == [False, True]
            script(place, once(Act.STATUS, status=503, code="SlowDown"))
            refused, before = image(tmp_path, secrets.token_bytes(200_000)), pacer.written
            with pytest.raises(SendError) as caught:
                sender.send(refused)
            assert caught.value.slow_down and not caught.value.unknown
            assert pacer.written - before < 2000
            assert sender.dialect.says_continue
            script(place)
            speaking.stop()
            speaking = Speaking(place, Behaviour("", "", refused={"expect": (417, "", "")}))
            assert sender.send(refused).key == refused.key
            assert sender.dialect.extras.expect_continue is Taken.REFUSED
            assert ["expect" in headers for headers in speaking.puts] == [True, False]
        finally:
            speaking.stop()
            script(place)
    monkeypatch.setattr(client, "CONTINUE_SECONDS", 0.05)
    reply = (
        'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n'
        f"x-amz-checksum-sha256: {base64.b64encode(bytes.fromhex(large.sha256)).decode()}\r\n\r\n"
    )
    heads: list[bytes] = []

    def silent(sock: socket.socket) -> None:
        for _ in range(2):
            heads.append(read_request(sock)[:2000])
            sock.sendall(reply.encode())

    with server(silent) as port:
        settings = replace(
            settings, s3=replace(settings.s3, endpoint_url=f"http://127.0.0.1:{port}")
        )
        with closing(S3Sender(settings, pacer, dialect=waits, timeouts=PATIENT)) as sender:
            for _ in range(2):
                sender.send(large)
    assert [b"Expect: 100-continue" in head for head in heads] == [True, False]


def test_small_images_are_confirmed_by_a_download_where_that_is_set(
    place: Place, tmp_path: Path
) -> None:
    """And what comes back is charged. Nothing else proves an image there."""
    pacer = CountingPacer()
    sender = S3Sender(place.settings(download_proof="100KB"), pacer, timeouts=PATIENT)
    speaking = Speaking(place, NAMED["no ETag at all"])
    try:
        with closing(sender):
            seen = probe(sender, "")
            assert seen.usable and sender.dialect.proof is ProofKind.DOWNLOAD
            assert any("s3.download_proof" in one for one in seen.sentences)
            upload = image(tmp_path, secrets.token_bytes(90_000))
            before = pacer.written
            sent = sender.send(upload)
            assert (sent.key, sent.sha256) == (upload.key, "")
            assert pacer.written - before >= 2 * upload.size
            assert sender.dialect.proof is ProofKind.DOWNLOAD
            stored = Stored(upload.key, upload.size, upload.sha256, "")
            assert sender.see(stored) is Presence.THERE
            place.client.put_object(Bucket=place.bucket, Key=upload.key, Body=bytes(upload.size))
            assert sender.see(stored) is not Presence.THERE
            with pytest.raises(SendError):
                sender.find(upload)
            large = image(tmp_path, secrets.token_bytes(110_000))
            before = pacer.written
            with pytest.raises(SendError) as caught:
                sender.send(large)
            assert caught.value.code == "not-confirmed"
            assert pacer.written - before < 2 * large.size
    finally:
        speaking.stop()
    with pytest.raises(SettingsError, match="at most 1MiB"):
        place.settings(download_proof="2MiB")
    with pytest.raises(SettingsError, match=r"set that"):
        place.settings(download_sample=10)


def test_of_large_images_a_sample_is_downloaded_where_that_is_set(
    place: Place, tmp_path: Path
) -> None:
    """The others count by the length that a HEAD finds, and by nothing less."""
    pacer = CountingPacer()
    chosen = place.settings(download_proof="50KB", download_sample=2)
    speaking = Speaking(place, NAMED["no ETag at all"])
    large = [image(tmp_path, secrets.token_bytes(60_000)) for _ in range(40)]
    in_sample = next(one for one in large if int(one.sha256[:8], 16) % 2 == 0)
    other = next(one for one in large if int(one.sha256[:8], 16) % 2)
    try:
        with closing(S3Sender(chosen, pacer, timeouts=PATIENT)) as sender:
            seen = probe(sender, "")
            assert seen.usable and sender.dialect.proof is ProofKind.SAMPLE
            assert any("nothing proves their bytes" in one for one in seen.sentences)
            for one in (in_sample, other):
                before = pacer.written
                assert sender.send(one).key == one.key
                assert (pacer.written - before >= 2 * one.size) == (one is in_sample)
                changed = bytes(one.size)
                place.client.put_object(Bucket=place.bucket, Key=one.key, Body=changed)
            with pytest.raises(SendError):
                sender.find(in_sample)
            assert sender.find(other) is not None  # what its bytes are, no one has looked
            place.client.put_object(Bucket=place.bucket, Key=other.key, Body=b"cut")
            with pytest.raises(SendError):
                sender.find(other)
    finally:
        speaking.stop()


def test_a_long_listing_is_no_endless_answer() -> None:
    keys = [f"{number:04d}-{'k' * 900}.jpg" for number in range(1000)]
    entries = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    body = f"<ListBucketResult>{entries}</ListBucketResult>".encode()
    assert len(body) > 900_000

    def lists(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s"), server(lists) as port:
        settings = settings_for(f"http://127.0.0.1:{port}", "bucket")
        with closing(S3Sender(settings, CountingPacer(), timeouts=PATIENT)) as sender:
            assert sorted(sender.listed("", "").objects) == keys


def test_what_is_remembered_reads_back_and_anything_else_is_nothing() -> None:
    known = Dialect(False, False, True, IfNoneMatch.REFUSED, ProofKind.ETAG, "2026-11-30T04:00:00")
    assert dialect.from_json(known.as_json()) == known
    assert dialect.from_json(Dialect().as_json()) == Dialect()
    older = {name: value for name, value in known.as_json().items() if name != "extras"}
    assert dialect.from_json(older) == known  # from before it was learned
    for broken in (
        None, 3, {}, {**known.as_json(), "if_none_match": "maybe"},
        {**known.as_json(), "extras": {"crc32": "maybe"}}, {**known.as_json(), "extras": 3},
    ):  # fmt: skip
        assert dialect.from_json(broken) is None


@pytest.mark.parametrize(
    ("status", "code", "about"),
    [
        (400, "InvalidArgument", True), (400, "InvalidRequest", True), (501, "", True),
        (501, "NotImplemented", True), (403, "SignatureDoesNotMatch", True),
        (400, "", False), (400, "KeyTooLongError", False), (403, "AccessDenied", False),
        (404, "NoSuchBucket", False), (503, "SlowDown", False), (409, "InvalidRequest", False),
    ],
)  # fmt: skip
def test_which_answers_may_be_about_a_header(status: int, code: str, about: bool) -> None:
    assert dialect.is_about_headers(status, code) == about


def test_the_page_about_servers_has_each_of_them_with_its_report() -> None:
    page = (ROOT / "docs" / "SERVERS.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line[:2] == "| "}
    for behaviour in BEHAVIOURS:
        if behaviour.name[0].isupper():  # the others are made up of several
            row = rows[behaviour.name]
            assert behaviour.report.split()[0].rstrip(":") in row
            assert f"| `{behaviour.proof}`" in row
    for proof, words in PROOFS.items():
        assert not proof or words in rows[f"`{proof}`"]


def test_config_check_remembers_it_and_status_and_doctor_name_it(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, place)
    site.spool.close()
    site.server.stop()
    flags = [
        f"--set={name}={value}" for name, value in {
            "spool.path": tmp_path / "spool", "site.name": "north", "s3.bucket": site.bucket,
            "s3.endpoint_url": place.url, "s3.region": "us-east-1",
        }.items()
    ]  # fmt: skip
    speaking = Speaking(place, NAMED["Backblaze B2 (2024-07)"])
    try:
        checked = CliRunner().invoke(headgate, [*flags, "config", "check"])
    finally:
        speaking.stop()
    words = PROOFS[ProofKind.ETAG]
    assert f"each image is confirmed by {words}" in checked.output, checked.output
    assert "does not take x-amz-checksum-sha256" in checked.output
    row = next(one for one in checked.output.splitlines() if one.startswith("Expect: 100"))
    assert "100 is sent" in row and "a second or more of the uplink" in row
    shown = CliRunner().invoke(headgate, [*flags, "status"])
    assert f"each image confirmed by {words} (seen 20" in shown.output, shown.output
    as_json = json.loads(CliRunner().invoke(headgate, [*flags, "status", "--json"]).output)
    assert (as_json["server"]["proof"], as_json["server"]["sha256"]) == ("etag", False)
    assert as_json["server"]["extras"]["expect_continue"] == "confirmed"


def test_a_refusal_that_passes_is_no_refusal_of_a_header(place: Place) -> None:
    """Of a busy server's 400 and 501 nothing is concluded."""
    assert place.strict is not None
    with closing(place.sender()) as sender:
        place.strict.script.replace([once(Act.STATUS, status=400, code="InvalidRequest")])
        try:
            probe(sender, "")
        finally:
            place.strict.script.replace([])
        assert sender.dialect.sha256 and sender.dialect.proof is ProofKind.SHA256
        assert not sender.dialect.wants_md5
