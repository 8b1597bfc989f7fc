"""The stand-in: as strict as S3 about checksums and conditions, and it keeps what it answered."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dev.s3_local.__main__ import s3_local
from dev.s3_local.faults import Act, Fault, Script, ScriptError, once, parse
from dev.s3_local.folder import Contents, Folder, FolderInUse, Record
from dev.s3_local.local import StrictS3
from tests.support.s3_server import Place, client_for, environment, strict_place
from tests.support.wait import join
from uploader.wire.http import HttpRequest

BODY = b"the bytes of an image" * 1000
SHA256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
SIGNED = "AWS4-HMAC-SHA256 Credential=x/20261123/us-east-1/s3/aws4_request, Signature=any"
WRONG = base64.b64encode(hashlib.sha256(b"other").digest()).decode()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with strict_place(tmp_path_factory.mktemp("s3")) as found:
        yield found


def put(
    place: Place, key: str, body: bytes = BODY, **headers: str
) -> tuple[int, dict[str, str], str]:
    """One PUT with exactly these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named["Authorization"] = SIGNED
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"))
    with contextlib.closing(connection):
        connection.request("PUT", f"/{place.bucket}/{quote(key)}", body=body, headers=named)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("x-amz-content-sha256", hashlib.sha256(BODY).hexdigest()),
        ("x-amz-checksum-sha256", SHA256),
        ("x-amz-checksum-crc32", CRC32),
        ("Content-MD5", MD5),
    ],
)
@pytest.mark.parametrize("wrong", ["other", "short", "garbage", None])
def test_every_promised_digest_is_checked(
    place: Place, header: str, right: str, wrong: str | None
) -> None:
    key = f"digest/{header}/{wrong}"
    value = {
        "other": "AAAAAA=="
        if "crc" in header
        else base64.b64encode(b"0" * (16 if "MD5" in header else 32)).decode(),
        "short": "AAA=",
        "garbage": "not base64!",
        None: right,
    }[wrong]
    status, headers, text = put(place, key, BODY, **{header.replace("-", "_"): value})
    if wrong is None:
        assert status == 200
        assert headers["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
        return
    assert status == 400
    assert any(code in text for code in ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"))
    assert key not in place.names()


def test_the_sha256_is_reported_back_by_put_head_and_get(place: Place) -> None:
    status, headers, _ = put(place, "echo", x_amz_checksum_sha256=SHA256)
    assert (status, headers["x-amz-checksum-sha256"]) == (200, SHA256)
    for ask in (place.client.head_object, place.client.get_object):
        answer = ask(Bucket=place.bucket, Key="echo", ChecksumMode="ENABLED")
        assert answer["ChecksumSHA256"] == SHA256
        if "Body" in answer:
            answer["Body"].close()


def test_a_server_without_sha256_neither_checks_nor_reports_it(tmp_path: Path) -> None:
    with strict_place(tmp_path, echo_sha256=False) as place:
        status, headers, _ = put(place, "k", x_amz_checksum_sha256=WRONG)
        assert (status, "x-amz-checksum-sha256" in headers) == (200, False)
        assert put(place, "k2", Content_MD5=base64.b64encode(b"0" * 16).decode())[0] == 400
        head = place.client.head_object(Bucket=place.bucket, Key="k", ChecksumMode="ENABLED")
        assert "ChecksumSHA256" not in head


def test_a_condition_holds_for_one_and_for_many_at_once(place: Place) -> None:
    for number in range(5):
        start = threading.Barrier(8)

        def attempt(writer: int) -> int:
            start.wait(60)  # noqa: B023
            body = bytes([writer]) * 50_000
            return put(place, f"race/{number}", body, If_None_Match="*")[0]  # noqa: B023

        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(attempt, range(8)))
        assert statuses == [200] + [412] * 7
        kept = place.read(f"race/{number}")
        assert len(kept) == 50_000
        assert len(set(kept)) == 1


def test_of_many_that_replace_each_other_one_is_kept_whole(place: Place) -> None:
    def attempt(writer: int) -> int:
        return put(place, "replaced-often", bytes([writer]) * (1000 + writer))[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(attempt, range(200))) == {200}
    assert place.strict is not None
    answer = place.client.get_object(Bucket=place.bucket, Key="replaced-often")
    with contextlib.closing(answer["Body"]) as body:
        kept = body.read()
    assert answer["ETag"] == f'"{hashlib.md5(kept).hexdigest()}"'
    assert len(kept) == 1000 + kept[0]
    folder = place.strict.shelf.folder
    records = [record for _, record in folder.load(place.bucket) if record.key == "replaced-often"]
    assert [(record.size, record.etag) for record in records] == [
        (len(kept), hashlib.md5(kept).hexdigest())
    ]


def test_a_body_that_ends_early_is_not_stored(place: Place) -> None:
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"))
    connection.putrequest("PUT", f"/{place.bucket}/short")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"only this")
    connection.close()
    assert put(place, "after")[0] == 200
    assert "short" not in place.names()


