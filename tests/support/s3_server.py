"""S3 servers for tests: the strict stand-in, a genuine one, and a proxy that counts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore
import pytest
import trustme
from botocore.config import Config
from botocore.loaders import JSONFileLoader

from dev.s3_local.faults import Fault
from dev.s3_local.local import StrictS3
from headgate.settings.settings import Settings, combine
from headgate.spool.budget.ledger import Grant
from headgate.spool.site.confirmation import ProofKind
from headgate.spool.spool import Spool
from tests.support.wait import join
from uploader.destination.contract import Upload
from uploader.s3.client import S3Sender
from uploader.s3.dialect import Dialect, IfNoneMatch, remember
from uploader.s3.probe import probe
from uploader.wire.http import Timeouts
from uploader.wire.meter import Meter

ENDPOINT = "HEADGATE_TEST_S3_ENDPOINT"
SKIPPED = (
    f"{ENDPOINT}, _ACCESS_KEY and _SECRET_KEY are not set: no genuine S3 server "
    "(.ci/rgw/start starts one)"
)
PATIENT = Timeouts(connect=30, stall=30, answer=30)  # a busy machine is no fault


def _parse_models_once() -> None:
    """Each session of botocore parses its models again, which takes more CPU than a whole test."""
    own, parse = Path(botocore.__file__).parent, JSONFileLoader.load_file
    parse_once = functools.cache(lambda path: parse(JSONFileLoader(), path))

    def load_file(loader: JSONFileLoader, path: str) -> Any:
        return parse_once(path) if Path(path).is_relative_to(own) else parse(loader, path)

    JSONFileLoader.load_file = load_file


_parse_models_once()


@dataclass
class CountingPacer:
    """Permits everything, in pieces of at most ``max_piece``; counts what it was told."""

    max_piece: int = 65536
    written: int = 0
    largest: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, wanted: int) -> Grant:
        assert wanted >= 1
        return Grant(min(wanted, self.max_piece), 0)

    def wrote(self, grant: Grant, written: int) -> None:
        assert 0 <= written <= grant.size
        with self._lock:
            self.written += written
            self.largest = max(self.largest, written)


@dataclass
class Place:
    """A server with a bucket, and how to reach it."""

    url: str
    bucket: str
    client: Any  # boto3's, beside the proxy
    echoes_sha256: bool
    genuine: bool = False
    sloppy: bool = False  # it checks no digest and keeps no condition
    learned: Dialect | None = None  # as a run's senders have it from the probe
    strict: StrictS3 | None = None

    @property
    def dialect(self) -> Dialect:
        """What a sender has learned of it."""
        kept = IfNoneMatch.IGNORED if self.sloppy else IfNoneMatch.HONOURED
        proof = ProofKind.SHA256 if self.echoes_sha256 else ProofKind.ETAG
        return Dialect(if_none_match=kept, proof=proof)

    def settings(self, url: str = "", **more: Any) -> Settings:
        return settings_for(url or self.url, more.pop("bucket", self.bucket), **more)

    def sender(
        self,
        pacer: Meter | None = None,
        *,
        url: str = "",
        timeouts: Timeouts = PATIENT,
        **more: Any,
    ) -> S3Sender:
        chosen: Meter = pacer if pacer is not None else CountingPacer()
        more = {"dialect": self.learned, **more}
        return S3Sender(self.settings(url), chosen, timeouts=timeouts, **more)

    def read(self, key: str) -> bytes:
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        with contextlib.closing(body):
            data: bytes = body.read()
            return data

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


def looked_at(spool: Spool) -> None:
    """As after a first run, which finds out what the server takes: a test's runs send images only,
    and what the server takes beyond the defaults they learn from its answers."""
    remember(spool.site, spool.settings, Dialect(seen_at="2026-11-23T16:04:05+00:00"))


def settings_for(url: str, bucket: str, **more: Any) -> Settings:
    """Settings of the uploader for a server."""
    section = {"bucket": bucket, "endpoint_url": url, "region": "us-east-1", **more}
    return combine({"s3": section}, None, {}, {}, Path.cwd())


def client_for(url: str, ca: str | bool = True) -> Any:
    """A plain boto3 client: what looks from outside."""
    session = boto3.Session()  # the default one keeps the first credentials it saw
    return session.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        verify=ca,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def script(place: Place, *faults: Fault) -> None:
    """What the stand-in does wrong from now on; nothing if no fault is named."""
    assert place.strict is not None
    place.strict.script.replace(faults)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """AWS_* variables as given here and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "REQUESTS_CA"))]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@contextlib.contextmanager
