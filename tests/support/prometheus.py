"""A Prometheus of one's own, on loopback, that scrapes one receiver."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.wait import wait_until

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed"
)


class Prometheus:
    """Its HTTP API (prometheus.io/docs/prometheus/latest/querying/api)."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that an instant query gives."""
        found = self._get("query", query=query)
        return list(found["result"])

    def await_series(self, query: str) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            with contextlib.suppress(OSError):
                return self.query(query)
            return []

        return wait_until(found, f"a series comes for {query}", every=0.1)

    def _get(self, path: str, **values: str) -> dict[str, Any]:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return dict(document["data"])


@contextlib.contextmanager
def scraping(folder: Path, config: Path, port: int) -> Iterator[Prometheus]:
    """``config`` with its one target replaced by the receiver's port, scraped every second."""
    text, targets = re.subn(r"127\.0\.0\.1:8080", f"127.0.0.1:{port}", config.read_text())
    assert targets == 1
    text = re.sub(r"(?m)^(\s*(?:scrape|evaluation)_interval:) .*", r"\1 1s", text)
    for rules in config.parent.glob("*.rules.yml"):
        shutil.copy(rules, folder)
    (folder / "prometheus.yml").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as found:
        own = found.getsockname()[1]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{own}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(own)
    finally:
        process.terminate()
        process.wait(60)
