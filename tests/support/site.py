"""A spool and a bucket on the stand-in, whose runs are runs of the test's own process."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.settings.settings import combine
from headgate.spool.image.image import State
from headgate.spool.site.outcome import Ending
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.s3_server import CountingPacer, Place, looked_at
from tests.support.spooling import images_below, put
from uploader.run import start
from uploader.run.bounds import RunRequest
from uploader.run.start import run
from uploader.s3.probe import KEY

Answer = tuple[str, list[tuple[str, str]], bytes]


class Refusing:
    """Stands before the server and answers PUTs, and with ``everything`` all else, as told.

    ``after``: so many bodies are taken first. ``keys``: which keys are refused.
    """

    def __init__(self, place: Place) -> None:
        assert place.strict is not None
        self._server = place.strict.server
        self._application = self._server.application
        self._server.application = self
        self.answer: Answer | None = None
        self.everything = False
        self.keys: Callable[[str], bool] = lambda _key: True
        self.after = 0
        self.refused: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        key, put = environ["RAW_URI"], environ["REQUEST_METHOD"] == "PUT"
        if self.answer is None or not (put or self.everything) or not self.keys(key):
            return self._application(environ, start)
        if put and self.after > 0:
            self.after -= 1
            return self._application(environ, start)
        if put:
            if not key.endswith(KEY):  # what the server takes was looked at
                self.refused.append(key)
            while environ["wsgi.input"].read(65536):
                pass
        if self.after > 0:
            return self._application(environ, start)
        start(*self.answer[:2])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.answer[2]]

    def repair(self) -> None:
        self.answer, self.everything, self.keys = None, False, lambda _key: True
        self.refused.clear()

    def stop(self) -> None:
        self._server.application = self._application


class Site:
    """A spool and a bucket; runs in this process. ``new``: nothing is known of the server yet."""

    def __init__(self, root: Path, place: Place, *, new: bool = False, **more: str) -> None:
        self.place = place
        self.bucket = f"blame-{secrets.token_hex(6)}"
        place.client.create_bucket(Bucket=self.bucket)
        flags = {
            "s3.bucket": self.bucket, "s3.endpoint_url": place.url, "s3.region": "us-east-1",
            "spool.path": str(root / "spool"), "site.name": "north",
            **{name.replace("__", "."): value for name, value in more.items()},
        }  # fmt: skip
        self.spool = Spool.open(combine(None, None, {}, flags, root))
        if not new:
            looked_at(self.spool)
        self.server = Refusing(place)

    def fill(self, count: int, device: str = "") -> dict[str, bytes]:
        images = {}
        for number in range(count):
            data = random.randbytes(1500)
            images[put(self.spool, data, device=device or f"cam-{number % 5}").receipt.id] = data
        return images

    def run(self) -> Run:
        return run(self.spool, RunRequest())

    @property
    def aside(self) -> list[str]:
        return [item.id for item in self.spool.catalog.in_state(State.SET_ASIDE, 10_000)]

    def objects(self) -> dict[str, bytes]:
        client, found = self.place.client, {}
        for shown in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in shown.get("Contents", []):
                if entry["Key"].endswith(KEY):
                    continue
                body = client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"]
                found[entry["Key"].rpartition("/")[2].removesuffix(".jpg")] = body.read()
        return found

    def assert_arrived(self, images: dict[str, bytes]) -> None:
        assert self.objects() == images
        assert images_below(self.spool.path) == {image: ["done"] for image in images}
        assert verify.disagreements(self.spool, deep=True, sleep=lambda _: None) == []


class FreePacer(CountingPacer):
    """In the place of the run's: nothing waits for the ledger's next second."""

    def __init__(self, *_args: object, **_more: object) -> None:
        super().__init__()
        self.rate, self.waiting = 10**9, 0
        self.closed: Ending | None = None
        self.left_today: int | None = None

    @property
    def sent(self) -> int:
        return self.written

    def waited(self) -> float:
        return 0.0

    def close(self, reason: Ending) -> None:
        raise AssertionError(f"stopped: {reason}")

    def end(self, reason: object) -> None:
        """The run is over."""


@contextlib.contextmanager
def unpaced(
    root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[Site]:
    """A site whose runs wait for no budget."""
    monkeypatch.setattr(start, "Pacer", FreePacer)
    made = Site(root, place, **settings)
    try:
        yield made
    finally:
        made.server.stop()
        made.spool.close()
