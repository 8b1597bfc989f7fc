"""``make demo``: a fleet of cameras, drains, and every object compared with what was posted.

The cameras post to the ``make run`` of this folder, where its page shows them; without one, to a
site of their own, which goes again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import boto3

from dev.camera import Acknowledged, Camera, fleet
from dev.children import BIN, Child, ChildDied, wait_until_it_listens
from dev.outcome import summary
from dev.run import OBJECTS, running_receiver
from dev.stand_in import BUCKET, KEY, StandIn, environment, listening
from headgate.host.addresses import free_port
from headgate.host.processes import end_with_parent
from headgate.settings.load import load
from headgate.spool.image.image import State
from headgate.spool.spool import Spool
from uploader.s3.probe import KEY as PROBE

PHOTOGRAPHS = Path(__file__).resolve().parent.parent / "docs" / "photos"
CAMERAS = 20
POSTING_SECONDS = 30
EVERY_SECONDS = 0.6  # 20 cameras at 100 images a minute are the owner's 2,000
DRAIN_EVERY_SECONDS = 5
EMPTY_SECONDS = 180

SETTINGS = """\
# The owner's site: 20 % of 12,000 MB a minute.
[site]
name = "demo"
[spool]
path = "spool"
keep_free = "100MB"
[receiver]
bind = "127.0.0.1:{port}"
[uplink]
link = "12000MB/min"
share = "20%"
interval = "1min"
"""


class Site(ABC):
    """What the cameras post to: a receiver, drains, and a stand-in for the bucket."""

    port: int
    endpoint: str

    @abstractmethod
    def start(self) -> None:
        """Start the site and return once everything answers; ChildDied if something does not."""

    @abstractmethod
    def stop(self) -> None:
        """End what was started for this."""

    @abstractmethod
    def watch(self, *, drain: bool) -> None:
        """Once a moment: is everything alive, and is a drain due."""

    @abstractmethod
    def spool(self) -> Spool:
        """The spool, opened to ask it questions."""

    @property
    def is_draining(self) -> bool:
        """Whether a drain runs that was started here."""
        return False

    def is_ours(self, _key: str, _ids: frozenset[str]) -> bool:
        """Whether the object of this key is to be one that the cameras of ``_ids`` sent."""
        return True

    def digests(self, ids: frozenset[str]) -> list[str]:
        """The SHA-256 of every object that is to be one of these images, fetched and hashed."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=KEY,
        )
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            keys = [str(entry["Key"]) for page in pages for entry in page.get("Contents", [])]
            return [
                hashlib.sha256(client.get_object(Bucket=BUCKET, Key=key)["Body"].read()).hexdigest()
                for key in keys
                if not key.endswith(PROBE) and self.is_ours(key, ids)
            ]
        finally:
            client.close()