def request(place: Place, key: str, body: bytes) -> bytes:
    """A PUT as the drain writes it, head and body."""
    sha256 = hashlib.sha256(body).hexdigest()
    access = place.sender().access
    wanted = {"Content-Length": str(len(body)), "If-None-Match": "*"}
    signed = access.sign("PUT", key, {**wanted, "Content-Type": "image/jpeg"}, sha256)
    return HttpRequest("PUT", access.path(key), signed, body).head + body


def said_to(place: Place, sent: bytes) -> bytes:
    """What the server answers to a client that sends this and is killed; it has let go by then."""
    with socket.create_connection(("127.0.0.1", port_of(place)), timeout=120) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as answer, contextlib.suppress(ConnectionError):
            return answer.read()
    return b""


def port_of(place: Place) -> int:
    assert place.strict is not None
    return place.strict.server.port


@pytest.mark.parametrize("there", [False, True], ids=["absent", "there"])
def test_of_a_request_that_is_cut_anywhere_nothing_is_stored(place: Place, there: bool) -> None:
    key = f"cut/{there}"
    whole = request(place, key, BODY[:20])
    if there:
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"was there")
    for end in range(len(whole)):
        assert said_to(place, whole[:end]) == b"", f"a request cut after {whole[:end]!r}"
    if there:
        assert place.read(key) == b"was there"
        return
    assert key not in place.names()
    assert said_to(place, whole).startswith(b"HTTP/1.1 200 ")
    assert place.read(key) == BODY[:20]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("", 411),
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Content-Length: \r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: gzip\r\n", 400),
    ],
)
def test_a_put_without_one_plain_length_is_refused(place: Place, fields: str, status: int) -> None:
    head = f"PUT /{place.bucket}/unmeasured HTTP/1.1\r\nAuthorization: {SIGNED}\r\n{fields}\r\n"
    assert said_to(place, f"{head}image".encode()).startswith(b"HTTP/1.1 %d " % status)
    assert "unmeasured" not in place.names()


def test_a_disk_that_refuses_is_an_error_of_the_server_and_stores_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dev.s3_local.folder.Draft.write", full)
        status, _, text = put(place, "full")
    assert (status, "InternalError" in text) == (500, True)
    assert "No space left on device" in capsys.readouterr().err
    assert "full" not in place.names()
    assert put(place, "full")[0] == 200


@pytest.mark.parametrize("there", [False, True], ids=["absent", "there"])
@pytest.mark.parametrize("step", ["os.rename", "asdict"], ids=["its name", "its trailer"])
def test_what_cannot_be_kept_is_not_seen_either(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    there: bool,
) -> None:
    key = f"unkept/{step}/{there}"
    if there:
        assert put(place, key, b"was there")[0] == 200

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"dev.s3_local.folder.{'os.rename' if step == 'rename' else 'asdict'}", full)
        assert put(place, key)[0] == 500
    assert "No space left on device" in capsys.readouterr().err
    if there:
        assert place.read(key) == b"was there"
    else:
        assert key not in place.names()
        assert put(place, key, If_None_Match="*")[0] == 200
        assert place.read(key) == BODY
    assert place.strict is not None
    assert not list(place.strict.shelf.folder.path.rglob("*.part"))


