"""A destination over HTTP for tests: a genuine receiver, and how to reach it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.settings.settings import Settings, combine
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import make
from tests.support.receiver import Receiver, enrol, running
from tests.support.s3_server import PATIENT, CountingPacer
from uploader.destination.contract import Upload
from uploader.http_post.client import HttpSender
from uploader.http_post.description import describe
from uploader.wire.meter import Meter


def settings_for(url: str, token: str = "", **more: Any) -> Settings:
    """Settings of an uploader that posts to this address."""
    section = {"kind": "http", "url": url, "token": token, **more}
    return combine({"destination": section}, None, {}, {}, Path.cwd())


@dataclass
class Upstream:
    """A receiver to which images are posted, with a gateway's token."""

    receiver: Receiver
    token: str
    field: str = "image"

    @property
    def url(self) -> str:
        return f"{self.receiver.url}/images"

    def settings(self, url: str = "", **more: Any) -> Settings:
        return settings_for(url or self.url, self.token, field=self.field, **more)

    def sender(self, pacer: Meter | None = None, *, url: str = "", **more: Any) -> HttpSender:
        settings = self.settings(url, **more)
        return HttpSender(settings, pacer or CountingPacer(), timeouts=PATIENT)

    def held(self) -> list[bytes]:
        """Every image that it has, one entry for each."""
        return [path.read_bytes() for path in self.receiver.images()]


@contextmanager
def upstream(folder: Path, *, field: str = "image", **settings: str) -> Iterator[Upstream]:
    """A receiver in a process of its own that takes images from gateways with a token only."""
    settings = {"receiver__auth": "token", **settings}
    with running(folder, **settings) as receiver:
        yield Upstream(receiver, enrol(receiver, "box-1", urgent=True, forward=True), field)


def posted(path: Path, device: str = "cam-07", at: int = 0, **more: Any) -> Upload:
    """The upload of a file as a run describes it to a destination over HTTP; ``at``: microseconds,
    by which images with the same bytes differ."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    arrived = datetime(2026, 11, 23, 16, 4, 5, at, UTC)
    name = make(arrived, device, digest, "jpg")
    key, headers = describe(name, Metadata(digest, len(data), "image/jpeg", **more))
    return Upload(path, key, digest, len(data), "image/jpeg", headers)
