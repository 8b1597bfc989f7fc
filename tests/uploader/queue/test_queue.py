"""What a message makes happen, without a broker: real drains, and every way to end without one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headgate.host.exit_codes import Exit
from headgate.settings.settings import SettingsError
from headgate.spool.site.jobs import Job, new_id
from headgate.spool.spool import utc_now
from tests.support.gateway import Gateway
from tests.support.s3_server import Place
from tests.support.spooling import settings_for
from uploader.cli.main import headgate
from uploader.queue import execute
from uploader.queue.celery_config import MOST_DELIVERIES, Broker, broker, configuration, time_limits
from uploader.queue.message import ASKED_AT, SENDER, sender_of, sent_at, usable_id

AT = datetime(2026, 11, 23, 16, 5, tzinfo=UTC)


@pytest.fixture
def gateway(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    made = Gateway(tmp_path, place)
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    yield made
    made.spool.close()


def work(gateway: Gateway, interval_seconds: int = 300) -> execute.Work:
    site = gateway.spool.files.state / "site.sqlite3"
    return execute.work_for(site, str(gateway.config), (), interval_seconds)


def message(**of: Any) -> Job:
    return Job(**{"id": new_id(), "way": "queue", "sender": "test", "asked_at": utc_now(), **of})


def test_a_message_runs_the_drain_and_the_same_again_does_not(gateway: Gateway) -> None:
    images = gateway.fill(5)
    one = message()
    result = execute.carry_out(work(gateway), one, {})
    gateway.assert_arrived(images)
    told = {"job": one.id, "outcome": "done", "images": 5, "bytes": 10_000, "exit_code": 0}
    assert {name: result[name] for name in told} == told
    again = execute.carry_out(work(gateway), one, {})
    assert again["outcome"] == "already done"
    assert again["run"] == result["run"]
    assert len(gateway.spool.site.runs(5)) == 1


def test_what_a_run_since_then_left_nothing_of_is_done(gateway: Gateway) -> None:
    earlier = message()
    gateway.json("drain")
    assert execute.carry_out(work(gateway), earlier, {})["outcome"] == "already done"
    bounded = execute.carry_out(work(gateway), message(asked_at=earlier.asked_at), {"device": "x"})
    assert bounded["outcome"] == "nothing to do"  # it asks for something of its own
    assert execute.carry_out(work(gateway), message(), {})["outcome"] == "nothing to do"


def test_where_a_run_is_at_work_it_ends_at_once_and_says_who(gateway: Gateway) -> None:
    nothing = execute.Work(work(gateway).site, ["/nowhere/headgate"], 300)  # no program is started
    with gateway.spool.hold_drain_lock("headgate drain (cron)", 0):
        result = execute.carry_out(nothing, message(), {})
    assert result["outcome"] == "already running"
    assert "headgate drain (cron), pid" in result["message"]
    assert gateway.spool.site.runs(5) == ()


def test_a_drain_that_cannot_start_is_a_failure_and_no_loop(gateway: Gateway) -> None:
    gateway.config.write_text("[nonsense]\n")
    result = execute.carry_out(work(gateway), message(), {})
    assert (result["outcome"], result["exit_code"]) == ("failed", Exit.USAGE)


def test_what_the_message_wishes_for_is_the_drains_own_bounds(gateway: Gateway) -> None:
    gateway.fill(10)
    wish = {"max_bytes": "4kB", "max_time": "1min", "device": "cam-1"}
    result = execute.carry_out(work(gateway), message(), wish)
    assert result["images"] == 2
    assert all("/cam-1/" in key for key in gateway.objects())


def test_a_killed_drain_is_lost_and_poison_after_the_fifth(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    doomed = execute.Work(work(gateway).site, killed, 300)
    one = message()
    for _ in range(MOST_DELIVERIES):
        with pytest.raises(execute.Lost, match="killed by signal 9"):
            execute.carry_out(doomed, one, {})
    for _ in range(2):  # also when it comes once more
        with pytest.raises(execute.Poison, match=f"begun {MOST_DELIVERIES} times"):
            execute.carry_out(doomed, one, {})
    found = gateway.spool.site.jobs.get(one.id)
    assert found is not None
    assert (found.state, found.outcome) == ("done", "given up")


def test_a_drain_that_does_not_end_is_told_twice_and_then_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execute, "_GRACE_SECONDS", 0.1)
    sent: list[int] = []

    class Deaf(subprocess.Popen[str]):
        def send_signal(self, number: int) -> None:
            sent.append(number)
            super().send_signal(number)

    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    deaf += "while True: signal.pause()"
    with Deaf([sys.executable, "-c", deaf], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert execute._wait(process, 0.1) == ""
    assert sent == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]
    assert process.returncode == -signal.SIGKILL


# -- the settings and what Celery is told


def of(**queue: str) -> Broker:
    settings = {f"queue__{name}": value for name, value in queue.items()}
    return broker(
        settings_for(Path("/x"), site__name="north.1", s3__region="eu-west-1", **settings)
    )


def test_each_gateway_has_its_own_queue() -> None:
    assert of(broker="redis://h/0").queue == "headgate-north-1"
    assert of(broker="rediss://:p@h:1/2", name="mine").dead == "mine-dead"


@pytest.mark.parametrize(
    ("url", "server", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/1/q", "sqs://", "eu-central-1"),
        ("sqs://sqs.us-gov-west-1.amazonaws.com/1/q", "sqs://", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "sqs://", "cn-north-1"),
        ("https://vpce-1.sqs.x.vpce.amazonaws.com/1/q", "sqs://vpce-1.sqs.x.vpce.amazonaws.com",
         "eu-west-1"),
        ("http://127.0.0.1:5/1/q", "sqs://127.0.0.1:5", "eu-west-1"),
    ],
)  # fmt: skip
def test_an_sqs_queue_is_named_by_its_url(url: str, server: str, region: str) -> None:
    found = of(broker=url)
    assert (found.kind, found.url, found.queue, found.region) == ("sqs", server, "q", region)
    assert found.queue_url == url.replace("sqs://", "https://")
    options = configuration(found, 300)["broker_transport_options"]
    assert options["predefined_queues"] == {"q": {"url": found.queue_url}}
    assert options["is_secure"] == (not url.startswith("http://"))


@pytest.mark.parametrize("url", ["amqp://h", "redis://", "https://h/q", "redis://h/0 x", "h:6379"])
def test_another_broker_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"queue\.broker: it is not redis://") as refused:
        of(broker=url)
    assert url not in str(refused.value).replace("redis://host", "")


def test_a_queue_without_a_broker_stops_the_start() -> None:
    with pytest.raises(SettingsError, match=r"queue\.broker: uplink\.trigger is queue"):
        settings_for(Path("/x"), uplink__trigger="queue")


@pytest.mark.parametrize("interval", [60, 300, 86400])
def test_a_task_ends_before_the_next_is_due_and_stays_invisible_for_longer(interval: int) -> None:
    soft, hard = time_limits(interval)
    assert 0 < soft < hard < interval
    for to in (of(broker="redis://h/0"), of(broker="https://sqs.eu-west-1.amazonaws.com/1/q")):
        told = configuration(to, interval)
        assert told["broker_transport_options"]["visibility_timeout"] > hard
        assert told["task_acks_late"] and told["task_reject_on_worker_lost"]
        assert told["accept_content"] == ["json"]
        assert (told["worker_prefetch_multiplier"], told["worker_concurrency"]) == (1, 1)


def test_what_a_message_says_of_itself_is_taken_with_care() -> None:
    assert sent_at({ASKED_AT: "2026-11-23T16:05:00Z"}, utc_now()) == AT
    assert sent_at({ASKED_AT: "2026-11-23T16:05:00"}, utc_now()) == AT
    for said in ({}, {ASKED_AT: "yesterday"}, {ASKED_AT: None}):
        assert sent_at(said, AT) == AT
    assert sender_of({SENDER: "be\nat" + "x" * 100}) == "beat" + "x" * 60
    assert sender_of({}) == sender_of({SENDER: "\n"}) == "queue"
    assert usable_id("9f5c-2e") and not usable_id("a b") and not usable_id(None)


# -- the command


def test_the_worker_says_what_is_missing(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(code: Exit) -> str:
        words = ["--config", str(gateway.config), "worker"]
        result = CliRunner().invoke(headgate, words)
        assert result.exit_code == code, result.output
        return result.stderr

    assert 'uplink.trigger is "cron"' in said(Exit.USAGE)
    gateway.write(uplink={"trigger": "queue"}, queue={"broker": "redis://127.0.0.1:1/0"})
    for name in [name for name in sys.modules if name.startswith(("celery", "uploader.queue.w"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "celery", None)
    assert "pip install 'headgate[queue]'" in said(Exit.ERROR)


def test_the_broker_is_a_secret(gateway: Gateway) -> None:
    gateway.write(queue={"broker": "redis://:hunter2@127.0.0.1:1/0"})
    assert "hunter2" not in gateway.call("config", "show").stdout
