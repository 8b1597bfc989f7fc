"""Drains that were asked for: kept before anybody is told, carried out once, and told of after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.spool.site.jobs import KEEP_JOBS, Job, Jobs, TooManyJobs, new_id, served_by
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.site.site import Site
from tests.support.spooling import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.sqlite3"


@pytest.fixture
def jobs(path: Path) -> Iterator[Jobs]:
    site = Site(path)
    yield site.jobs
    site.close()


def job(clock: Clock, **of: object) -> Job:
    return replace(Job(new_id(), "http", "cloud", clock.at), **of)  # type: ignore[arg-type]


def run(clock: Clock, id_: str = "run-1", **of: object) -> Run:
    return replace(Run(id_, clock.at, trigger="queue"), **of)  # type: ignore[arg-type]


def state(jobs: Jobs, asked: Job) -> str:
    found = jobs.get(asked.id)
    assert found is not None
    return found.state


def test_a_job_is_kept_as_it_was_asked_for(jobs: Jobs, path: Path, clock: Clock) -> None:
    asked = jobs.ask(job(clock, device="cam-7", max_seconds=60, max_bytes=10**6), 6)
    other = Site(path)
    assert other.jobs.get(asked.id) == asked
    assert other.jobs.queued() == [asked]
    other.close()
    assert jobs.get("nonsense") is None


def test_a_run_carries_out_all_that_wait_and_each_goes_as_the_run_did(
    jobs: Jobs, clock: Clock
) -> None:
    asked = [jobs.ask(job(clock, device=name), 6) for name in ("", "cam-7")]
    report = run(clock)
    jobs.take_up(report, bounded=False)
    assert [state(jobs, one) for one in asked] == ["running", "running"]
    assert jobs.queued() == []
    clock.advance(minutes=1)
    ended = replace(report, ended_at=clock.at, outcome="done", exit_code=3, images=5, bytes=6,
                    wire_bytes=7, set_aside=8, deferred=9, message="Well.",
                    success=True)  # fmt: skip
    jobs.finish(ended)
    assert jobs.get(asked[1].id) == replace(
        asked[1], state="done", run="run-1", started_at=report.started_at, ended_at=clock.at,
        outcome="done", exit_code=3, images=5, bytes=6, wire_bytes=7, set_aside=8, deferred=9,
        message="Well.", succeeded=True,
    )  # fmt: skip


def test_a_run_for_less_than_all_carries_out_its_own_job_alone(jobs: Jobs, clock: Clock) -> None:
    own, other = jobs.ask(job(clock, device="cam-7"), 6), jobs.ask(job(clock), 6)
    jobs.take_up(run(clock), own.id, bounded=True)
    assert (state(jobs, own), state(jobs, other)) == ("running", "queued")


def test_a_job_whose_run_was_killed_waits_again_and_one_that_is_done_does_not(
    jobs: Jobs, clock: Clock
) -> None:
    done, killed = jobs.ask(job(clock, device="a"), 6), jobs.ask(job(clock, device="b"), 6)
    jobs.take_up(run(clock), done.id, bounded=True)
    jobs.finish(run(clock, ended_at=clock.at, outcome="done"))
    jobs.take_up(run(clock, "run-2"), killed.id, bounded=True)
    jobs.take_up(run(clock, "run-3"), bounded=False)  # the next holder of the lock
    found = jobs.get(killed.id)
    assert found is not None
    assert (found.state, found.run) == ("running", "run-3")
    jobs.finish(run(clock, "run-2", ended_at=clock.at, outcome="late"))  # a ghost changes nothing
    assert state(jobs, killed) == "running"
    assert state(jobs, done) == "done"


def test_who_asks_again_while_it_waits_gets_the_same_job(jobs: Jobs, clock: Clock) -> None:
    first = jobs.ask(job(clock), 1)
    assert [jobs.ask(job(clock), 1).id for _ in range(5)] == [first.id] * 5
    assert len(jobs.queued()) == 1


def test_no_more_than_so_many_a_minute(jobs: Jobs, clock: Clock) -> None:
    for name in ("a", "b", "c"):
        jobs.ask(job(clock, device=name), 3)
        clock.advance(seconds=10)
    with pytest.raises(TooManyJobs) as refused:
        jobs.ask(job(clock, device="d"), 3)
    assert refused.value.wait_seconds == 30
    clock.advance(seconds=29)
    with pytest.raises(TooManyJobs):
        jobs.ask(job(clock, device="d"), 3)
    clock.advance(seconds=1)
    jobs.ask(job(clock, device="d"), 3)
    clock.advance(days=-1)  # a clock that was set back refuses nobody for a day
    jobs.ask(job(clock, device="e"), 3)


def test_a_message_is_known_again_and_its_drains_are_counted(jobs: Jobs, clock: Clock) -> None:
    message = job(clock, way="queue")
    for _ in range(3):
        found = jobs.delivered(message)
        jobs.begun(found)
    assert found.starts == 2
    ended = jobs.end(message, clock.at, "already running", "run-7 is at it", "run-7")
    assert jobs.get(message.id) == replace(ended, starts=3)
    jobs.end(message, clock.at, "later", "and in vain")
    found = jobs.delivered(message)
    assert (found.state, found.outcome, found.starts) == ("done", "already running", 3)


def test_old_ones_are_forgotten_and_what_waits_is_not(jobs: Jobs, clock: Clock) -> None:
    waits = jobs.ask(job(clock), 10**6)
    first = jobs.delivered(job(clock, way="queue"))
    jobs.end(first, clock.at, "done", "")
    for _ in range(KEEP_JOBS):
        jobs.delivered(job(clock, way="queue"))
    assert jobs.get(first.id) is None
    assert jobs.get(waits.id) is not None
    assert (clock.at - waits.asked_at) < timedelta(seconds=1)


def test_a_job_whose_run_was_stopped_waits_again(jobs: Jobs, clock: Clock) -> None:
    asked = jobs.ask(job(clock), 6)
    jobs.take_up(run(clock), bounded=False)
    jobs.finish(run(clock, ended_at=clock.at, outcome="stopped", images=3))
    assert jobs.get(asked.id) == asked


def test_a_run_that_left_images_waiting_has_served_nobody(clock: Clock) -> None:
    asked = job(clock)
    ended = run(clock, ended_at=clock.at, outcome=Outcome.NOTHING_TO_DO)
    assert served_by(asked, [ended]) is ended
    assert served_by(asked, [replace(ended, waiting=2)]) is None
    assert served_by(asked, [replace(ended, outcome=Outcome.NOTHING_CONFIRMED)]) is None
