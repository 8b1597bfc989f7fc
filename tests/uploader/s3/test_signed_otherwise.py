"""A request that is refused for its signature's time or region is repeated, signed otherwise."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dev.s3_local.strict import error_reply
from tests.support.s3_server import (
    PATIENT,
    CountingPacer,
    Place,
    environment,
    settings_for,
    upload_of,
)
from tests.support.scripted_server import read_request, server
from uploader.destination.contract import Upload
from uploader.s3 import dialect
from uploader.s3.client import S3Sender
from uploader.wire.errors import ErrorKind, SendError


@pytest.fixture
def upload(tmp_path: Path) -> Upload:
    path = tmp_path / "image.jpg"
    path.write_bytes(os.urandom(30_000))
    return upload_of(path, f"signed/{os.urandom(8).hex()}.jpg")


class Judging:
    """Stands before the stand-in and refuses signatures by their time and region, as S3 does."""

    def __init__(self, place: Place, *, regions: tuple[str, ...] = (), never: bool = False) -> None:
        assert place.strict is not None
        self.server, self.application = place.strict.server, place.strict.server.application
        self.regions, self.never = regions, never  # the last of regions is the right one
        self.seen: list[str] = []
        self.signed: list[tuple[datetime, str]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        at = datetime.strptime(environ["HTTP_X_AMZ_DATE"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        region = environ["HTTP_AUTHORIZATION"].partition("Credential=")[2].split("/")[2]
        self.seen.append(environ["REQUEST_METHOD"])
        self.signed.append((at, region))
        head = environ["REQUEST_METHOD"] == "HEAD"
        if self.never or abs((datetime.now(UTC) - at).total_seconds()) > 900:
            return self.refuse(environ, start, 403, "RequestTimeTooSkewed", "", head)
        if self.regions and region != self.regions[-1]:
            said = self.regions[min(self.regions.index(region) + 1, len(self.regions) - 1)] \
                if region in self.regions else self.regions[0]  # fmt: skip
            return self.refuse(environ, start, 400, "AuthorizationHeaderMalformed", said, head)
        return self.application(environ, start)

    @staticmethod
    def refuse(
        environ: dict[str, Any], start: Any, status: int, code: str, region: str, head: bool
    ) -> list[bytes]:
        while environ["wsgi.input"].read(65536):
            pass
        line, headers, body = error_reply(status, code, "No.")
        named = [("x-amz-bucket-region", region)] if region else []
        start(line, [*headers, *named])
        return [b"" if head else body]


@contextmanager
def judging(place: Place, **more: Any) -> Iterator[Judging]:
    judge = Judging(place, **more)
    judge.server.application = judge
    try:
        yield judge
    finally:
        judge.server.application = judge.application


@pytest.mark.parametrize("off", [-1200, 1200, 86_400 * 400])
def test_a_clock_that_is_wrong_is_no_reason_to_stop(place: Place, upload: Upload, off: int) -> None:
    """One request is refused; those after it are signed with the server's time at once."""
    made = S3Sender(place.settings(), CountingPacer(), now=lambda: time.time() - off)
    with judging(place) as judge, closing(made) as sender:
        assert sender.find(upload) is None
        assert judge.seen == ["HEAD", "HEAD"]
        sender.send(upload)
        assert judge.seen == ["HEAD", "HEAD", "PUT"]
        assert sender.clock_offset == pytest.approx(off, abs=5)  # it is warned of as before
    assert place.read(upload.key) == upload.path.read_bytes()


def test_a_body_that_was_refused_for_the_time_is_sent_again_whole(
    place: Place, upload: Upload
) -> None:
    made = S3Sender(place.settings(), CountingPacer(), now=lambda: time.time() - 1200)
    with judging(place) as judge, closing(made) as sender:
        sender.send(upload)
        assert judge.seen == ["PUT", "PUT"]
    assert place.read(upload.key) == upload.path.read_bytes()


