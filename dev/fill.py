"""Fills a spool with cameras and their pictures in seconds, to look at the page.

``python -m dev.fill FOLDER --cameras 1000 [--images 4] [--broken]``; then
``headgate-receiver --set spool.path=FOLDER/spool --set receiver.auth=open``: its cameras have
tokens, so the page would need a log-in. The pictures are those of docs/photos, tinted so that
cameras can be told apart. ``--broken`` makes some cameras silent, others troubled, sets
images aside and drops the local copies of some.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image, ImageEnhance

from headgate.settings.settings import combine
from headgate.spool.catalog.device_stats import ClockReading
from headgate.spool.image.image import Metadata, Remarks, Sent
from headgate.spool.image.names import device_name
from headgate.spool.site.alerts import Alert
from headgate.spool.site.labels import Label
from headgate.spool.spool import Spool
from headgate.spool.upkeep.mover import Mover

PHOTOS = Path(__file__).resolve().parents[1] / "docs" / "photos"
PLACES = ("Front Door", "Loading Dock", "Yard", "Gate North", "Kühlraum", "Entrée", "倉庫", "Silo",
          "Roof", "Hall")  # fmt: skip
GROUPS = ("North", "South", "Depot")
STEP = timedelta(minutes=5)


@dataclass
class Then:
    """A clock that is set by hand."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at


def names(cameras: int) -> list[str]:
    """What the cameras call themselves, in the form that names of files have."""
    plain = [
        f"{PLACES[number % len(PLACES)]} {number // len(PLACES) + 1}" for number in range(cameras)
    ]
    return [device_name(name) for name in plain]


def pictures(chance: random.Random) -> Iterator[bytes]:
    """Small photographs, no two alike, for ever."""
    sources = []
    for path in sorted(PHOTOS.iterdir()):
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as photo:
                photo.thumbnail((640, 480))
                sources.append(photo.convert("RGB"))
    number = 0
    while True:
        number += 1
        image = ImageEnhance.Color(chance.choice(sources)).enhance(chance.uniform(0.2, 1.6))
        image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.5, 1.3))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=70, comment=b"%d" % number)
        yield out.getvalue()


def _put(spool: Spool, device: str, data: bytes, sequence: int, clock: float, warning: str) -> None:
    with spool.incoming() as incoming:
        incoming.write(data)
        remarks = Remarks((warning,) if warning else ())
        meta = Metadata(incoming.sha256, incoming.size, "image/jpeg", f"{sequence:05}.jpg",
                        sequence=sequence, tags={"site": "north"}, remarks=remarks)  # fmt: skip
        reading = ClockReading(clock, exact=True)
        spool.accept(incoming, device, meta, reading)


def fill(folder: Path, cameras: int, images: int, *, broken: bool, seed: int = 1) -> None:
    """Make the spool below ``folder``."""
    chance, now = random.Random(seed), Then(datetime.now(UTC))
    settings = combine(
        None, None, {}, {"spool.path": str(folder / "spool"), "spool.keep_free": "0B"}, folder
    )
    small, devices = pictures(chance), names(cameras)
    until = datetime.now(UTC)
    now.at = until - STEP * (images + 1)
    with closing(Spool.open(settings, now=now)) as spool:
        spool.site.devices.add(devices, now.at, urgent=False)
        for number, device in enumerate(devices):
            if cameras > 1:
                spool.site.labels.put(device, Label(group=GROUPS[number % len(GROUPS)]))
        if broken and devices:
            spool.site.devices.add([device_name("Never Mounted")], now.at, urgent=False)
        for turn in range(images):
            for number, device in enumerate(devices):
                bad = broken and number % 7 == 3
                if bad and number % 2 and turn > images // 3:
                    continue  # it fell silent
                sequence = turn * 4 if bad and number % 3 == 0 else turn
                clock = 95.0 if broken and number % 14 == 4 else 0.2
                warning = "The end of the image is missing." if bad and turn == 0 else ""
                late = timedelta(seconds=number * 120 / cameras)
                now.at = until - STEP * (images - turn) + late
                _put(spool, device, next(small), sequence, clock, warning)
        now.at = until
        _finish(spool, broken=broken)


def _finish(spool: Spool, *, broken: bool) -> None:
    items = spool.catalog.after(0, 100_000)
    third = len(items) // 3
    with spool.hold_drain_lock("dev.fill", 0) as lock:
        mover = Mover(spool, lock)
        spool.catalog.claim(items[:third])
        mover.finish(
            [(one, Sent("north", f"site/{one.name.device}/{one.name.file}", "etag"))
             for one in items[:third]],
            spool.now(),
        )  # fmt: skip
        if broken:
            for one in items[third : third + 5]:
                mover.set_aside(one, "AccessDenied: this role may not write this key", spool.now())
            mover.prune(spool.now() + timedelta(days=365))
    if broken:
        began = spool.now() - timedelta(minutes=42)
        alert = Alert(
            "uplink-down",
            "",
            "The uplink is down: no route to host.",
            began,
            told=True,
            told_at=(began,),
        )
        spool.site.alerts.change(lambda _alerts, _silences: ((alert,), ()), ())


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("folder", type=Path)
    words.add_argument("--cameras", type=int, default=60)
    words.add_argument("--images", type=int, default=12, help="of each camera, five minutes apart")
    words.add_argument("--broken", action="store_true", help="with silences, gaps and alerts")
    asked = words.parse_args()
    fill(asked.folder, asked.cameras, asked.images, broken=asked.broken)


if __name__ == "__main__":
    main()