class OwnSite(Site):
    """A spool, a receiver and a stand-in of their own, in a folder that goes again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.config = folder / "headgate.toml"
        self.config.write_text(SETTINGS.format(port=self.port))
        self.stand_in = StandIn(folder / "s3")
        self.endpoint = self.stand_in.endpoint
        ours = {**environment("AWS_", "HEADGATE_"), "HEADGATE_CONFIG": str(self.config)}
        self.receiver = Child("receiver", [str(BIN / "headgate-receiver")], ours)
        self.drains = {**ours, **self.stand_in.variables()}
        self.drain: Child | None = None

    def start(self) -> None:
        self.stand_in.wait()
        wait_until_it_listens(self.receiver, "127.0.0.1", self.port)

    def watch(self, *, drain: bool) -> None:
        self.receiver.require()
        self.stand_in.child.require()
        if self.drain is not None and self.drain.code is not None:
            if self.drain.code != 0:
                for line in self.drain.lines:
                    self.drain.show(line)
                self.drain.require()
            self.drain.stop(1)
            self.drain = None
        if drain and self.drain is None:
            command = [str(BIN / "headgate"), "drain", "--trigger", "schedule"]
            self.drain = Child("drain", command, self.drains, quiet=True)

    @property
    def is_draining(self) -> bool:
        return self.drain is not None

    def stop(self) -> None:
        for child in (self.receiver, self.drain, self.stand_in.child):
            if child is not None:
                child.stop(10)

    def spool(self) -> Spool:
        return Spool.open(load(str(self.config), environment={}))


class RunningSite(Site):
    """The one of ``make run``, which drains by itself; its bucket may hold other images."""

    def __init__(self, port: int, endpoint: str) -> None:
        self.port, self.endpoint = port, endpoint

    def start(self) -> None:
        """Nothing to do: the site runs already."""

    def stop(self) -> None:
        """Nothing to do: the site stays."""

    def watch(self, *, drain: bool) -> None:
        if not listening(OBJECTS):
            raise ChildDied("make run has ended meanwhile")

    def spool(self) -> Spool:
        return Spool.open(load())

    def is_ours(self, key: str, ids: frozenset[str]) -> bool:
        return Path(key).stem in ids


def post(site: Site, cameras: list[Camera], seconds: float, ending: threading.Event) -> None:
    """Let the cameras post, with drains on their way all the while."""
    threads = [threading.Thread(target=camera.work, args=(ending,)) for camera in cameras]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    due = time.monotonic() + DRAIN_EVERY_SECONDS
    try:
        while (left := until - time.monotonic()) > 0 and not ending.wait(0.2):
            images = sum(len(camera.acknowledged) for camera in cameras)
            show(f"{seconds - left:3.0f} s  {images} images acknowledged")
            is_due = time.monotonic() >= due
            site.watch(drain=is_due)
            if is_due:
                due += DRAIN_EVERY_SECONDS
    finally:
        ending.set()
        for thread in threads:
            thread.join()
        show("")


def show(text: str) -> None:
    """A line that the next one replaces, on a terminal."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def empty(site: Site, spool: Spool, ids: frozenset[str]) -> int:
    """How many of these images are uploaded in the end; ChildDied if that takes too long."""
    until, waits = time.monotonic() + EMPTY_SECONDS, set(ids)
    while waits or site.is_draining:
        site.watch(drain=bool(waits))
        time.sleep(0.2)
        waits = {one for one in waits if not _is_uploaded(spool, one)}
        if time.monotonic() > until:
            raise ChildDied(f"{len(waits)} images still wait after {EMPTY_SECONDS} s of drains")
    return len(ids) - len(waits)


def _is_uploaded(spool: Spool, image_id: str) -> bool:
    receipt = spool.receipt(image_id)
    return receipt is not None and receipt.state is State.UPLOADED


def play(site: Site, seconds: float, ending: threading.Event) -> bool:
    """Play the whole demo and print the summary; True if every promise was kept."""
    began = datetime.now(UTC)
    site.start()
    address = f"http://127.0.0.1:{site.port}"
    print(f"watch it at {address}/ while it runs")
    how = (
        f"a drain starts every {DRAIN_EVERY_SECONDS} s"
        if isinstance(site, OwnSite)
        else "make run drains"
    )
    print(f"{CAMERAS} cameras post to {address}/uploadImage for {seconds:.0f} s; {how}")
    cameras = fleet(PHOTOGRAPHS, CAMERAS, EVERY_SECONDS, ("127.0.0.1", site.port))
    post(site, cameras, seconds, ending)
    acknowledged: Sequence[Acknowledged] = [one for each in cameras for one in each.acknowledged]
    refused = [reason for camera in cameras for reason in camera.refused]
    ids = frozenset(image.id for image in acknowledged)
    spool = site.spool()
    try:
        uploaded = empty(site, spool, ids)
        runs = [run for run in spool.site.runs(1000) if run.started_at >= began]
        rate = spool.uplink.cap().rate
    finally:
        spool.close()
    return summary(acknowledged, refused, uploaded, runs, rate, site.digests(ids))


def main() -> int:
    end_with_parent(os.getppid())
    words = argparse.ArgumentParser(prog="python -m dev.demo", description="See make demo.")
    words.add_argument("--seconds", type=float, default=POSTING_SECONDS, help="how long they post")
    seconds = words.parse_args().seconds
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        ending.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    here = Path("var").absolute()  # not /tmp, which may be memory: the spool is to be on a disk
    here.mkdir(exist_ok=True)
    endpoint, port = listening(OBJECTS), running_receiver()
    with tempfile.TemporaryDirectory(prefix="demo-", dir=here) as name:
        site = RunningSite(port, endpoint) if endpoint and port else OwnSite(Path(name))
        try:
            kept = play(site, seconds, ending)
        except ChildDied as died:
            print(f"headgate: {died}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nended before its time", file=sys.stderr)
            return 130
        finally:
            site.stop()
    print("every image arrived once, as it was" if kept else "NOT as promised")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
