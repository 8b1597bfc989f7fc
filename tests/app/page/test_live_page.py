"""The page in a browser that runs scripts: it updates in place, and says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chromium import BROWSER, browsing
from tests.support.paths import PHOTOS
from tests.support.receiver import running

pytestmark = pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
LOOK = "document.dispatchEvent(new Event('visibilitychange')) && false"
"""As if the tab had just been looked at again: then it asks at once."""
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
