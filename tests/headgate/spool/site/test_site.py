"""What no file stands behind: it stays as it was said, through any number of openings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.image.image import Count
from headgate.spool.site import site
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.site.site import Site

AT = datetime(2026, 11, 23, 16, 4, 5, 678901, UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite3"


@pytest.fixture
def opened(path: Path) -> Iterator[Site]:
    made = Site(path)
    yield made
    made.close()


def test_a_run_is_shown_while_it_runs_and_as_it_ended(opened: Site, path: Path) -> None:
    run = Run("run-1", AT, trigger="cron")
    opened.save_run(run)
    assert opened.runs(10) == (run,)
    ended = replace(
        run,
        ended_at=AT + timedelta(minutes=1),
        outcome=Outcome.DONE,
        exit_code=3,
        images=5,
        bytes=6,
        wire_bytes=7,
        set_aside=8,
        deferred=9,
        message="It went well.",
        attempts=14,
        waiting=2,
        confirmed_at=AT + timedelta(seconds=5),
        failing_since=AT + timedelta(seconds=6),
    )
    saved = opened.save_run(ended)
    assert saved == replace(ended, success=True)
    other = Site(path)
    assert other.runs(10) == (saved,)
    other.close()


def test_runs_come_newest_first(opened: Site) -> None:
    runs = [Run(f"run-{n}", AT - timedelta(hours=n)) for n in range(5)]  # whatever the clock says
    for run in runs:
        opened.save_run(run)
    opened.save_run(replace(runs[0], outcome="done"))  # an end is no new run
    assert [run.id for run in opened.runs(3)] == ["run-4", "run-3", "run-2"]
    assert opened.runs(10)[-1].outcome == "done"


def test_runs_are_not_kept_for_ever(opened: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "KEEP_RUNS", 3)
    for number in range(10):
        opened.save_run(Run(f"run-{number}", AT))
    assert [run.id for run in opened.runs(10)] == ["run-9", "run-8", "run-7"]


def test_a_run_that_was_killed_is_given_an_end(opened: Site) -> None:
    opened.save_run(Run("ended", AT, AT, outcome="done"))
    opened.save_run(Run("killed", AT))
    later = AT + timedelta(minutes=5)
    assert opened.end_killed_runs(later) == 1
    assert opened.end_killed_runs(later) == 0
    killed, ended = opened.runs(10)
    assert (killed.outcome, killed.ended_at) == ("killed", later)
    assert ended == Run("ended", AT, AT, outcome="done")


def test_a_request_is_kept_once_until_it_is_answered(opened: Site, path: Path) -> None:
    opened.add_request("retry", "image-1", AT)
    opened.add_request("retry", "image-2", AT)
    opened.add_request("retry", "image-1", AT + timedelta(seconds=1))
    opened.add_request("hold", "image-1", AT)
    other = Site(path)
    first, second, third = other.requests()
    assert [(r.word, r.image) for r in (first, second, third)] == [
        ("retry", "image-1"),
        ("retry", "image-2"),
        ("hold", "image-1"),
    ]
    other.complete_request(first)
    other.complete_request(third)
    other.close()
    assert opened.requests() == [second]
    opened.add_request("retry", "image-1", AT)
    assert [request.image for request in opened.requests()] == ["image-2", "image-1"]


@pytest.mark.parametrize(
    "value", [0, "", [], {"until": "x", "share": "60%"}, 1.5, "ü\u2028", False]
)
def test_what_is_remembered_comes_back(opened: Site, value: object) -> None:
    assert opened.get("thing") is None
    opened.put("thing", "something else")
    opened.put("thing", value)
    assert opened.get("thing") == value
    assert opened.get("other") is None
    opened.put("thing", None)
    assert opened.get("thing") is None


def test_a_dropped_day_is_counted_once_and_only_when_it_is_gone(opened: Site) -> None:
    opened.forget_day("2026-11-20", Count(5, 500))
    opened.forget_day("2026-11-20", Count(4, 400))  # said again after a kill: part of it is gone
    opened.forget_day("2026-11-21", Count(7, 70))
    assert opened.forgotten(lambda day: False) == Count(12, 570)
    assert opened.forgotten(lambda day: day == "2026-11-21") == Count(5, 500)
    assert opened.forgotten(lambda day: True) == Count()


def test_every_commit_is_flushed(opened: Site) -> None:
    assert opened._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_newer_file_is_refused(path: Path) -> None:
    Site(path).close()
    newer = sqlite.raw(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(SpoolUnsuitable, match=r"site\.sqlite3 was made by a newer Headgate"):
        Site(path)
