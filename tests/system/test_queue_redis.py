"""The job queue on a real Redis with real workers: killed, repeated, cut off, stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headgate.host.exit_codes import Exit
from headgate.spool.site.jobs import Job, new_id
from tests.support.counting_proxy import most_in
from tests.support.gateway import Gateway, counted, slack
from tests.support.queueing import (
    Redis,
    Worker,
    drain_pid,
    needs_queue,
    needs_redis,
    working,
)
from tests.support.s3_server import Place
from tests.support.wait import wait_for_exit, wait_until
from uploader.queue.celery_config import MOST_DELIVERIES
from uploader.queue.message import envelope

pytestmark = [needs_queue, needs_redis]

QUEUE = "headgate-north"
SLOW = {"link": "300kB/s", "share": "100%"}
VISIBILITY_SECONDS = 120  # an interval of a minute, and the slack


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    started = Redis(tmp_path / "redis").start()
    yield started
    started.stop()


@pytest.fixture
def gateway(tmp_path: Path, place: Place, redis: Redis) -> Iterator[Gateway]:
    made = Gateway(tmp_path, place)
    configure(made, redis)
    yield made
    made.spool.close()


def configure(gateway: Gateway, redis: Redis, endpoint: str = "", **uplink: Any) -> None:
    gateway.write(
        endpoint=endpoint,
        uplink={"trigger": "queue", "interval": "1min", **uplink},
        queue={"broker": redis.url},
    )


def message(job: str = "", **wish: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return envelope(QUEUE, job or new_id(), sender="test", asked_at=now, **wish)


def id_of(sent: dict[str, Any]) -> str:
    return str(sent["headers"]["id"])


def job(gateway: Gateway, sent: dict[str, Any]) -> Job | None:
    return gateway.spool.site.jobs.get(id_of(sent))


def done(gateway: Gateway, sent: dict[str, Any], seconds: float = 60) -> Job:
    def is_done() -> Job | None:
        found = job(gateway, sent)
        return found if found is not None and found.state == "done" else None

    found: Job = wait_until(is_done, "the job is done", seconds, detail=lambda: job(gateway, sent))
    return found


def test_a_message_drains_and_its_result_says_what_was_done(gateway: Gateway, redis: Redis) -> None:
    images = gateway.fill(20)
    sent = message()
    with working(gateway) as worker:
        redis.put(QUEUE, sent)
        found = done(gateway, sent)
        worker.until(lambda: redis.result(id_of(sent)), "the result is there")
    gateway.assert_arrived(images)
    assert (found.outcome, found.images, found.bytes, found.exit_code) == ("done", 20, 40_000, 0)
    result = redis.result(id_of(sent))
    assert result is not None
    assert result["status"] == "SUCCESS"
    assert result["result"]["images"] == 20
    assert result["result"]["bytes"] == 40_000
    assert result["result"]["wire_bytes"] == found.wire_bytes > 40_000
    assert result["result"]["run"] == found.run
    fired = gateway.spool.site.triggers.all()["queue"]
    assert (fired.sender, fired.at is not None) == ("test", True)
    assert redis.waiting(QUEUE) == 0


def test_beat_sends_its_first_message_at_once(gateway: Gateway) -> None:
    images = gateway.fill(3)
    with working(gateway, "--beat") as worker:
        worker.until(worker.ended, "a message is dealt with")
        assert gateway.spool.site.triggers.all()["queue"].sender == "beat"
        assert worker.stop() == 0
    gateway.assert_arrived(images)


def test_what_is_asked_for_over_http_is_taken_up_by_the_worker(gateway: Gateway) -> None:
    images = gateway.fill(3)
    with working(gateway):
        asked = Job(new_id(), "http", "ops", datetime.now(UTC), max_bytes=10**6)
        gateway.spool.site.jobs.ask(asked, 6)
        found = done(gateway, {"headers": {"id": asked.id}})
    assert (found.outcome, found.images) == ("done", 3)
    assert gateway.spool.site.runs(1)[0].trigger == "http"
    gateway.assert_arrived(images)


def test_a_wish_that_is_no_use_ends_and_is_not_repeated(gateway: Gateway, redis: Redis) -> None:
    sent = message(max_time="soon")
    with working(gateway):
        redis.put(QUEUE, sent)
        found = done(gateway, sent)
    assert found.outcome == "refused"
    assert "the message is no use" in found.message
    assert gateway.spool.site.runs(5) == ()
    assert redis.waiting(QUEUE) == 0


def test_a_worker_whose_child_was_killed_ends_and_the_next_one_makes_it_good(
    gateway: Gateway, redis: Redis
) -> None:
    images = gateway.fill(40, 50_000)
    sent = message()
    with counted(gateway) as proxy:
        configure(gateway, redis, proxy.url, **SLOW)
        with working(gateway) as worker:
            redis.put(QUEUE, sent)
            gateway.await_uploads(3)
            (child,) = worker.children()
            pid = wait_until(lambda: drain_pid(gateway), "a drain is at work")
            os.kill(pid, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            wait_for_exit(worker.process, "the worker ends")
            assert worker.process.returncode == Exit.ERROR
            assert worker.events("worker.child_killed")
        with working(gateway):  # as systemd does
            found = done(gateway, sent, 90)
    assert found.starts in (2, 3)  # the new child may take it up before its worker ends
    assert (found.outcome, found.exit_code) == ("done", 0)
    gateway.assert_arrived(images)
    assert most_in(proxy.arrivals, 1.0) <= 300_000 + slack(2)
    outcomes = [run.outcome for run in gateway.spool.site.runs(5)]
    # The new child may end with its worker between taking it up and beginning a run.
    assert (outcomes[0], outcomes[-1]) == ("done", "killed")
    assert 2 <= len(outcomes) <= found.starts


def test_a_worker_whose_idle_child_was_killed_ends_and_messages_wait(
    gateway: Gateway, redis: Redis
) -> None:
    images = gateway.fill(2)
    with working(gateway) as worker:
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        wait_for_exit(worker.process, "the worker ends")
        assert worker.process.returncode == Exit.ERROR
    sent = message()
    redis.put(QUEUE, sent)
    with working(gateway):
        assert done(gateway, sent).outcome == "done"
    gateway.assert_arrived(images)


def test_a_worker_killed_in_the_middle_is_made_good_by_the_next_one(
    gateway: Gateway, redis: Redis
) -> None:
    images = gateway.fill(40, 50_000)
    sent = message()
    with counted(gateway) as proxy, ExitStack() as stack:
        configure(gateway, redis, proxy.url, **SLOW)
        first = stack.enter_context(working(gateway))
        redis.put(QUEUE, sent)
        gateway.await_uploads(3)
        pid = wait_until(lambda: drain_pid(gateway), "a drain is at work")
        first.stop(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        assert redis.waiting(QUEUE) == 0  # it was taken, and not done
        second = stack.enter_context(working(gateway))
        found = done(gateway, sent, VISIBILITY_SECONDS + 60)
        second.until(second.ended, "the second worker has dealt with it")
        assert [one["job"] for one in second.ended()] == [id_of(sent)]
    assert found.outcome == "done"
    gateway.assert_arrived(images)
    assert most_in(proxy.arrivals, 1.0) <= 300_000 + slack(2)


def test_a_drain_whose_worker_is_killed_ends_by_itself(gateway: Gateway, redis: Redis) -> None:
    gateway.fill(60, 50_000)
    configure(gateway, redis, **SLOW)
    with working(gateway) as worker:
        redis.put(QUEUE, message())
        pid = wait_until(lambda: drain_pid(gateway), "a drain is at work")
        gateway.await_uploads(2)
        worker.stop(signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the drain is gone")
    assert gateway.spool.site.runs(1)[0].outcome == "stopped"


def test_of_fifty_duplicates_one_drains_and_the_others_say_so(
    gateway: Gateway, redis: Redis
) -> None:
    images = gateway.fill(60, 20_000)
    configure(gateway, redis, **SLOW)
    one = message()
    same = [one] * 25  # delivered again and again
    others = [message() for _ in range(25)]
    with ExitStack() as stack:
        workers = [stack.enter_context(working(gateway)) for _ in range(3)]
        redis.put(QUEUE, *same, *others)
        wait_until(
            lambda: sum(len(worker.ended()) for worker in workers) == 50,
            "all fifty are dealt with",
            120,
            detail=lambda: "\n".join(worker.log.read_text() for worker in workers),
        )
        ended = [event for worker in workers for event in worker.ended()]
    outcomes = sorted(event["outcome"] for event in ended)
    assert outcomes.count("done") == 1, outcomes
    assert set(outcomes) == {"done", "already done", "already running"}
    assert sum(event["images"] for event in ended if event["outcome"] == "done") == 60
    assert len(gateway.spool.site.runs(100)) == 1
    gateway.assert_arrived(images)


def test_beside_cron_there_is_still_one_run_at_a_time(gateway: Gateway, redis: Redis) -> None:
    images = gateway.fill(60, 10_000)
    configure(gateway, redis, **SLOW)
    with working(gateway) as worker:
        crons = []
        for _ in range(8):
            redis.put(QUEUE, message(max_bytes="100kB"))
            crons.append(gateway.start("drain", "--cron", "--max-bytes", "50kB"))
            time.sleep(0.3)
        for cron in crons:
            wait_for_exit(cron, "a drain of cron ends", 120)
        codes = {cron.returncode for cron in crons}
        worker.until(lambda: len(worker.ended()) == 8, "all eight are dealt with")
        redis.put(QUEUE, last := message())
        done(gateway, last)
    assert codes <= {0, 75}
    runs = sorted(gateway.spool.site.runs(100), key=lambda run: run.started_at)
    assert {run.trigger for run in runs} == {"cron", "queue"}
    for before, after in pairwise(runs):
        assert before.ended_at is not None
        assert before.ended_at <= after.started_at
    gateway.assert_arrived(images)


def test_with_the_broker_down_the_floor_goes_on_and_the_worker_comes_back(
    gateway: Gateway, redis: Redis
) -> None:
    with working(gateway, "--beat") as worker:
        worker.until(worker.ended, "a message is dealt with")
        # Else its acknowledgement fails, and Celery waits for the next message before it looks.
        worker.until(lambda: not redis.taken(QUEUE), "the message is acknowledged")
        redis.stop()
        worker.until(
            lambda: "Connection to broker lost" in worker.log.read_text(), "the worker notices"
        )
        images = gateway.fill(5)
        assert gateway.call("drain", "--cron").returncode == 0  # cron's own, the floor
        gateway.assert_arrived(images)
        time.sleep(5)
        assert worker.process.poll() is None
        redis.start()
        images |= gateway.fill(5)
        sent = message()
        redis.put(QUEUE, sent)
        assert done(gateway, sent, 90).images == 5
    gateway.assert_arrived(images)


def test_a_worker_starts_before_its_broker(gateway: Gateway, redis: Redis) -> None:
    redis.stop()
    worker = Worker(gateway)
    try:
        worker.until(
            lambda: "Cannot connect to" in worker.log.read_text(), "the worker misses its broker"
        )
        redis.start()
        redis.put(QUEUE, sent := message())
        assert done(gateway, sent).outcome == "nothing to do"
    finally:
        worker.stop(signal.SIGKILL)
    assert "Traceback" not in worker.log.read_text()


def test_told_to_end_it_finishes_what_is_sent_and_the_rest_waits_for_the_next(
    gateway: Gateway, redis: Redis
) -> None:
    images = gateway.fill(60, 50_000)
    configure(gateway, redis, **SLOW)
    sent = message()
    with working(gateway) as worker:
        redis.put(QUEUE, sent)
        gateway.await_uploads(3)
        assert worker.stop() == 0
        (ended,) = worker.ended()
    assert (ended["outcome"], ended["job"]) == ("stopped", id_of(sent))
    run = gateway.spool.site.runs(1)[0]
    assert (run.outcome, run.set_aside, run.deferred) == ("stopped", 0, 0)
    waits = job(gateway, sent)
    assert waits is not None
    assert waits.state == "queued"
    assert gateway.spool.catalog.totals().sending.images == 0
    configure(gateway, redis)
    with working(gateway):
        done(gateway, sent)
    gateway.assert_arrived(images)


def test_a_message_whose_drain_is_always_killed_is_put_aside(
    gateway: Gateway, redis: Redis
) -> None:
    gateway.fill(60, 50_000)
    configure(gateway, redis, **SLOW)
    sent = message()
    with working(gateway) as worker:
        redis.put(QUEUE, sent)
        killed: set[int] = set()
        while len(killed) < MOST_DELIVERIES:
            pid = worker.until(lambda: drain_pid(gateway), "a drain is at work")
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        found = done(gateway, sent, 60)
        worker.until(lambda: redis.waiting(f"{QUEUE}-dead") == 1, "it is put aside")
        time.sleep(1)
        assert redis.waiting(QUEUE) == 0
        assert not drain_pid(gateway)
    assert found.outcome == "given up"
    assert found.starts == MOST_DELIVERIES


def test_a_message_that_is_none_is_dropped_and_the_worker_goes_on(
    gateway: Gateway, redis: Redis
) -> None:
    with working(gateway) as worker:
        strange = {**message(), "headers": {"task": "os.system", "id": "x", "lang": "py"}}
        pickled = {**message(), "content-type": "application/x-python-serialize"}
        redis.put(QUEUE, strange, pickled, {**message(), "body": "not json"})
        redis.put(QUEUE, sent := message())
        assert done(gateway, sent).outcome == "nothing to do"
        assert worker.process.poll() is None
        assert len(gateway.spool.site.runs(5)) == 1
