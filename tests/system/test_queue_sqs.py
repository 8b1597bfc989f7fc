"""The job queue on SQS, as moto's server has it, with the very messages of the template."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.spool.site.jobs import Job, new_id
from tests.support.counting_proxy import most_in
from tests.support.gateway import Gateway, counted, slack
from tests.support.queueing import Sqs, drain_pid, needs_queue, working
from tests.support.s3_server import Place
from tests.support.template import scheduled_message
from tests.support.wait import wait_until
from uploader.queue.celery_config import MOST_DELIVERIES
from uploader.queue.message import envelope

pytestmark = needs_queue

QUEUE = "headgate-north"
SLOW = {"link": "300kB/s", "share": "100%"}
VISIBILITY_SECONDS = 10  # shorter than in earnest, so that nobody waits for minutes here


@pytest.fixture
def sqs() -> Iterator[Sqs]:
    with closing(
        Sqs(QUEUE, visibility_seconds=VISIBILITY_SECONDS, most_receives=MOST_DELIVERIES)
    ) as made:
        yield made


@pytest.fixture
def gateway(tmp_path: Path, place: Place, sqs: Sqs) -> Iterator[Gateway]:
    made = Gateway(tmp_path, place)
    configure(made, sqs)
    yield made
    made.spool.close()


def configure(gateway: Gateway, sqs: Sqs, endpoint: str = "", **uplink: Any) -> None:
    gateway.write(
        endpoint=endpoint,
        uplink={"trigger": "queue", "interval": "1min", **uplink},
        queue={"broker": sqs.url},
    )


def message(job: str, **wish: str) -> str:
    now = datetime.now(UTC).isoformat()
    return json.dumps(envelope(QUEUE, job, sender="test", asked_at=now, **wish))


def done(gateway: Gateway, job: str, seconds: float = 90) -> Job:
    def is_done() -> Job | None:
        found = gateway.spool.site.jobs.get(job)
        return found if found is not None and found.state == "done" else None

    found: Job = wait_until(
        is_done, "the job is done", seconds, detail=lambda: gateway.spool.site.jobs.get(job)
    )
    return found


def test_the_schedules_own_message_drains(gateway: Gateway, sqs: Sqs) -> None:
    """The text of the template's schedule, with what EventBridge Scheduler puts in, by boto3."""
    images = gateway.fill(10)
    at = datetime.now(UTC).replace(microsecond=0)
    body = scheduled_message("north", execution="9f5c2e", at=at)
    with working(gateway) as worker:
        sqs.send(body)
        found = done(gateway, "9f5c2e")
        worker.until(lambda: not sqs.count(sqs.url, in_flight=True), "the message is acknowledged")
    gateway.assert_arrived(images)
    assert (found.outcome, found.images, found.sender) == ("done", 10, "scheduler")
    assert abs((found.asked_at - at).total_seconds()) < 1
    assert gateway.spool.site.triggers.all()["queue"].sender == "scheduler"
    assert sqs.count(sqs.url) == 0


def test_what_is_asked_for_over_http_goes_through_sqs_too(gateway: Gateway, sqs: Sqs) -> None:
    images = gateway.fill(3)
    with working(gateway):
        asked = Job(new_id(), "http", "ops", datetime.now(UTC))
        gateway.spool.site.jobs.ask(asked, 6)
        assert done(gateway, asked.id).images == 3
    gateway.assert_arrived(images)


def test_a_worker_killed_in_the_middle_is_made_good_by_the_next_one(
    gateway: Gateway, sqs: Sqs
) -> None:
    images = gateway.fill(40, 50_000)
    job = new_id()
    with counted(gateway) as proxy, ExitStack() as stack:
        configure(gateway, sqs, proxy.url, **SLOW)
        first = stack.enter_context(working(gateway))
        sqs.send(message(job))
        gateway.await_uploads(3)
        pid = wait_until(lambda: drain_pid(gateway), "a drain is at work")
        first.stop(signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        stack.enter_context(working(gateway))
        found = done(gateway, job)
    assert (found.outcome, found.starts) == ("done", 2)
    gateway.assert_arrived(images)
    assert most_in(proxy.arrivals, 1.0) <= 300_000 + slack(2)


def test_of_fifty_messages_one_drains_and_the_others_say_so(gateway: Gateway, sqs: Sqs) -> None:
    images = gateway.fill(20, 20_000)
    same = message(new_id())
    with working(gateway) as worker:
        for _ in range(25):
            sqs.send(same)
            sqs.send(message(new_id()))
        worker.until(lambda: len(worker.ended()) >= 50, "all fifty are dealt with")
        worker.until(
            lambda: not sqs.count(sqs.url) + sqs.count(sqs.url, in_flight=True),
            "the queue is empty",
        )
        outcomes = [event["outcome"] for event in worker.ended()]
    assert outcomes.count("done") == 1
    assert outcomes.count("already done") >= 24  # those asked for after it began find nothing
    gateway.assert_arrived(images)


def test_a_message_whose_drain_is_always_killed_becomes_a_dead_letter(
    gateway: Gateway, sqs: Sqs
) -> None:
    gateway.fill(60, 50_000)
    configure(gateway, sqs, **SLOW)
    job = new_id()
    with working(gateway) as worker:
        sqs.send(message(job))
        killed: set[int] = set()
        while len(killed) < MOST_DELIVERIES:
            pid = worker.until(lambda: drain_pid(gateway), "a drain is at work")
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        worker.until(lambda: sqs.count(sqs.dead_url), "it is a dead letter")
        assert worker.process.poll() is None
    assert sqs.count(sqs.url) == 0
    found = gateway.spool.site.jobs.get(job)
    assert found is not None
    assert found.starts == MOST_DELIVERIES
