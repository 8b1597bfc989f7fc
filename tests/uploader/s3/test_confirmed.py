"""What a bucket may hold, and what its server may say of it: only the image itself is confirmed.

The server here says nothing by script: each answer is worked out from what the bucket holds and
from what the server can report of it, as a genuine one does.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dev.s3_local.http_server import Server
from headgate.spool.site.confirmation import ProofKind
from tests.support.s3_server import PATIENT, CountingPacer, environment, settings_for, upload_of
from uploader.destination.contract import Upload
from uploader.s3.client import S3Sender
from uploader.s3.dialect import Dialect
from uploader.wire.errors import ErrorKind, SendError

IMAGE = b"the image itself" * 64
STATES: dict[str, bytes | None] = {
    "absent": None,
    "empty": b"",
    "shorter": IMAGE[:-1],
    "longer": IMAGE + b"\0",
    "other bytes": IMAGE[:-1] + b"\0",
    "right": IMAGE,
}
DIGESTS = ("its own", "repeated", "of parts", "none")
ETAGS = ("md5", "MD5", "weak", "kms", "parts", "none")
PROOF = {None: None, True: ProofKind.SHA256, False: ProofKind.ETAG}
OUTCOMES = ("200", "412", "409", "lost", "stale")


@dataclass
class Bucket:
    """One key, and the abilities of its server. ``after``: what is there once a PUT was read."""

    state: bytes | None = None
    after: bytes | None = None
    digest: str = "its own"
    etag: str = "md5"
    outcome: str = "200"
    told: str = ""  # the SHA-256 that the last PUT promised

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "PUT":
            with contextlib.closing(environ["wsgi.input"]) as body:
                assert body.read(len(IMAGE)) + body.read() == IMAGE
            self.told = environ["HTTP_X_AMZ_CHECKSUM_SHA256"]
            self.state = self.after
            if self.outcome in ("412", "409"):
                code = {"412": "PreconditionFailed", "409": "ConditionalRequestConflict"}
                return refuse(start, self.outcome, code[self.outcome])
            start("200 OK", [*self.about(), ("Content-Length", "0")])
            return [b""]
        if self.state is None or self.outcome == "stale":
            return refuse(start, "404", "NoSuchKey")
        start("200 OK", [*self.about(), ("Content-Length", str(len(self.state)))])
        return [b""]

    def about(self) -> list[tuple[str, str]]:
        """What the server reports of the object beside its length."""
        held, said = self.state or b"", []
        own = base64.b64encode(hashlib.sha256(held).digest()).decode()
        sha256 = {"its own": own, "repeated": self.told, "of parts": f"{own}-2", "none": ""}
        if sha256[self.digest]:
            said.append(("x-amz-checksum-sha256", sha256[self.digest]))
        md5 = hashlib.md5(held).hexdigest()
        etag = {"md5": f'"{md5}"', "MD5": f'"{md5.upper()}"', "weak": f'W/"{md5}"',
                "kms": f'"{hashlib.md5(b"key" + held).hexdigest()}"', "parts": f'"{md5}-1"',
                "none": ""}[self.etag]  # fmt: skip
        if etag:
            said.append(("ETag", etag))
        if self.etag == "kms":
            said.append(("x-amz-server-side-encryption", "aws:kms"))
        return said


def refuse(start: Callable[..., Any], status: str, code: str) -> list[bytes]:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    start(f"{status} No", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def promised(upload: Upload) -> str:
    return base64.b64encode(bytes.fromhex(upload.sha256)).decode()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Bucket, str]]:
    bucket = Bucket()
    server = Server("127.0.0.1", 0, bucket)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    with environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s"):
        yield bucket, f"http://127.0.0.1:{server.port}"
    server.close()
    thread.join(60)
    assert not thread.is_alive(), "the server did not end"


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "image.jpg"
    path.write_bytes(IMAGE)
    return upload_of(path, "site/image.jpg")


@pytest.fixture
def sender(served: tuple[Bucket, str]) -> Iterator[S3Sender]:
    made = S3Sender(settings_for(served[1], "bucket"), CountingPacer(), timeouts=PATIENT)
    yield made
    made.close()


def attempt(
    sender: S3Sender, upload: Upload, *, known: bool | None = None, lost: bool = False
) -> SendError | None:
    """What a run does with an image: ask first where an answer was lost. None: confirmed."""
    sender.dialect = Dialect(proof=PROOF[known])
    try:
        if not (lost and sender.find(upload)):
            sender.send(upload)
    except SendError as error:
        return error
    return None


def repeats(bucket: Bucket, *, asked: bool) -> bool:
    """Whether the server vouches for bytes that it does not have, and no answer contradicts it.

    `headgate config check` calls confirmation by such a server weak. What a HEAD says of the length
    (``asked``), and an ETag of no bytes, still count more than the digest that it repeats.
    """
    if bucket.digest != "repeated":
        return False
    if asked:
        return len(bucket.state or b"") == len(IMAGE)
    return bool(bucket.state) or bucket.etag not in ("md5", "MD5", "weak")


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("known", [None, True, False], ids=["unknown", "echoes", "does not echo"])
def test_only_the_image_itself_is_confirmed(
    served: tuple[Bucket, str],
    sender: S3Sender,
    upload: Upload,
    known: bool | None,
    outcome: str,
) -> None:
    bucket, _ = served
    confirmed = set()
    for state, digest, etag in product(STATES, DIGESTS, ETAGS):
        bucket.digest, bucket.etag, bucket.outcome = digest, etag, outcome
        bucket.state = STATES[state] if outcome == "lost" else None
        bucket.after, bucket.told = STATES[state], promised(upload)
        error = attempt(sender, upload, known=known, lost=outcome == "lost")
        asked = outcome == "412" or (outcome == "lost" and state != "absent")
        row = f"{state}, digest {digest}, ETag {etag}"
        if error is None:
            confirmed.add((state, digest, etag))
            assert bucket.state == IMAGE or repeats(bucket, asked=asked), row
        elif bucket.state == IMAGE:
            assert error.kind is not ErrorKind.PERMANENT, f"{row}: {error}"
    proved = {(state, digest, etag) for state, digest, etag in confirmed if state == "right"}
    if outcome in ("200", "412", "lost"):
        assert {("right", "its own", etag) for etag in ETAGS if etag != "none"} <= proved
        assert ("right", "none", "md5") in proved or known
    if outcome == "409":
        assert not confirmed


@pytest.mark.parametrize("state", ["empty", "shorter", "longer"])
@pytest.mark.parametrize("outcome", ["412", "lost"])
def test_a_length_that_differs_outweighs_a_digest_that_fits(
    served: tuple[Bucket, str], sender: S3Sender, upload: Upload, state: str, outcome: str
) -> None:
    bucket, _ = served
    bucket.digest, bucket.etag, bucket.outcome = "repeated", "md5", outcome
    bucket.told = promised(upload)
    bucket.state = bucket.after = STATES[state]
    error = attempt(sender, upload, lost=outcome == "lost")
    assert error is not None
    assert error.kind is not ErrorKind.PERMANENT


def test_an_empty_object_is_no_image_whatever_digest_is_repeated(
    served: tuple[Bucket, str], sender: S3Sender, upload: Upload
) -> None:
    bucket, _ = served
    for known in (None, True, False):
        for etag in ("md5", "MD5", "weak"):
            bucket.digest, bucket.etag, bucket.outcome = "repeated", etag, "200"
            bucket.state, bucket.after = None, b""
            assert attempt(sender, upload, known=known) is not None, (known, etag)


@pytest.mark.parametrize("outcome", ["200", "lost"])
@pytest.mark.parametrize("known", [None, False])
def test_the_md5_of_changed_bytes_confirms_nothing(
    served: tuple[Bucket, str],
    sender: S3Sender,
    upload: Upload,
    known: bool | None,
    outcome: str,
) -> None:
    """The disk changed a byte after the image was received, and the server checks no digest."""
    bucket, _ = served
    bucket.digest, bucket.etag, bucket.outcome = "none", "md5", outcome
    bucket.state = bucket.after = IMAGE
    changed = replace(upload, sha256=hashlib.sha256(b"what was received").hexdigest())
    error = attempt(sender, changed, known=known, lost=outcome == "lost")
    assert error is not None and error.rehash
