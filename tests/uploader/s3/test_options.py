"""S3 as people run it: classes, encryption, tags, versions, locks, as a server sees them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.settings.settings import SettingsError
from tests.support.s3_server import CountingPacer, Place, settings_for, upload_of
from uploader.destination.contract import Upload
from uploader.s3.client import S3Sender
from uploader.s3.probe import probe
from uploader.s3.request_headers import options
from uploader.wire.errors import ErrorKind, SendError


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "image.jpg"
    path.write_bytes(os.urandom(30_000))
    return upload_of(path, f"options/{os.urandom(8).hex()}.jpg")


@contextlib.contextmanager
def watched(place: Place, first: bytes = b"") -> Iterator[list[dict[str, str]]]:
    """What the server is sent: the x-amz- and MD5 headers; ``first``: its first answer, a 400."""
    assert place.strict is not None
    application, seen = place.strict.server.application, []

    def watching(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k[:5] == "HTTP_"
        }
        seen.append({"method": environ["REQUEST_METHOD"], **headers})
        if first and len(seen) == 1:
            environ["wsgi.input"].read()
            start("400 Bad Request", [("Content-Length", str(len(first)))])
            return [first]
        return application(environ, start)

    place.strict.server.application = watching
    try:
        yield seen
    finally:
        place.strict.server.application = application


def sender_with(place: Place, **section: Any) -> S3Sender:
    return S3Sender(place.settings(**section), CountingPacer())


def test_nothing_is_said_that_is_not_set() -> None:
    none = options(settings_for("http://127.0.0.1:1", "images"))
    assert none.headers("PUT") == none.headers("HEAD") == {}


def test_a_bucket_that_demands_an_acl_gets_it(place: Place, upload: Upload) -> None:
    """With each PUT, that of the probe as well; and nothing else carries it."""
    sender = sender_with(place, acl="bucket-owner-full-control")
    with contextlib.closing(sender), watched(place) as seen:
        sender.send(upload)
        probe(sender, "")
    puts = [one for one in seen if one["method"] == "PUT"]
    assert len(puts) > 3
    assert {one["x-amz-acl"] for one in puts} == {"bucket-owner-full-control"}
    assert not any("x-amz-acl" in one for one in seen if one["method"] != "PUT")
    with pytest.raises(SettingsError, match="acl"):
        place.settings(acl="everybody")


def test_class_encryption_and_tags_are_those_of_the_object(place: Place, upload: Upload) -> None:
    sender = sender_with(
        place,
        storage_class="STANDARD_IA",
        encryption="AES256",
        tags=["team=traffic north", "kind=a/b+c"],
        requester_pays=True,
    )
    with contextlib.closing(sender), watched(place) as seen:
        sender.send(upload)
        sender.find(upload)
    head = place.client.head_object(Bucket=place.bucket, Key=upload.key)
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "AES256")
    tags = place.client.get_object_tagging(Bucket=place.bucket, Key=upload.key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {
        "team": "traffic north",
        "kind": "a/b+c",
    }
    put, found = seen
    assert put["x-amz-request-payer"] == found["x-amz-request-payer"] == "requester"
    assert "x-amz-storage-class" not in found and "x-amz-tagging" not in found
    signed = put["authorization"].partition("SignedHeaders=")[2].split(",")[0].split(";")
    assert {"x-amz-storage-class", "x-amz-tagging", "x-amz-request-payer"} <= set(signed)


def test_kms_is_named_with_its_key(place: Place, upload: Upload) -> None:
    key = "arn:aws:kms:eu-central-1:111122223333:key/1234"
    sender = sender_with(place, encryption="aws:kms", kms_key=key, bucket_key=True)
    with contextlib.closing(sender), watched(place) as seen:
        assert sender.send(upload).sha256  # the ETag of such an object is no MD5
    prefix = "x-amz-server-side-encryption"
    assert seen[0][prefix] == "aws:kms"
    assert seen[0][f"{prefix}-aws-kms-key-id"] == key
    assert seen[0][f"{prefix}-bucket-key-enabled"] == "true"


def test_the_probe_asks_as_an_image_would(place: Place) -> None:
    with contextlib.closing(sender_with(place, storage_class="STANDARD_IA")) as sender:
        with watched(place) as seen:
            probe(sender, "")
    puts = [request for request in seen if request["method"] == "PUT"]
    assert {request["x-amz-storage-class"] for request in puts} == {"STANDARD_IA"}


@pytest.mark.parametrize("locked", [False, True])
def test_versioned_and_locked_buckets_report_the_version(
    place: Place, upload: Upload, locked: bool
) -> None:
    bucket = f"kept-{os.urandom(6).hex()}"
    place.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=locked)
    if not locked:
        place.client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )
    with contextlib.closing(sender_with(place, bucket=bucket)) as sender:
        sent = sender.send(upload)
        assert sent.version_id
        assert sender.send(upload).version_id == sent.version_id  # 412, and the same is found


def test_a_server_that_wants_content_md5_gets_it(place: Place, upload: Upload) -> None:
    answer = (
        b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 HTTP header is required for Put "
        b"Object requests with Object Lock parameters</Message></Error>"
    )
    with contextlib.closing(sender_with(place)) as sender, watched(place, answer) as seen:
        with pytest.raises(SendError) as caught:
            sender.send(upload)
        assert (caught.value.kind, caught.value.code) == (ErrorKind.TRANSIENT, "wants-md5")
        sender.send(upload)
    assert ["content-md5" in request for request in seen] == [False, True]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kms_key": "abc"}, "s3.kms_key: only with"),
        ({"bucket_key": True, "encryption": "AES256"}, "s3.bucket_key: only with"),
        ({"tags": ["noequals"]}, "is not a tag"),
        ({"tags": ["a=1", "a=2"]}, "each name once"),
        ({"tags": [f"t{number}=x" for number in range(11)]}, "at most ten"),
        ({"storage_class": "standard"}, "storage class"),
        ({"encryption": "rot13"}, "is not one of"),
        ({"requester_pays": "yes"}, "neither true nor false"),
        ({"addressing": "dns"}, "is not one of"),
    ],
)
def test_what_cannot_be_is_refused_at_start(section: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings_for("http://127.0.0.1:1", "images", **section)
