"""The page in headless Chromium: inside a phone's width, in the dark."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from headgate.monitor.collect import snapshot
from headgate.spool.site.alerts import Alert
from headgate.spool.spool import RETRY, Spool
from headgate.spool.upkeep.mover import Mover
from tests.support.chromium import BROWSER, FLAGS
from tests.support.paths import PHOTOS
from tests.support.receiver import Receiver, running
from tests.support.spooling import settings_for

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver with something to show, to this machine itself."""
    folder = tmp_path_factory.mktemp("busy")
    image = (PHOTOS / "rocket.jpg").read_bytes()
    with running(folder, spool__keep_free="0B", receiver__auth="open") as receiver:
        settings = settings_for(folder, spool__path=str(receiver.spool))
        with closing(Spool.open(settings, create=False, probe=False)) as spool:
            (token,) = spool.site.devices.add(["c" * 64], spool.now(), urgent=False)
            for number in range(5):
                bearer = f"Bearer {token.secret}"
                assert receiver.post_raw(image + b"%d" % number, Authorization=bearer).status == 201
            alert = Alert(
                "uplink_down", "", "x" * 200, spool.now(), told=True, told_at=(spool.now(),)
            )
            spool.site.alerts.change(lambda _alerts, _silences: ((alert,), ()), ())
            (item, *_) = spool.catalog.after(0, 1)
            with spool.hold_drain_lock("a test", 0) as lock:
                Mover(spool, lock).set_aside(item, "arn:" + "y" * 300, spool.now())
        yield receiver


def chromium(profile: Path, *words: str) -> str:
    ran = subprocess.run(
        [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ran.stdout


def address(receiver: Receiver) -> str:
    return f"{receiver.url}/?still"


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_stands_out_of_a_phone(busy: Receiver, tmp_path: Path, dark: bool) -> None:
    shot = tmp_path / "page.png"
    chromium(
        tmp_path / "profile", "--window-size=360,3000", f"--screenshot={shot}",
        *(DARK if dark else ()), address(busy),
    )  # fmt: skip
    with Image.open(shot) as image:
        right = image.convert("RGB").crop((image.width - 6, 0, image.width, image.height))
    colours = right.getcolors()
    assert image.width == 360
    assert colours is not None and len(colours) == 1  # the margin, and nothing in it
    assert (sum(colours[0][1]) < 3 * 64) == dark


def test_a_page_of_another_site_cannot_press_the_button(busy: Receiver, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, spool__path=str(busy.spool))
    with closing(Spool.open(settings, create=False, probe=False)) as spool:
        (aside,) = snapshot(spool).aside
        where = address(busy).replace("?still", f"images/{aside.id}/retry")
        page = tmp_path / "evil.html"
        page.write_text(f'<form method="post" action="{where}"></form>'
                        "<script>document.forms[0].submit()</script>")  # fmt: skip
        shown = chromium(
            tmp_path / "profile", "--virtual-time-budget=10000", "--dump-dom", page.as_uri()
        )
        assert "another site" in shown
        assert [one for one in spool.site.requests() if one.word == RETRY] == []
