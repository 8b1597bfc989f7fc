"""The log: one JSON object a line, and never a reason to fail."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.host import logs
from tests.support.environment import without_settings
from tests.support.paths import ROOT
from tests.support.wait import SECONDS


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


SHORT = """
import sys
from headgate.host import logs
from tests.support.environment import without_settings
from tests.support.paths import ROOT
from tests.support.wait import SECONDS
logs.configure(level=logs.logging.WARNING, late=True)
logs.get().info("not.wanted")
sys.stdout.write(f"{'structlog' in sys.modules} ")
log = logs.get().bind(run="r1") if sys.argv[1:] else logs.get()
log.warning("wanted", why="a reason")
logs.get().debug("not.wanted")
logs.get().error("wanted.too")
sys.stdout.write(str("structlog" in sys.modules))
"""


@pytest.mark.parametrize("bound", [[], ["bound"]])
def test_a_late_log_writes_what_is_wanted_and_is_imported_only_for_that(bound: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SHORT, *bound],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=SECONDS,
    )  # fmt: skip
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("wanted", "warning"),
        ("wanted.too", "error"),
    ]
    assert lines[0]["why"] == "a reason" and lines[0].get("run") == ("r1" if bound else None)
    assert ran.stdout == "False True"


def test_a_short_command_does_not_import_the_log(tmp_path: Path) -> None:
    """It is a third of what starting one costs."""
    place = f"spool.path={tmp_path / 'none'}"
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "uploader", "--set", place, "status"],
        cwd=ROOT, env=without_settings(), capture_output=True, text=True, check=False,
        timeout=SECONDS,
    )  # fmt: skip
    assert "there is no spool at" in ran.stderr and "headgate.spool" in ran.stderr
    assert "structlog" not in ran.stderr
