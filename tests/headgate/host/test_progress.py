"""The progress of a command: one line of a real terminal, whatever is written between."""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.host.progress import Line, above, counted_parts, layout
from tests.support.paths import ROOT
from tests.support.screen import Screen, on_terminal

PROGRAM = """
import sys
from headgate.host import logs, progress
from uploader.cli.main import print_text

progress._DELAY_SECONDS = 0  # none waits for it here
logs.configure()
log = logs.get()
with progress.shown() as shown:
    for part in ("files", "others"):
        shown.begin(part, 4_000_000, of_bytes=True)
        for number in range(4):
            shown.step(1_000_000)
            log.warning(f"{part}.{number}")
            print_text(f"{part} {number}: told")
progress._DELAY_SECONDS = 3600  # what is waited for is said at once
with progress.shown() as shown:
    shown.begin("pictures", 4)
    shown.waits("no answer")
progress._DELAY_SECONDS = 0
with progress.shown() as shown:
    shown.begin("pictures", 4)
    shown.waits("no room")
    shown.step()
with progress.shown() as shown:
    shown.begin("found")  # no one knows of how many
    shown.step(7)
    print_text("counted")
if progress.can_show(sys.stderr):
    line = progress.Line(sys.stderr)
    line.say(1, 4, ["empty in 31 s", "1,200 uploaded", "2,400 wait", "20.0 MB/s of 40.0 MB/s"])
    print_text("drained", err=True)
    line.close()
print_text("tqdm" in sys.modules and "shown" or "not shown")
"""
TOLD = [f"{part} {number}: told" for part in ("files", "others") for number in range(4)]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_lines_in_between_stay_whole_and_the_bar_is_one_line_and_goes(columns: int) -> None:
    code, wrote = on_terminal([sys.executable, "-c", PROGRAM], columns)
    assert code == 0, wrote
    screen = Screen(columns)
    screen.write(wrote)
    rows = screen.rows
    assert rows[-4:] == ["counted", "drained", "shown", ""]
    assert [row for row in rows if row.endswith("told")] == TOLD
    whole = "".join(rows)  # a line of the log is longer than the terminal is wide, and wraps
    for number in range(4):
        assert f"files.{number}" in whole and f"others.{number}" in whole
    assert "%" not in whole  # nothing of the bar is left
    bars = {row for row in screen.seen if "%" in row}
    assert any(bar.startswith(" 25%") and "files" in bar for bar in bars), bars
    assert any("1.0 MB of 4.0 MB" in bar for bar in bars) == (columns > 20)
    assert any("empty in 31 s" in bar for bar in bars), bars
    assert any("waiting: no" in bar for bar in bars), bars
    assert any("waiting: no room" in bar for bar in bars) == (columns > 20), bars
    assert any(bar.startswith(" 25%") and "waiting" not in bar and "1 of 4" in bar for bar in bars)
    assert any("uploaded" in bar for bar in bars) == (columns > 20)
    assert any("|" in bar for bar in bars if "files" in bar) == (columns == 80)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_it_is_not_shown_on_a_dumb_terminal_and_has_no_colour(environment: dict[str, str]) -> None:
    code, wrote = on_terminal([sys.executable, "-c", PROGRAM], 80, environment)
    assert code == 0 and "\x1b" not in wrote
    dumb = "TERM" in environment
    assert ("not shown" in wrote) == dumb
    assert ("%" in wrote) == (not dumb)


GONE = """
import contextlib, os, signal, sys
from headgate.host import logs, progress

signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
progress._DELAY_SECONDS = 0
logs.configure()
with progress.shown() as shown:
    shown.begin("files", 4)
    shown.step()
    logs.get().warning("seen")
    os.write(1, b"ready\\n")
    with contextlib.suppress(OSError):
        sys.stdin.readline()  # until the terminal has gone
    shown.step()
    logs.get().warning("not seen")
    line = progress.Line.bar
    assert line is not None and line.n == 2
    shown.begin("others", 4)
    shown.step()
os.write(int(sys.argv[1]), b"went on")
"""


def test_a_terminal_that_goes_away_ends_no_task() -> None:
    ours, theirs = pty.openpty()
    reads, writes = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", GONE, str(writes)], stdin=theirs, stdout=theirs, stderr=theirs,
        cwd=ROOT, env={**os.environ, "TERM": "xterm"}, pass_fds=[writes],
    ):  # fmt: skip
        os.close(theirs)
        os.close(writes)
        said = b""
        while b"ready" not in said:
            said += os.read(ours, 4096)
        os.close(ours)
        with os.fdopen(reads, "rb") as told:
            assert told.read() == b"went on"


class Full(io.StringIO):
    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_written_ends_no_task() -> None:
    line = Line(Full())
    line.say(1, 2, ["empty in 31 s"])
    with above():
        pass
    line.say(2, 2, ["empty"])
    line.close()
    assert Line.bar is None


@given(st.lists(st.text(max_size=40), min_size=1), st.integers(1, 200), st.booleans())
def test_what_is_said_fits_and_the_first_part_is_said(
    parts: list[str], columns: int, percent: bool
) -> None:
    text = layout(parts, columns, percent=percent).format(bar="#", percentage=25.0)
    assert len(text) <= max(columns, 6)
    if len(parts[0]) <= columns - 5:
        assert parts[0] in text


def test_it_promises_no_end_before_a_step_was_done() -> None:
    assert counted_parts("days", 0, 10, 1.0) == ["0 of 10", "days"]
    assert counted_parts("days", 5, 10, 60.0) == ["5 of 10", "days", "1 min left"]
    assert counted_parts("days", 1234, None, 60.0) == ["1,234", "days"]
