"""Counters of all runs: each thing once, whatever a run's end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.site import site as site_module
from headgate.spool.site.runs import TABLES, Run, RunTotals
from headgate.spool.site.site import MIGRATIONS, Site

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
RUN = Run("r1", AT, images=3, bytes=30, wire_bytes=40, failures={"transient": 2})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path / "site.sqlite3")
    yield opened
    opened.close()


def test_a_run_counts_once_however_often_it_is_saved(site: Site) -> None:
    site.save_run(RUN)
    site.save_run(RUN)
    more = replace(RUN, images=5, bytes=50, wire_bytes=70, set_aside=1, deferred=2,
                   failures={"transient": 2, "permanent": 1})  # fmt: skip
    site.save_run(more)
    ended = replace(more, ended_at=AT + timedelta(seconds=8), outcome="done", exit_code=3)
    site.save_run(ended)
    saved = site.save_run(ended)
    assert site.run_totals() == RunTotals(
        5, 50, 70, 1, 2, 8.0, 0, {"transient": 2, "permanent": 1}, {"done": 1}
    )
    assert site.runs(1) == (saved,)
    assert site.last_success_at() == ended.ended_at


def test_a_killed_run_counts_with_what_it_last_said(site: Site) -> None:
    site.save_run(RUN)
    site.end_killed_runs(AT)
    site.skip_run()
    site.skip_run()
    said = site.run_totals()
    assert (said.images, said.outcomes, said.skipped) == (3, {"killed": 1}, 2)
    assert site.last_success_at() is None


def test_counters_outlive_the_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "KEEP_RUNS", 2)
    for number in range(5):
        site.save_run(replace(RUN, id=f"r{number}", ended_at=AT, outcome="failed", exit_code=1))
    assert site.run_totals().images == 15
    assert site.run_totals().outcomes == {"failed": 5}
    assert site.last_success_at() is None


def test_runs_of_an_older_site_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "site.sqlite3"
    old = sqlite.raw(path)
    number = MIGRATIONS.index(TABLES)
    for script in MIGRATIONS[:number]:
        old.execute(script)
    old.execute(f"PRAGMA user_version = {number}")
    for ident, outcome in (("a", "done"), ("b", "done"), ("c", "")):
        old.execute(
            "INSERT INTO runs (id, started_at, ended_at, trigger, outcome, images, bytes) "
            "VALUES (?, 0, ?, 'cron', ?, 2, 20)",
            (ident, 5_000_000 if outcome else None, outcome),
        )
    old.close()
    opened = Site(path)
    try:
        said = opened.run_totals()
        assert (said.images, said.bytes, said.seconds) == (6, 60, 10.0)
        assert said.outcomes == {"done": 2}
    finally:
        opened.close()
