"""Headless Chromium, driven by its DevTools protocol over a pipe
(https://chromedevtools.github.io/devtools-protocol/): messages are JSON, each ended by a NUL."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.wait import readable, wait_until

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)
PATIENCE = 60.0


class Page:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._held = 0, b""
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of one command; AssertionError if the browser refuses it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._held:
            assert readable(self._back, until - time.monotonic()), "Chromium says nothing"
            piece = os.read(self._back, 1 << 20)
            assert piece, "Chromium ended"
            self._held += piece
        message, _, self._held = self._held.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, url: str) -> None:
        """Go there, and wait until the page and its scripts are loaded."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until it is true; AssertionError after a minute."""
        wait_until(
            lambda: self.evaluate(expression), expression, PATIENCE, detail=lambda: self.text
        )

    @property
    def text(self) -> str:
        return str(self.evaluate("document.body.innerText"))


@contextlib.contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """A browser with one tab, for as long as the context lasts."""
    commands, to = os.pipe()
    back, events = os.pipe()

    def wire() -> None:  # Chromium reads 3 and writes 4
        reads, writes = os.dup(commands), os.dup(events)
        os.dup2(reads, 3)
        os.dup2(writes, 4)

    process = subprocess.Popen(
        [str(BROWSER), *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(3, 4),
        preexec_fn=wire,
    )
    os.close(commands)
    os.close(events)
    try:
        yield Page(to, back)
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(to)
        os.close(back)
