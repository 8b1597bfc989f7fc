"""Uploads that were refused: counted in memory, written now and then, told in numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.catalog.refused import WINDOW, Counts, Pending
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, open_spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, Clock())
    yield opened
    opened.close()


def told(spool: Spool) -> dict[str, int]:
    return {one.code: one.requests for one in snapshot(spool, latest=0).refused}


def test_what_was_refused_is_told_before_and_after_it_is_written(tmp_path: Path) -> None:
    clock = Clock()
    with contextlib.closing(open_spool(tmp_path, clock)) as spool:
        for code, times in (("disk_full", 5), ("unauthorized", 2)):
            for _ in range(times):
                spool.note_refused(code)
        assert told(spool) == {"disk_full": 5, "unauthorized": 2}
    with contextlib.closing(open_spool(tmp_path, clock)) as spool:
        assert told(spool) == {"disk_full": 5, "unauthorized": 2}
        spool.note_refused("disk_full")
        assert told(spool)["disk_full"] == 6
        clock.at += WINDOW + timedelta(minutes=1)
        assert told(spool) == {}


def test_what_cannot_be_written_is_kept_until_it_can(spool: Spool) -> None:
    pending, now = Pending(), spool.now()

    def fails(_counts: Counts) -> None:
        raise OSError("full")

    pending.note("disk_full", now)
    with pytest.raises(OSError, match="full"):
        pending.write(fails, now)
    pending.note("disk_full", now)
    pending.write(spool.catalog.note_refused, now)
    assert not pending.counts()
    assert told(spool) == {"disk_full": 2}
    pending.write(fails, now)  # there is nothing to write


def test_what_is_no_news_any_more_is_not_written() -> None:
    written: list[Counts] = []
    pending, clock = Pending(), Clock()
    pending.note("disk_full", clock())
    pending.write(written.append, clock() + WINDOW + timedelta(minutes=1))
    assert written == []
    assert not pending.counts()
