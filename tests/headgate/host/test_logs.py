"""The log: one JSON object a line, and never a reason to fail."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator

import pytest

from headgate.host import logs


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    logs.configure()


def test_an_event_is_one_line_whatever_it_says() -> None:
    out = io.StringIO()
    logs.configure(out)
    logs.get().info("image.refused", name='a"\n{"event": "forged"}\x1b[2J')
    (line,) = out.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "image.refused"
    assert event["name"] == 'a"\n{"event": "forged"}\x1b[2J'
    assert event["at"].endswith("Z")
    assert line.isascii()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_loses_lines_and_nothing_else() -> None:
    out = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
    try:
        logs.configure(out, json=True)
        for _ in range(3):
            logs.get().info("image.accepted", size=1)
    finally:
        with pytest.raises(OSError):
            out.close()  # what was never written


def test_a_closed_pipe_is_no_reason_to_fail() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    out = os.fdopen(writer, "w", buffering=1)
    logs.configure(out, json=True)
    logs.get().info("image.accepted", size=1)
    with pytest.raises(OSError):
        out.close()


@pytest.mark.parametrize("as_json", [True, False])
def test_no_log_shows_the_password_of_a_url(as_json: bool) -> None:
    out = io.StringIO()
    logs.configure(out, json=as_json)
    logs.get().info("run.failed", error="no way to https://me:s3cr3t@host/x")
    try:
        raise ValueError("https://me:s3cr3t@host")
    except ValueError:
        logs.get().error("unexpected", exc_info=as_json)
    assert "***@host" in out.getvalue() and "s3cr3t" not in out.getvalue()
