"""docs/page.png: the status page of a busy site, in headless Chromium.

Twenty cameras really post, and runs really carry their images to the stand-in. The day before is
made up at the owner's rate, with an uplink that was down for two hours: nobody waits a day for it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from PIL import Image

from dev.camera import Camera, fleet
from dev.demo import DRAIN_EVERY_SECONDS, OwnSite
from headgate.spool.catalog import traffic
from headgate.spool.catalog.schema import MIGRATIONS
from headgate.spool.image.image import Count
from headgate.spool.spool import Spool
from headgate.spool.sqlite import connect, transaction
from headgate.spool.upkeep.mover import Mover

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "page.png"
CAMERAS = 20
SECONDS = 40
WIDTH, HEIGHT = 1100, 1190
COLOURS = 128  # of the page's few; the small pictures lose a little
PER_MINUTE = Count(2000, 500_000_000)
CATCHES_UP = Count(9600, 2_400_000_000)
DOWN = range(14 * 60, 16 * 60)  # minutes of the made-up day


def make() -> str:
    """Make the picture; returns a sentence about it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return "no chromium: docs/page.png stays as it is"
    below = ROOT / "var"
    below.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="docs-", dir=below) as name:
        folder = Path(name)
        site = OwnSite(folder)
        cameras = fleet(ROOT / "docs" / "photos", CAMERAS, 0.6, ("127.0.0.1", site.port))
        try:
            site.start()
            with closing(site.spool()) as spool:
                _day_before(spool)
            _post(site, cameras)
            with closing(site.spool()) as spool:
                _set_one_aside(spool)
            _take(
                browser,
                folder / "profile",
                f"http://127.0.0.1:{site.port}/?still",
                folder / "a.png",
            )
        finally:
            site.stop()
        with Image.open(folder / "a.png") as taken:
            _cropped(taken.convert("RGB")).quantize(COLOURS).save(FILE, optimize=True)
    return f"updated: docs/page.png ({FILE.stat().st_size // 1024} KiB)"


def _post(site: OwnSite, cameras: list[Camera]) -> None:
    ending = threading.Event()
    threads = [threading.Thread(target=one.work, args=(ending,)) for one in cameras]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + SECONDS
    due = time.monotonic()
    while time.monotonic() < ends:
        is_due = time.monotonic() >= due
        site.watch(drain=is_due)
        due += DRAIN_EVERY_SECONDS if is_due else 0
        time.sleep(0.2)
    ending.set()
    for thread in threads:
        thread.join()


def _day_before(spool: Spool) -> None:
    now = spool.now()
    file = spool.path / "state" / "catalog.sqlite3"
    with closing(connect(file, MIGRATIONS, full=False)) as db, transaction(db):
        waits = 0
        for minute in range(24 * 60 - 1):
            at = now - timedelta(minutes=24 * 60 - minute)
            busy = 1.25 if 7 <= at.hour < 18 else 0.6
            came = int(PER_MINUTE.images * busy)
            traffic.received(db, at, _count(came))
            waits += came
            if minute not in DOWN:
                gone = min(waits, CATCHES_UP.images)
                traffic.uploaded(db, at, _count(gone))
                traffic.sent(db, at, _count(gone).bytes)
                waits -= gone


def _count(images: int) -> Count:
    return Count(images, images * (PER_MINUTE.bytes // PER_MINUTE.images))


def _set_one_aside(spool: Spool) -> None:
    for item in spool.catalog.after(0, 1):
        with spool.hold_drain_lock("the picture of the page", 15) as lock:
            why = "its file changed since it was received"
            Mover(spool, lock).set_aside(item, why, spool.now())


def _take(browser: str, profile: Path, url: str, file: Path) -> None:
    subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={profile}", "--hide-scrollbars",
         f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=8000",
         f"--screenshot={file}", url],
        check=True, timeout=90, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _cropped(taken: Image.Image) -> Image.Image:
    """The picture without the empty area below the page."""
    last = taken.height
    empty = taken.getpixel((2, taken.height - 1))
    while last > 1:
        line = taken.crop((0, last - 1, taken.width, last))
        if line.getcolors(1) != [(taken.width, empty)]:
            break
        last -= 1
    return taken.crop((0, 0, taken.width, min(taken.height, last + 24)))