def test_a_server_that_refuses_its_own_time_is_asked_twice_and_no_more(
    place: Place, upload: Upload
) -> None:
    made = S3Sender(place.settings(), CountingPacer(), now=lambda: time.time() - 1200)
    with judging(place, never=True) as judge, closing(made) as sender:
        with pytest.raises(SendError) as caught:
            sender.send(upload)
        assert judge.seen == ["PUT", "PUT"]
    assert (caught.value.kind, caught.value.code) == (ErrorKind.FATAL, "RequestTimeTooSkewed")


def test_the_region_that_the_server_names_is_used_from_then_on(
    place: Place, upload: Upload
) -> None:
    with judging(place, regions=("eu-south-2",)) as judge, closing(place.sender()) as sender:
        sender.send(upload)
        assert [region for _, region in judge.signed] == ["us-east-1", "eu-south-2"]
        assert sender.find(upload) is not None
        assert judge.signed[-1][1] == "eu-south-2"
        assert sender.access.base.startswith(place.url)  # nothing went elsewhere
    assert place.read(upload.key) == upload.path.read_bytes()


def test_a_head_is_repeated_for_another_region_too(place: Place, upload: Upload) -> None:
    with judging(place, regions=("eu-south-2",)) as judge, closing(place.sender()) as sender:
        assert sender.find(upload) is None
        assert [region for _, region in judge.signed] == ["us-east-1", "eu-south-2"]


def test_regions_are_followed_once(place: Place, upload: Upload) -> None:
    regions = ("eu-south-1", "eu-south-2", "eu-south-3")
    with judging(place, regions=regions) as judge, closing(place.sender()) as sender:
        with pytest.raises(SendError) as caught:
            sender.send(upload)
        assert [region for _, region in judge.signed] == ["us-east-1", "eu-south-1"]
        with pytest.raises(SendError):
            sender.send(upload)
        assert [region for _, region in judge.signed][2:] == ["eu-south-1"]
    assert caught.value.kind is ErrorKind.FATAL and "s3.region" in caught.value.message


def test_a_server_that_wants_the_bucket_in_the_host_name_gets_it(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out once, and remembered; a style that was set stays. No name is looked up, because a
    proxy takes the whole address."""
    asked: list[str] = []

    def served(sock: socket.socket) -> None:
        head = read_request(sock).partition(b"\r\n\r\n")[0].decode()
        asked.append(head.split(" ")[1].partition("?")[0])
        if "//s3.example.net/" in asked[-1]:
            code = b"<Error><Code>SecondLevelDomainForbidden</Code></Error>"
            sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n" % len(code))
            sock.sendall(b"Connection: close\r\n\r\n" + code)
            return
        digest = base64.b64encode(bytes.fromhex(upload.sha256)).decode()
        said = f'HTTP/1.1 200 OK\r\nETag: "e"\r\nx-amz-checksum-sha256: {digest}\r\n'
        sock.sendall(f"{said}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())

    inside, outside = (f"http://{host}/{upload.key}" for host in
                       ("pictures.s3.example.net", "s3.example.net/pictures"))  # fmt: skip
    with (
        environment(AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s"),
        server(*[served] * 4) as port,
    ):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        settings = settings_for("http://s3.example.net", "pictures")
        with closing(S3Sender(settings, CountingPacer(), timeouts=PATIENT)) as sender:
            sender.send(upload)
            learned = sender.dialect
        assert asked == [outside, inside] and learned.in_host
        assert dialect.from_json(learned.as_json()) == learned
        with closing(
            S3Sender(settings, CountingPacer(), timeouts=PATIENT, dialect=learned)
        ) as sender:
            sender.send(upload)
        assert asked[2:] == [inside]
        fixed = settings_for("http://s3.example.net", "pictures", addressing="path")
        with closing(S3Sender(fixed, CountingPacer(), timeouts=PATIENT)) as sender:
            with pytest.raises(SendError, match=r"set s3\.addressing to auto"):
                sender.send(upload)
        assert asked[3:] == [outside]


@pytest.mark.parametrize("region", ["evil.example/", "x@evil.example", "a" * 60, "EU", "a b"])
def test_what_is_no_region_is_not_followed(place: Place, upload: Upload, region: str) -> None:
    with judging(place, regions=(region,)) as judge, closing(place.sender()) as sender:
        with pytest.raises(SendError):
            sender.send(upload)
        assert len(judge.seen) == 1
