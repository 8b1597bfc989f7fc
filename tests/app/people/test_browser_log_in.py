"""A person logs in and pauses uploads by keyboard alone, in a browser that runs no script."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chromium import BROWSER, Page, browsing
from tests.support.people import PASSWORD
from tests.support.receiver import Receiver, site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="chromium is not installed"),
]


def press(page: Page, key: str, text: str = "") -> None:
    code = {"Tab": 9, "Enter": 13}[key]
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                  windowsVirtualKeyCode=code)  # fmt: skip


def write(page: Page, text: str) -> None:
    page.call("Input.insertText", text=text)


def test_no_script_and_no_mouse_is_needed(desk: Receiver, tmp_path: Path) -> None:
    with browsing(tmp_path) as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.open(f"{desk.url}/operate")
        page.until("location.pathname === '/login' && document.activeElement.id === 'name'")
        write(page, "otto")
        press(page, "Tab")
        write(page, "not the password at all")
        press(page, "Enter", "\r")
        page.until("document.querySelector('[role=alert]') !== null")
        page.until("document.activeElement.id === 'password'")  # the name is still there
        write(page, PASSWORD)
        press(page, "Enter", "\r")
        page.until("location.pathname === '/operate' && document.getElementById('pause-for')"
                   " !== null")  # fmt: skip
        page.evaluate("document.getElementById('pause-for').focus()")
        write(page, "8h")
        press(page, "Tab")
        write(page, "work on the line")
        press(page, "Enter", "\r")
        page.until("document.querySelector('.said[role=status]') !== null")
        assert "Uploads are paused until" in page.text and "work on the line" in page.text
        cookie = page.call("Network.getCookies", urls=[desk.url])["cookies"][0]
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (
            "headgate", True, "Lax",
        )  # fmt: skip
    with site(desk) as opened:
        (line,) = [one for one in opened.audit.entries(who="otto") if "work on" in one.detail]
    assert line.address == "127.0.0.1"
