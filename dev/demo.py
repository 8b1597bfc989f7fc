"""``make demo``: a fleet of cameras, drains, and every object compared with what was posted."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType

import boto3

from dev.camera import Camera, fleet
from dev.children import BIN, Child, ChildDied, wait_until_it_listens
from dev.outcome import summary
from dev.stand_in import BUCKET, KEY, StandIn, environment
from headgate.host.addresses import free_port
from headgate.host.processes import end_with_parent
from headgate.monitor.collect import snapshot
from headgate.settings.load import load
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


class Demo:
    """A spool, a receiver and a stand-in of their own, in a folder that goes again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.ending = threading.Event()
        self.config = folder / "headgate.toml"
        self.config.write_text(SETTINGS.format(port=port))
        self.stand_in = StandIn(folder / "s3")
        ours = {**environment("AWS_", "HEADGATE_"), "HEADGATE_CONFIG": str(self.config)}
        self.receiver = Child("receiver", [str(BIN / "headgate-receiver")], ours)
        self.drains = {**ours, **self.stand_in.variables()}
        self.drain: Child | None = None

    def start(self) -> None:
        """Until both answer; ChildDied if one does not."""
        self.stand_in.wait()
        wait_until_it_listens(self.receiver, "127.0.0.1", self.port)

    def watch(self, *, drain: bool) -> None:
        """Once a moment: is everything alive, and is a drain due."""
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

    def stop(self) -> None:
        """End what still runs, the stand-in last."""
        for child in (self.receiver, self.drain, self.stand_in.child):
            if child is not None:
                child.stop(10)

    def digests(self) -> list[str]:
        """The SHA-256 of every object in the bucket, each fetched and hashed here."""
        client = boto3.client(
            "s3",
            endpoint_url=self.stand_in.endpoint,
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
                if not key.endswith(PROBE)
            ]
        finally:
            client.close()

    def spool(self) -> Spool:
        """The spool, for questions."""
        return Spool.open(load(str(self.config), environment={}))


def post(demo: Demo, cameras: list[Camera]) -> None:
    """Half a minute of it, with drains on their way all the while."""
    threads = [threading.Thread(target=camera.work, args=(demo.ending,)) for camera in cameras]
    for thread in threads:
        thread.start()
    until = time.monotonic() + POSTING_SECONDS
    due = time.monotonic() + DRAIN_EVERY_SECONDS
    try:
        while (left := until - time.monotonic()) > 0 and not demo.ending.wait(0.2):
            images = sum(len(camera.acknowledged) for camera in cameras)
            show(f"{POSTING_SECONDS - left:3.0f} s  {images} images acknowledged")
            is_due = time.monotonic() >= due
            demo.watch(drain=is_due)
            if is_due:
                due += DRAIN_EVERY_SECONDS
    finally:
        demo.ending.set()
        for thread in threads:
            thread.join()
        show("")


def show(text: str) -> None:
    """A line that the next one replaces, on a terminal."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def empty(demo: Demo, spool: Spool) -> None:
    """Drains until nothing waits; ChildDied when that does not come."""
    until = time.monotonic() + EMPTY_SECONDS
    while (waits := _waiting(spool)) or demo.drain is not None:
        if time.monotonic() > until:
            raise ChildDied(f"{waits} images still wait after {EMPTY_SECONDS} s of drains")
        demo.watch(drain=waits > 0)
        time.sleep(0.2)


def _waiting(spool: Spool) -> int:
    totals = spool.catalog.totals()
    return totals.waiting.images + totals.sending.images


def main() -> int:
    end_with_parent(os.getppid())
    here = Path("var").absolute()  # not /tmp, which may be memory: the spool is to be on a disk
    here.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=here) as name:
        port = free_port()
        cameras = fleet(PHOTOGRAPHS, CAMERAS, EVERY_SECONDS, ("127.0.0.1", port))
        demo = Demo(Path(name), port)

        def end(_number: int, _frame: FrameType | None) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            demo.ending.set()
            raise KeyboardInterrupt

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        try:
            demo.start()
            print(f"watch it at http://127.0.0.1:{port}/ while it runs")
            print(
                f"{CAMERAS} cameras post to http://127.0.0.1:{port}/uploadImage for "
                f"{POSTING_SECONDS} s; a drain starts every {DRAIN_EVERY_SECONDS} s"
            )
            post(demo, cameras)
            spool = demo.spool()
            try:
                empty(demo, spool)
                acknowledged = [image for camera in cameras for image in camera.acknowledged]
                refused = [reason for camera in cameras for reason in camera.refused]
                facts = snapshot(spool, runs=1000)
                kept = summary(acknowledged, refused, facts, demo.digests())
            finally:
                spool.close()
        except ChildDied as died:
            print(f"headgate: {died}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nended before its time", file=sys.stderr)
            return 130
        finally:
            demo.stop()
    print("every image arrived once, as it was" if kept else "NOT as promised")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
