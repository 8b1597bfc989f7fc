"""What a run says of its progress is true."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.monitor import collect
from headgate.spool.budget import ledger
from headgate.spool.budget.ledger import Ledger
from headgate.spool.image.image import Count
from headgate.spool.spool import Spool
from tests.support.screen import Screen
from tests.support.spooling import Clock, open_spool, put
from uploader.run.progress import ProgressWatcher, parts_of
from uploader.run.report import Progress
from uploader.wire.pacer import Pacer, Permitted

MIDWAY = Progress(images=1200, bytes=300_000_000)


def said(
    progress: Progress,
    waiting: Count,
    rate: float,
    cap: int,
    seconds: float | None,
    *,
    in_vain: bool = False,
) -> str:
    return "; ".join(parts_of(progress, waiting, rate, cap, seconds, in_vain=in_vain))


def test_it_says_what_went_what_is_left_how_fast_and_how_long() -> None:
    text = said(MIDWAY, Count(2400, 600_000_000), 20_000_000, 40_000_000, 31.0)
    assert text == (
        "empty in 31 s; 1,200 uploaded; 2,400 wait; 20.0 MB/s of 40.0 MB/s; 300 MB of 900 MB"
    )


def test_it_says_when_images_were_set_aside() -> None:
    progress = Progress(images=1, bytes=10, set_aside=3)
    assert "3 set aside" in said(progress, Count(1, 10), 5, 10, 2.0)


def test_it_promises_no_end_while_nothing_moves() -> None:
    assert "nothing is moving" in said(MIDWAY, Count(5, 1000), 0.0, 40_000_000, 9.0)
    assert "nothing is confirmed" in said(MIDWAY, Count(5, 1), 9.0, 40, None, in_vain=True)
    assert "more comes in than goes out" in said(MIDWAY, Count(5, 1000), 9.0, 40, None)


def test_it_says_when_nothing_waits() -> None:
    assert said(Progress(), Count(), 0.0, 40_000_000, None).startswith("empty; ")


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
        assert f"  {images} uploaded  3 wait  " in text
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
    for images in range(3):
        watch.at += 1
        watcher(Progress(images=images, bytes=1500 * images))
    screen = Screen(80)
    screen.write(out.getvalue())
    assert len(screen.rows) == 1 and "2 uploaded  3 wait" in screen.rows[0]
    before = out.tell()
    watcher.close()
    screen.write(out.getvalue()[before:])
    assert screen.rows == [""]