CHUNKS = b"%x;chunk-signature=0\r\n%s\r\n0\r\n" % (len(BODY), BODY)
TRAILER = f"x-amz-checksum-sha256: {SHA256}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("body", "decoded", "code"),
    [
        (CHUNKS + TRAILER, len(BODY), ""),
        (CHUNKS + b"\r\n", len(BODY), ""),
        (CHUNKS + TRAILER, len(BODY) - 1, "IncompleteBody"),
        (CHUNKS + TRAILER.replace(SHA256.encode(), WRONG.encode()), len(BODY), "BadDigest"),
        (CHUNKS[:-5] + TRAILER, len(BODY), "IncompleteBody"),
        (CHUNKS[:-3], len(BODY), "IncompleteBody"),
        (CHUNKS, len(BODY), "IncompleteBody"),
        (CHUNKS[:100], len(BODY), "IncompleteBody"),
        (CHUNKS + TRAILER + b"more", len(BODY), "IncompleteBody"),
        (b"", len(BODY), "IncompleteBody"),
        (BODY, len(BODY), "IncompleteBody"),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_s3s_own_chunks_are_taken_off_and_checked(
    place: Place, body: bytes, decoded: int, code: str, signed: bool
) -> None:
    key = f"chunks/{signed}/{hashlib.sha256(body).hexdigest()}/{decoded}"
    kind = "AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if signed else "UNSIGNED-PAYLOAD-TRAILER"
    status, _, text = put(
        place,
        key,
        body,
        x_amz_content_sha256=f"STREAMING-{kind}",
        x_amz_decoded_content_length=str(decoded),
        Content_Encoding="aws-chunked",
    )
    if code:
        assert (status, f"<Code>{code}</Code>" in text) == (400, True), text
        assert key not in place.names()
        return
    assert status == 200, text
    assert place.read(key) == BODY


@pytest.mark.parametrize("end", [0, 1, 5, 100, -6, -3, -1])
def test_of_a_body_in_chunks_that_is_cut_nothing_is_stored(place: Place, end: int) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHUNKS + TRAILER), CHUNKS + TRAILER)
    head = (
        f"PUT /{place.bucket}/cut-chunks HTTP/1.1\r\nAuthorization: {SIGNED}\r\n"
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n"
        f"x-amz-decoded-content-length: {len(BODY)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert said_to(place, head.encode() + body[:end]) == b""
    assert "cut-chunks" not in place.names()
    whole = head.replace("cut-chunks", f"whole-chunks{end}").encode() + body
    assert said_to(place, whole).startswith(b"HTTP/1.1 200 ")
    assert place.read(f"whole-chunks{end}") == BODY


def test_many_requests_share_a_connection(place: Place) -> None:
    connection = http.client.HTTPConnection(place.url.removeprefix("http://"))
    with contextlib.closing(connection):
        local = set()
        for number in range(20):
            connection.request("PUT", f"/{place.bucket}/alive/{number}", body=BODY)
            connection.getresponse().read()
            local.add(connection.sock.getsockname())
            connection.request("HEAD", f"/{place.bucket}/alive/{number}")
            connection.getresponse().read()
        assert len(local) == 1


def everything(place: Place) -> dict[str, tuple[Any, ...]]:
    """Every object as a client sees it."""
    seen = {}
    for key in place.names():
        answer = place.client.get_object(Bucket=place.bucket, Key=key, ChecksumMode="ENABLED")
        with contextlib.closing(answer["Body"]) as body:
            seen[key] = (
                body.read(),
                answer["ContentType"],
                answer["Metadata"],
                answer["ETag"],
                answer["LastModified"],
                answer.get("ChecksumSHA256"),
            )
    return seen


def fill(place: Place) -> None:
    """Objects made in every way, and some deleted or replaced again."""
    client, bucket = place.client, place.bucket
    for number in range(5):
        put(
            place,
            f"Küche {number}/é.jpg",
            os.urandom(10_000),
            Content_Type="image/jpeg",
            x_amz_meta_file_name="K%C3%BCche",
        )
    put(place, "with-checksum", x_amz_checksum_sha256=SHA256)
    put(place, "empty", b"")
    client.put_object(Bucket=bucket, Key="by-boto3", Body=BODY, ContentType="text/plain")
    client.copy_object(Bucket=bucket, Key="copied", CopySource=f"{bucket}/by-boto3")
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts", ContentType="image/png")
    part = {"Bucket": bucket, "Key": "parts", "UploadId": upload["UploadId"]}
    done = []
    for number, size in ((1, 5 * 1024 * 1024), (2, 1000)):
        answer = client.upload_part(PartNumber=number, Body=os.urandom(size), **part)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(MultipartUpload={"Parts": done}, **part)
    for key in ("replaced", "deleted", "deleted-too"):
        put(place, key, b"first")
    put(place, "replaced", b"second")
    client.delete_object(Bucket=bucket, Key="deleted")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "deleted-too"}]})


