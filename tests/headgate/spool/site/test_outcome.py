"""Which runs count as a success, and since when attempts have been in vain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.spool import sqlite
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Proof, Run
from headgate.spool.site.site import MIGRATIONS, Site

AT = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path / "site.sqlite3")
    yield opened
    opened.close()


def at(number: int) -> datetime:
    return AT + timedelta(minutes=5 * number)


def ended(number: int, outcome: Outcome, code: int = 0, **more: object) -> Run:
    run = Run(f"run-{number}", at(number), at(number) + timedelta(seconds=9), outcome=outcome)
    return replace(run, exit_code=code, **more)  # type: ignore[arg-type]


def good(number: int) -> Run:
    return ended(number, Outcome.DONE, images=2, attempts=2, confirmed_at=at(number))


def vain(number: int, why: str = "503") -> Run:
    return ended(number, Outcome.NOTHING_CONFIRMED, 6, attempts=2, waiting=2,
                 failing_since=at(number), message=why)  # fmt: skip


def idle(number: int, *, settled: bool) -> Run:
    return ended(number, Outcome.NOTHING_TO_DO, settled=settled, waiting=0 if settled else 2)


def test_nothing_to_do_is_no_success_until_an_image_is_confirmed_again(site: Site) -> None:
    assert site.save_run(good(0)).success
    assert not site.save_run(vain(1)).success
    assert not site.save_run(idle(2, settled=False)).success
    assert not site.save_run(vain(3, "500")).success
    assert not site.save_run(ended(4, Outcome.PAUSED)).success
    assert site.last_success_at() == good(0).ended_at
    assert site.proof() == Proof(at(0), at(1), 2, "500")
    assert site.save_run(good(5)).success
    assert site.proof() == Proof(at(5))
    assert site.save_run(idle(6, settled=False)).success  # its one image waits for its next try
    assert site.last_success_at() == idle(6, settled=False).ended_at


def test_it_ends_as_well_when_no_image_is_left(site: Site) -> None:
    site.save_run(vain(1))
    assert site.save_run(idle(2, settled=True)).success
    assert site.proof() == Proof()


def test_a_run_that_confirmed_and_then_failed_is_a_success_and_the_beginning(site: Site) -> None:
    assert site.save_run(replace(good(1), attempts=3, failing_since=at(2))).success
    assert site.proof() == Proof(at(1), at(2), 0, "")
    assert not site.proof().is_stuck(at(99), 600)  # no whole run was in vain
    assert not site.save_run(vain(2)).success
    proof = site.proof()
    assert (proof.failing_since, proof.fruitless_runs) == (at(2), 1)
    assert not proof.is_stuck(at(4) - timedelta(seconds=1), 600)
    assert proof.is_stuck(at(4), 600)


@pytest.mark.parametrize("code", [1, 5, None])
def test_a_run_that_failed_is_none_whatever_it_confirmed(site: Site, code: int) -> None:
    assert not site.save_run(replace(good(1), exit_code=code)).success
    assert site.last_success_at() is None


def test_a_run_under_way_tells_already(site: Site) -> None:
    site.save_run(good(0))
    site.save_run(replace(vain(1), ended_at=None, exit_code=None, outcome=Outcome.UNDER_WAY))
    assert site.proof().fruitless_runs == 1
    site.end_killed_runs(at(2))
    assert site.proof().failing_since == at(1)


def test_runs_of_an_earlier_version_are_judged_by_what_they_said(tmp_path: Path) -> None:
    path = tmp_path / "site.sqlite3"
    number = next(n for n, script in enumerate(MIGRATIONS) if "failing_since" in script)
    old = sqlite.connect(path, MIGRATIONS[:number], full=True)
    for name, code, images, deferred in (("a", 0, 3, 0), ("b", 0, 0, 4), ("c", 1, 0, 0)):
        old.execute(
            "INSERT INTO runs (id, started_at, ended_at, trigger, outcome, exit_code, images,"
            " deferred) VALUES (?, 5000000, 6000000, 'cron', 'done', ?, ?, ?)",
            (name, code, images, deferred),
        )
    old.close()
    site = Site(path)
    assert [run.success for run in site.runs(3)] == [False, False, True]
    assert site.proof().fruitless_runs == 1
    site.close()


def test_an_outcome_of_another_version_is_no_error(site: Site) -> None:
    assert Outcome.read("paused by the moon") is Outcome.OTHER
    assert [Outcome.read(one.value) for one in Outcome] == list(Outcome)