def strict_place(scratch: Path, *, tls: bool = False, **more: Any) -> Iterator[Place]:
    """The stand-in, with credentials in the environment."""
    context, ca = certificates(scratch) if tls else (None, "")
    values = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    if ca:
        values["AWS_CA_BUNDLE"] = ca
    with environment(**values), StrictS3(tls=context, **more) as strict:
        client = client_for(strict.url, ca or True)
        with contextlib.closing(client):
            echoes = bool(more.get("echo_sha256", True))
            yield Place(strict.url, strict.bucket, client, echoes, strict=strict)


@contextlib.contextmanager
def genuine_place() -> Iterator[Place]:
    """The server that the environment names, with a bucket of its own; skips when there is none.
    HEADGATE_TEST_S3_SLOPPY says of it that it checks nothing."""
    url = os.environ.get(ENDPOINT)
    if not url:
        pytest.skip(SKIPPED)
    key, secret = (os.environ[f"HEADGATE_TEST_S3_{word}"] for word in ("ACCESS_KEY", "SECRET_KEY"))
    with environment(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret):
        with contextlib.closing(client_for(url)) as client:
            bucket = f"headgate-test-{secrets.token_hex(6)}"
            client.create_bucket(Bucket=bucket)
            answer = client.put_object(
                Bucket=bucket, Key="first", Body=b"x", ChecksumAlgorithm="SHA256"
            )
            client.delete_object(Bucket=bucket, Key="first")
            sloppy = bool(os.environ.get(f"{ENDPOINT.removesuffix('ENDPOINT')}SLOPPY"))
            place = Place(url, bucket, client, "ChecksumSHA256" in answer, True, sloppy)
            with contextlib.closing(place.sender()) as sender:
                place.learned = probe(sender, "").dialect("2026-11-23T16:04:05+00:00")
            yield place


S3_PLACES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Place]]] = {
    "strict": strict_place,
    "strict-tls": functools.partial(strict_place, tls=True),
    "no-sha256": functools.partial(strict_place, echo_sha256=False),
    "genuine": lambda _folder: genuine_place(),
}
"""The servers that the contracts of the sender for S3 are tried on; each gets a folder."""


def certificates(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS context for 127.0.0.1, and the file of the authority to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    path = folder / f"ca-{secrets.token_hex(4)}.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


def upload_of(path: Path, key: str, **more: Any) -> Upload:
    """The upload of a file as the spool would describe it."""
    data = path.read_bytes()
    fields = {"media_type": "image/jpeg", "sha256": hashlib.sha256(data).hexdigest(), **more}
    return Upload(path=path, key=key, size=len(data), **fields)


class Proxy:
    """A TCP proxy in threads: counts the client's bytes, and may eat answers. A context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{parts.scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0  # bytes that came from clients
        self.connections = 0
        self.eat_answers = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        join(self._thread)
        self.hang_up()
        for thread in self._threads:
            join(thread)

    def hang_up(self) -> None:
        """End every connection."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def await_hung_up(self) -> None:
        """Wait until every connection has ended, as they do when their client was killed: then
        ``sent`` holds all that it sent."""
        join(*self._threads)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                both = threading.Barrier(2)
                for source, sink, outward in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._pump, args=(source, sink, outward, both))
                    self._threads.append(thread)
                    thread.start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, outward: bool, both: threading.Barrier
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if outward:
                    with self._lock:
                        self.sent += len(data)
                elif self.eat_answers:
                    break
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        both.wait(60)
        if outward:
            source.close()
            sink.close()