def test_every_object_reads_back_identical_after_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with strict_place(tmp_path, bucket="restarted", folder=folder) as place:
        fill(place)
        before = everything(place)
    for _ in range(2):
        with strict_place(tmp_path, bucket="restarted", folder=folder) as place:
            assert everything(place) == before
            put(place, "replaced", b"third")
            put(place, "replaced", b"second")
            before = everything(place)
    assert {"copied", "parts", "empty", "by-boto3"} <= set(before)
    assert before["replaced"][0] == b"second"
    assert not {"deleted", "deleted-too"} & set(before)
    assert len([path for path in folder.rglob("*") if path.is_file()]) == len(before) + 1  # lock


def kept(folder: Path, bucket: str) -> dict[str, bytes]:
    """What a stand-in finds that starts with this folder; nothing in it is damaged."""
    found = Folder(folder)
    try:
        objects = {
            record.key: Contents(str(path), record.size, record.sha256).read()
            for path, record in found.load(bucket)
        }
    finally:
        found.close()
    assert found.damaged == []
    return objects


def a_file_as_bytes(folder: Path) -> bytes:
    """A whole file of a stand-in, of an object "foreign": an image may look like that, too."""
    other = Folder(folder)
    with contextlib.closing(other):
        draft = other.draft("other")
        draft.write(b"foreign")
        draft.commit(Record("foreign", 7, draft.md5.hex(), 0.0, {}, sha256=draft.sha256.hex()))
    return draft.path.read_bytes()


def test_a_kill_at_any_step_leaves_what_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, bucket = tmp_path / "kept", "any-step"
    states: list[Path] = []  # the folder as a kill would leave it, a copy for each step

    def look() -> None:
        states.append(tmp_path / f"state-{len(states)}")
        shutil.copytree(folder, states[-1])

    def in_two(fd: int, data: bytes) -> None:
        half = len(data) // 2
        for piece in (data[:half], data[half:]):
            os.write(fd, piece)
            look()

    def then_look(real: Callable[..., None]) -> Callable[..., None]:
        def does(*given: Any) -> None:
            real(*given)
            look()

        return does

    disguised = a_file_as_bytes(tmp_path / "other")
    upload, other = b"u" * 3000, hashlib.sha256(BODY).digest() * 100
    with strict_place(tmp_path, bucket=bucket, folder=folder) as place:
        monkeypatch.setattr("dev.s3_local.folder._write", in_two)
        for name in ("rename", "unlink"):
            monkeypatch.setattr(f"dev.s3_local.folder.os.{name}", then_look(getattr(os, name)))
        client = place.client

        def delete(key: str) -> None:
            client.delete_object(Bucket=bucket, Key=key)

        def copy() -> None:
            client.copy_object(Bucket=bucket, Key="copied", CopySource=f"{bucket}/first")

        steps: list[tuple[str, bytes | None, Callable[[], Any]]] = [
            ("first", BODY, lambda: put(place, "first")),
            ("empty", b"", lambda: put(place, "empty", b"")),
            ("a file", disguised, lambda: put(place, "a file", disguised)),
            ("second", upload, lambda: put(place, "second", upload)),
            ("second", other, lambda: put(place, "second", other)),
            ("copied", BODY, copy),
            ("first", None, lambda: delete("first")),
            ("first", upload, lambda: put(place, "first", upload, If_None_Match="*")),
        ]
        answered: dict[str, bytes] = {}
        for key, body, step in steps:
            seen = len(states)
            step()
            after = {**answered, key: body} if body is not None else answered.copy()
            if body is None:
                del after[key]
            assert len(states) > seen
            for state in states[seen:]:
                assert kept(state, bucket) in (answered, after), f"{state}: {key}"
            answered = after
            assert {name: place.read(name) for name in place.names()} == answered
    assert kept(folder, bucket) == answered


