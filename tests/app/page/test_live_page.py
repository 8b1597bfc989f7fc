"""The page in a browser that runs scripts: it updates in place, and says when it cannot."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.support.chromium import BROWSER, Page, browsing
from tests.support.paths import PHOTOS
from tests.support.receiver import running

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
LOOK = "document.dispatchEvent(new Event('visibilitychange')) && false"
"""As if the tab had just been looked at again: then it asks at once."""
NAMED = ("link", "button", "image", "searchbox", "combobox", "checkbox", "region", "navigation")
RECEIVED = "document.querySelector('.tile.received b').textContent"


def test_the_page_follows_what_happens_without_being_loaded_anew(tmp_path: Path) -> None:
    image = (PHOTOS / "rocket.jpg").read_bytes()
    with running(tmp_path, spool__keep_free="0B") as receiver, browsing(tmp_path / "b") as page:
        receiver.post_raw(image, X_Device="cam-1")
        page.open(receiver.url)
        assert page.evaluate(RECEIVED) == "1"
        page.evaluate("window.mark = 7; document.querySelector('footer a').focus(); 1")
        assert "updates every 5 s" in page.text

        receiver.post_raw(image + b"\0", X_Device="cam-2")
        page.until(f"{LOOK} || {RECEIVED} === '2'")
        assert "cam-2" in page.text
        assert page.evaluate("window.mark") == 7
        assert page.evaluate("document.activeElement.textContent") == "pause"
        port = receiver.port
        receiver.stop()
        page.until(f"{LOOK} || document.getElementById('stale') !== null")
        assert "The receiver cannot be reached (no answer)" in page.text
        assert page.evaluate(RECEIVED) == "2"
        receiver.flags["receiver.bind"] = f"127.0.0.1:{port}"
        receiver.start()
        receiver.post_raw(image + b"\0\0", X_Device="cam-3")
        page.until(f"{LOOK} || {RECEIVED} === '3'")
        assert page.evaluate("document.getElementById('stale')") is None
        assert page.evaluate("window.mark") == 7
        assert page.evaluate("document.activeElement.textContent") == "pause"


def test_the_wall_keeps_what_is_typed_where_one_is_and_pictures_that_did_not_change(
    tmp_path: Path,
) -> None:
    image = (PHOTOS / "rocket.jpg").read_bytes()
    loaded = "[...document.querySelectorAll('.shot img')].every((one) => one.naturalWidth > 0)"
    with running(tmp_path, spool__keep_free="0B") as receiver, browsing(tmp_path / "b") as page:
        for number in range(9):
            receiver.post_raw(image + b"%d" % number, X_Device=f"cam-{number}")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=360, height=500, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        page.open(receiver.url)
        page.evaluate("for (const one of document.images) one.loading = 'eager'; 1")
        page.until(loaded)
        page.evaluate(
            "document.getElementById('find-name').focus(); document.execCommand('insertText', "
            "false, 'cam-'); window.shot = document.querySelector('.shot img'); "
            "scrollTo(0, 600); window.at = scrollY; 1"
        )
        receiver.post_raw(image + b"new", X_Device="cam-8")
        page.until(f"{LOOK} || {RECEIVED} === '10'")
        assert page.evaluate("document.getElementById('find-name').value") == "cam-"
        assert page.evaluate("document.activeElement.id") == "find-name"
        assert page.evaluate("window.at > 100 && scrollY === window.at")
        assert page.evaluate("document.querySelector('.shot img') === window.shot")
        assert page.evaluate(loaded)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.evaluate("document.querySelector('.find').requestSubmit(); 1")
        page.until("location.search.includes('q=cam-') && document.readyState === 'complete'")
        assert page.evaluate("document.querySelectorAll('.camera').length") == 9
        assert nameless(page) == []
        for link, goes_to in ((".camera a", "/devices/"), (".shots a", "/images/")):
            page.evaluate(f"document.querySelector('{link}').click(); 1")
            page.until(
                f"location.pathname.startsWith('{goes_to}') && document.readyState === 'complete'"
            )
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert nameless(page) == []
        page.until("document.querySelector('.large img')?.naturalWidth > 0")
        for path in ("alerts", "help/device-gaps"):
            page.open(f"{receiver.url}/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert nameless(page) == []


def nameless(page: Page) -> list[str]:
    """What a screen reader could only call by its role."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    return [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node["role"]["value"]
        in ("link", "button", "image", "searchbox", "combobox", "checkbox")
        and not node.get("name", {}).get("value", "").strip()
    ]


def test_a_page_that_was_told_to_stand_still_runs_no_script(tmp_path: Path) -> None:
    with running(tmp_path, spool__keep_free="0B") as receiver, browsing(tmp_path / "b") as page:
        page.open(receiver.url + "?still")
        assert page.evaluate("document.scripts.length") == 0
        assert "Updates are paused" in page.text


def test_without_scripts_the_page_is_whole_and_asks_to_be_loaded_again(tmp_path: Path) -> None:
    with running(tmp_path, spool__keep_free="0B") as receiver, browsing(tmp_path / "b") as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.call("Page.navigate", url=receiver.url)
        page.until("document.readyState === 'complete'")
        assert page.evaluate("document.querySelector('meta[http-equiv=refresh]').content") == "15"
        assert "updates every 15 s" in page.text
        assert "UTC" in page.evaluate("document.querySelector('header time').title")
        assert datetime.now().astimezone().tzname() in page.evaluate(
            "document.querySelector('header time').textContent"
        )
