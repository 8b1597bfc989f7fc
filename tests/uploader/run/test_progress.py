"""The progress line: true, and never wider than the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.monitor import collect
from headgate.spool.budget import ledger
from headgate.spool.budget.ledger import Ledger
from headgate.spool.image.image import Count
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool, put
from uploader.run.progress import ProgressWatcher, line
from uploader.run.report import Progress
from uploader.wire.pacer import Pacer, Permitted

MIDWAY = Progress(images=1200, bytes=300_000_000)


def test_it_says_what_went_what_is_left_how_fast_and_how_long() -> None:
    text = line(MIDWAY, Count(2400, 600_000_000), 20_000_000, 40_000_000, 31.0, 200)
    assert "1200 uploaded, 2400 wait" in text
    assert "300 MB of 900 MB" in text
    assert "20.0 MB/s of 40.0 MB/s" in text
    assert "empty in 31 s" in text
    assert "[#######             ]" in text
    assert "set aside" not in text


def test_it_says_when_images_were_set_aside() -> None:
    progress = Progress(images=1, bytes=10, set_aside=3)
    assert "3 set aside" in line(progress, Count(1, 10), 5, 10, 2.0, 200)


def test_it_promises_no_end_while_nothing_moves() -> None:
    assert "nothing is moving" in line(MIDWAY, Count(5, 1000), 0.0, 40_000_000, 9.0, 200)
    assert "nothing is confirmed" in line(MIDWAY, Count(5, 1), 9.0, 40, None, 200, in_vain=True)
    assert "more comes in than goes out" in line(MIDWAY, Count(5, 1000), 9.0, 40, None, 200)


def test_it_says_when_nothing_waits() -> None:
    text = line(Progress(), Count(), 0.0, 40_000_000, None, 200)
    assert "empty" in text and f"[{'#' * 20}]" in text


@settings(deadline=None)
@given(
    st.builds(
        Progress,
        images=st.integers(0, 10**7),
        bytes=st.integers(0, 10**13),
        set_aside=st.integers(0, 10**4),
    ),
    st.integers(0, 10**7),
    st.integers(0, 10**13),
    st.floats(0, 10**10),
    st.integers(0, 10**10),
    st.none() | st.floats(-10, 10**9),
    st.integers(1, 250),
)
def test_it_fits_on_one_line_of_any_width(
    progress: Progress,
    images: int,
    size: int,
    rate: float,
    cap: int,
    seconds: float | None,
    width: int,
) -> None:
    text = line(progress, Count(images, size), rate, cap, seconds, width)
    assert 0 < len(text) <= width and text.isprintable()
    if width >= 140:
        bar = re.search(r"\[(#*) *\]", text)
        total = progress.bytes + size
        if bar and total:
            assert abs(len(bar[1]) / 20 - progress.bytes / total) <= 0.5 / 20 + 1e-9


# -- over a real spool and a real pacer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Stopwatch:
    at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, Clock())  # two forecasts are to be of one moment
    for number in range(3):
        put(opened, bytes([number]) * 1000)
    yield opened
    opened.close()


@pytest.fixture
def pacer(spool: Spool) -> Iterator[Pacer]:
    book = Ledger(spool.files.state / "ledger", 300, ledger.boottime)
    yield Pacer(book, lambda: Permitted(1_000_000))
    book.close()


def leaves(pacer: Pacer, size: int) -> None:
    while size:
        permit = pacer.take(size)
        pacer.wrote(permit, permit.size)
        size -= permit.size


def test_elsewhere_than_on_a_terminal_it_says_a_line_every_ten_seconds(
    spool: Spool, pacer: Pacer
) -> None:
    out, watch = io.StringIO(), Stopwatch()
    watcher = ProgressWatcher(spool, pacer, out, watch)
    for second in range(1, 31):
        watch.at = 100.0 + second
        if second == 5:
            leaves(pacer, 5000)
        watcher(Progress(images=second))
    watcher.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    for text, images in zip(lines, (10, 20, 30), strict=True):
        assert f"] {images} uploaded, 3 wait  " in text
    assert "500 B/s of 1.0 MB/s" in lines[0]  # over the last ten seconds
    assert "0 B/s" in lines[2] and "nothing is moving" in lines[2]
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()


def test_the_time_to_empty_is_the_forecast_that_all_are_told(spool: Spool, pacer: Pacer) -> None:
    """Of 3 kB, 500 B/s: less what comes in, of which the page and the metrics know as well."""
    out, watch = io.StringIO(), Stopwatch()
    watcher = ProgressWatcher(spool, pacer, out, watch)
    watch.at += 10
    leaves(pacer, 5000)
    watcher(Progress(images=1))
    empty = collect.forecast(spool, measured=500.0).empty
    assert empty is not None
    seconds = (empty.at - spool.now()).total_seconds()
    assert re.search(rf"empty in ({round(seconds)}|{round(seconds) + 1}) s", out.getvalue())


def test_on_a_terminal_it_rewrites_one_line_and_clears_it(spool: Spool, pacer: Pacer) -> None:
    out, watch = Terminal(), Stopwatch()
    watcher = ProgressWatcher(spool, pacer, out, watch)
    for _ in range(3):
        watch.at += 1
        watcher(Progress())
    assert out.getvalue().count("\r\x1b[K") == 3 and "\n" not in out.getvalue()
    watcher.close()
    assert out.getvalue().endswith("\r\x1b[K")