def a_file_of(place: Place) -> Path:
    assert place.strict is not None
    (path,) = [path for path, _ in place.strict.shelf.folder.load(place.bucket)]
    return path


@pytest.mark.parametrize("damage", ["another byte", "cut", "empty", "longer"])
def test_an_object_that_is_damaged_is_never_served(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, bucket = tmp_path / "kept", f"damaged-{damage.replace(' ', '-')}"
    with strict_place(tmp_path, bucket=bucket, folder=folder) as place:
        assert put(place, "k")[0] == 200
        path = a_file_of(place)
        data = path.read_bytes()
        path.write_bytes(
            {
                "another byte": data[:100] + b"?" + data[101:],
                "cut": data[: len(BODY) // 2],
                "empty": b"",
                "longer": data[:100] + b"?" + data[100:],
            }[damage]
        )
        with pytest.raises(ClientError, match="InternalError"):
            place.read("k")
        assert "other bytes than were stored" in capsys.readouterr().err
    with strict_place(tmp_path, bucket=bucket, folder=folder) as place:
        assert place.names() == []
        assert place.strict is not None
        assert [path.suffix for path in place.strict.damaged] == [".damaged"]
        assert put(place, "k", If_None_Match="*")[0] == 200
        assert place.read("k") == BODY
    with strict_place(tmp_path, bucket=bucket, folder=folder) as place:
        assert place.read("k") == BODY
        assert place.strict is not None
        assert place.strict.damaged == ()


@pytest.mark.slow
def test_a_killed_server_has_lost_nothing_that_it_answered(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dev.s3_local", "--bind", "127.0.0.1:0"]
    command += ["--dir", str(tmp_path / "kept"), "--bucket", "killed"]
    answered: dict[str, bytes] = {}
    for round_ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process, process.stdout:
            line = process.stdout.readline()
            assert "not S3" in line
            url = line.split()[4].rstrip(",")
            killer = threading.Timer(0.3, process.send_signal, (signal.SIGKILL,))
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            with (
                contextlib.closing(connection),
                contextlib.suppress(OSError, http.client.HTTPException),
            ):
                for number in range(10_000):
                    key, body = f"{round_}/{number}", os.urandom(20_000)
                    connection.request("PUT", f"/killed/{key}", body=body)
                    answer = connection.getresponse()
                    if answer.status == 200:
                        answered[key] = body
                    if not number:  # it is at work, however busy the machine
                        killer.start()
                    answer.read()
            join(killer)
    with StrictS3(bucket="killed", folder=tmp_path / "kept") as strict:
        objects = strict.objects()
    assert len(answered) >= 3
    assert all(objects[key] == body for key, body in answered.items())
    assert len(objects) - len(answered) <= 3  # stored, but killed before the answer


def test_a_torn_file_is_removed_and_the_rest_kept(tmp_path: Path) -> None:
    with strict_place(tmp_path, bucket="torn", folder=tmp_path / "kept") as place:
        put(place, "one")
        put(place, "two")
    newest = max(path for path in (tmp_path / "kept" / "torn").rglob("*") if path.is_file())
    os.truncate(newest, newest.stat().st_size - 1)
    with strict_place(tmp_path, bucket="torn", folder=tmp_path / "kept") as place:
        assert place.names() == ["one"]
    assert not newest.exists()


def test_one_folder_belongs_to_one_stand_in(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(FolderInUse):
        Folder(tmp_path)
    folder.close()
    Folder(tmp_path).close()


def test_buckets_come_and_go(tmp_path: Path) -> None:
    with strict_place(tmp_path, folder=tmp_path / "kept", bucket="first-one") as place:
        place.client.create_bucket(Bucket="second-one")
        place.client.put_object(Bucket="second-one", Key="k", Body=b"x")
        place.client.create_bucket(Bucket="third-one")
        place.client.delete_bucket(Bucket="third-one")
        with pytest.raises(ClientError):
            place.client.put_object(Bucket="no-such-one", Key="k", Body=b"x")
    with strict_place(tmp_path, folder=tmp_path / "kept", bucket="first-one") as place:
        names = [bucket["Name"] for bucket in place.client.list_buckets()["Buckets"]]
        assert {"first-one", "second-one"} <= set(names)
        assert "third-one" not in names
        assert place.client.head_object(Bucket="second-one", Key="k")["ContentLength"] == 1


def test_boto3_can_use_it_over_tls(tmp_path: Path) -> None:
    with strict_place(tmp_path, tls=True) as place:
        place.client.put_object(Bucket=place.bucket, Key="k", Body=BODY, ChecksumAlgorithm="SHA256")
        assert place.read("k") == BODY


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--bind", "0.0.0.0:0"], 2, "loopback"),
        (["--bind", "192.168.1.5:80"], 2, "loopback"),
        (["--bind", "nonsense"], 2, "not an address"),
    ],
)
def test_the_command_listens_on_loopback_only(arguments: list[str], code: int, words: str) -> None:
    result = CliRunner().invoke(s3_local, arguments)
    assert result.exit_code == code
    assert words in result.output


def test_a_taken_port_names_its_fix(tmp_path: Path, place: Place) -> None:
    address = place.url.removeprefix("http://")
    result = CliRunner().invoke(s3_local, ["--bind", address, "--dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{address} is taken" in result.output
    assert "--bind" in result.output


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_it_ends_cleanly_when_asked(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "faults.txt"
    script.write_text("PUT 1 status 500 InternalError  # the first one\n")
    command = [sys.executable, "-m", "dev.s3_local", "--bind", "127.0.0.1:0"]
    command += ["--dir", str(tmp_path / "kept"), "--faults", str(script)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None and process.stderr is not None
    with process:
        url = process.stdout.readline().split()[4].rstrip(",")
        with environment(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y"):
            with contextlib.closing(client_for(url)) as client:
                with pytest.raises(ClientError, match="InternalError"):
                    client.put_object(Bucket="images", Key="k", Body=b"x")
                client.put_object(Bucket="images", Key="k", Body=b"x")
                process.send_signal(number)
                assert process.wait(120) == 0
        assert process.stderr.read() == ""


def test_a_script_is_read_line_by_line() -> None:
    text = """
        # a comment
        PUT 3 reset-midway
        PUT /10 status 503 SlowDown   # every tenth
        HEAD 2-5 status 403 AccessDenied
        PUT 7- slow 1.5s
        GET * status-late 500
    """
    assert [
        (fault.method, fault.first, fault.last, fault.every, fault.act, fault.status, fault.code)
        for fault in parse(text)
    ] == [
        ("PUT", 3, 3, 1, Act.RESET_MIDWAY, 503, "SlowDown"),
        ("PUT", 1, None, 10, Act.STATUS, 503, "SlowDown"),
        ("HEAD", 2, 5, 1, Act.STATUS, 403, "AccessDenied"),
        ("PUT", 7, None, 1, Act.SLOW, 503, "SlowDown"),
        ("GET", 1, None, 1, Act.STATUS_LATE, 500, "SlowDown"),
    ]
    assert parse(text)[3].seconds == 1.5


@pytest.mark.parametrize("line", ["PUT", "PUT 1 explode", "PATCH 1 reset", "PUT 1 slow soon"])
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ScriptError, match="line 2"):
        parse(f"\n{line}\n")


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 7))
def test_a_fault_strikes_exactly_where_it_says(first: int, more: int, every: int) -> None:
    fault = Fault(Act.RESET, first=first, last=first + more, every=every)
    script = Script([fault, once(Act.SLOW, 3)])
    struck = [n for n in range(1, 120) if script.fate("PUT", "k") is fault]
    assert struck == [n for n in range(first, first + more + 1) if n % every == 0]
    assert script.fate("HEAD", "k") is None
    assert (script.seen("PUT"), script.seen("HEAD")) == (119, 1)


def test_a_fault_may_look_at_the_key() -> None:
    script = Script([Fault(Act.RESET, when=lambda key: key.startswith("bad/"))])
    assert script.fate("PUT", "good/1") is None
    assert script.fate("PUT", "bad/1") is not None
