"""A destination over HTTP for tests: a genuine receiver, and how to reach it."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.settings.settings import Settings, combine
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import make
from tests.support.receiver import Receiver, enrol, running
from tests.support.s3_server import PATIENT, CountingPacer, certificates
from tests.support.wait import join
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
    """A receiver to which images are posted, with a gateway's token; ``front``: what stands before
    it, whose certificate the authority in the file ``ca`` has issued."""

    receiver: Receiver
    token: str
    field: str = "image"
    front: str = ""
    ca: str = ""

    @property
    def url(self) -> str:
        return f"{self.front or self.receiver.url}/images"

    def settings(self, url: str = "", **more: Any) -> Settings:
        more = {"ca_bundle": self.ca, **more}
        return settings_for(url or self.url, self.token, field=self.field, **more)

    def sender(self, pacer: Meter | None = None, *, url: str = "", **more: Any) -> HttpSender:
        settings = self.settings(url, **more)
        return HttpSender(settings, pacer or CountingPacer(), timeouts=PATIENT)

    def held(self) -> list[bytes]:
        """Every image that it has, one entry for each."""
        return [path.read_bytes() for path in self.receiver.images()]


@contextmanager
def upstream(
    folder: Path, *, field: str = "image", tls: bool = False, **settings: str
) -> Iterator[Upstream]:
    """A receiver in a process of its own that takes images from gateways with a token only."""
    settings = {"receiver__auth": "token", **settings}
    with running(folder, **settings) as receiver:
        made = Upstream(receiver, enrol(receiver, "box-1", urgent=True, forward=True), field)
        if not tls:
            yield made
            return
        context, ca = certificates(folder)
        with tls_front(receiver.port, context) as port:
            yield replace(made, front=f"https://127.0.0.1:{port}", ca=ca)


@contextmanager
def tls_front(behind: int, tls: ssl.SSLContext) -> Iterator[int]:
    """A port that speaks TLS and passes what it carries on to another of this machine."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=tls)
        ready.put((asyncio.get_running_loop(), asyncio.current_task(), server))
        with suppress(asyncio.CancelledError):
            await server.serve_forever()

    ready: queue.SimpleQueue[tuple[Any, Any, asyncio.Server]] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, task, server = ready.get(timeout=60)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        join(thread)


def posted(path: Path, device: str = "cam-07", at: int = 0, **more: Any) -> Upload:
    """The upload of a file as a run describes it to a destination over HTTP; ``at``: microseconds,
    by which images with the same bytes differ."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    arrived = datetime(2026, 11, 23, 16, 4, 5, at, UTC)
    name = make(arrived, device, digest, "jpg")
    key, headers = describe(name, Metadata(digest, len(data), "image/jpeg", **more))
    return Upload(path, key, digest, len(data), "image/jpeg", headers)
