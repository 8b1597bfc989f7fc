"""A gateway for tests: a spool, a bucket of its own, and the command in a process of its own."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from headgate.spool.budget import ledger
from headgate.spool.budget.uplink import Part
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support import forked
from tests.support.counting_proxy import Counting, counting
from tests.support.environment import PYTHON_PATH, without_settings
from tests.support.ledger_time import skip_seconds
from tests.support.s3_server import Place, looked_at
from tests.support.spooling import images_below, put
from tests.support.wait import SECONDS, kill, spend, wait_until
from tests.support.witness import assert_true
from uploader.s3.probe import KEY
from uploader.wire.connection import SEND_BUFFER


class Gateway:
    """A spool, a bucket of its own on the stand-in, and the command in a process of its own."""

    def __init__(self, root: Path, place: Place) -> None:
        self.root, self.place = root, place
        self.bucket = re.sub("[^a-z0-9-]", "-", f"b-{root.name}-{random.randrange(10**9)}".lower())
        place.client.create_bucket(Bucket=self.bucket)
        self.config = root / "headgate.toml"
        self.write()
        self.spool = Spool.open(self.settings())
        self.endpoint_is_known()
        assert place.strict is not None
        self.script = place.strict.script
        self.counted = False  # then what leaves in a second is looked at, across runs

    def write(self, *, endpoint: str = "", bucket: str = "", **sections: dict[str, Any]) -> None:
        document: dict[str, dict[str, Any]] = {
            "site": {"name": "north"},
            "spool": {"path": "spool"},
            "s3": {
                "bucket": bucket or self.bucket,
                "endpoint_url": endpoint or self.place.url,
                "region": "us-east-1",
            },
        }
        for section, values in sections.items():
            document.setdefault(section, {}).update(values)
        lines = []
        for section, values in document.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n")
        if endpoint or bucket:
            self.endpoint_is_known()

    def endpoint_is_known(self) -> None:
        """Runs begin with the images: what the server takes need not be found out first."""
        with closing(Spool.open(self.settings())) as spool:
            looked_at(spool)

    def settings(self) -> Any:
        from headgate.settings.load import load

        return load(str(self.config), environment={})

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "uploader", "--config", str(self.config), *words]

    def environment(self) -> dict[str, str]:
        return {**without_settings(), "PYTHONPATH": PYTHON_PATH}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words), env=self.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        if not self.counted:
            skip_seconds(self.spool)
        environment = self.environment()
        if "LD_PRELOAD" in environment:  # takes effect where a program starts, and not in a fork
            return subprocess.run(
                self.command(*words), env=environment, text=True, capture_output=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        return forked.headgate("--config", str(self.config), *words, env=environment)

    def json(self, *words: str, code: int = 0) -> Any:
        ran = self.call(*words, "--json")
        assert ran.returncode == code, ran.stderr + ran.stdout
        return json.loads(ran.stdout)

    def await_run(self, process: subprocess.Popen[str]) -> None:
        """Wait until a run is noted as begun and not ended."""
        wait_until(
            lambda: any(run.outcome == "" for run in self.spool.site.runs(1)), "a run is at work",
            process=process,
        )  # fmt: skip

    def await_uploads(self, images: int, process: subprocess.Popen[str] | None = None) -> None:
        """Wait until so many images are uploaded."""
        wait_until(
            lambda: self.spool.receipts.totals()[0].images >= images,
            f"{images} images are uploaded", process=process,
        )  # fmt: skip

    def kill_after(self, process: subprocess.Popen[str], images: int) -> None:
        """Kill a run soon after it began and uploaded so many, unless it has ended by then."""
        before, runs = self.uploaded(), len(self.spool.site.runs(100))
        wait_until(
            lambda: process.poll() is not None or (
                self.uploaded() >= before + images and len(self.spool.site.runs(100)) > runs),
            f"{images} more are uploaded",
        )  # fmt: skip
        spend(random.uniform(0, 0.3))
        kill(process)

    def uploaded(self) -> int:
        return self.spool.receipts.totals()[0].images

    def objects(self) -> dict[str, bytes]:
        client, found = self.place.client, {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in page.get("Contents", []):
                body = client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"]
                found[entry["Key"]] = body.read()
        return found

    def fill(self, count: int, size: int = 2000) -> dict[str, bytes]:
        """Images by their ids."""
        images = {}
        for number in range(count):
            data = random.randbytes(size)
            images[put(self.spool, data, device=f"cam-{number % 5}").receipt.id] = data
        return images

    def assert_arrived(self, images: dict[str, bytes]) -> None:
        """Each exactly once, byte for byte, and in done/; nothing disagrees."""
        stored = {key.rpartition("/")[2].removesuffix(".jpg"): data
                  for key, data in self.objects().items()
                  if not key.endswith(KEY)}  # fmt: skip
        assert stored == images
        assert images_below(self.spool.path) == {image: ["done"] for image in images}
        assert verify.disagreements(self.spool, deep=True, sleep=lambda _: None) == []
        assert all(self.spool.receipt(image).safe_to_erase for image in images)  # type: ignore[union-attr]
        assert_true(self.spool, self.config, images)


@contextmanager
def counted(gateway: Gateway) -> Iterator[Counting]:
    """The proxy between this gateway and its server."""
    strict = gateway.place.strict
    assert strict is not None
    gateway.counted = True
    with counting("127.0.0.1", strict.server.port) as proxy:
        yield proxy


def slack(connections: int) -> int:
    """What may wait in the kernel, sent and not arrived: SO_SNDBUF for each, doubled by Linux.

    On a calm machine nothing does, and the windows hold without it; the sender's own windows are
    exact, and test_pacer.py holds them.
    """
    return connections * 2 * SEND_BUFFER


def charged(gateway: Gateway) -> int:
    """What both ledgers hold for the last interval."""
    uses = (ledger.read_use(gateway.spool.files.state / part, 300) for part in Part)
    return sum(use.interval for use in uses)
