"""A simulated day in which the bucket takes nothing, in every way that one was seen to: whoever is
told anything is never told that it went well.

A real server on loopback answers as its script says; the witness is what it has stored. Runs are
the genuine ones, in this process, with a clock that the test moves on by five minutes a run; only
the pacer lets everything pass, since nothing here is about the rate.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
import random
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog

from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.monitor import wording
from headgate.monitor.collect import snapshot, wait_for_room
from headgate.monitor.metrics import measures, text
from headgate.monitor.snapshot import Snapshot
from headgate.monitor.summary import Level, Place, verdict
from headgate.spool.image.image import State
from headgate.spool.site.jobs import Job
from headgate.spool.site.outcome import Ending, Outcome
from headgate.spool.spool import Spool
from tests.support.s3_server import PATIENT
from tests.support.site import FreePacer
from tests.support.spooling import Clock, folder_in_memory, put, settings_for
from uploader.alerts.heartbeat import Heartbeat
from uploader.cli.commands import drain as drain_command
from uploader.cli.commands.status import _lines
from uploader.cli.doctor import collect
from uploader.cli.doctor import schedule as doctor_schedule
from uploader.cloudwatch.metrics import numbers
from uploader.run import destination, start
from uploader.run.bounds import RunRequest
from uploader.run.start import run
from uploader.s3 import endpoint
from uploader.s3.client import S3Sender
from uploader.s3.probe import KEY
from uploader.wire import dialing, http
from uploader.wire.http import Timeouts

RULES = (Path(__file__).parents[3] / "deploy/prometheus/headgate.rules.yml").read_text()
RUNS = 288
INTERVAL = 300
TOLD_WITHIN = 4
"""Runs until somebody is told: the trouble begins with the first, and two intervals are allowed."""
TELLING = {"nothing-confirmed", "runs-fail", "uplink-down", "set-aside"}


@dataclass
class Answer:
    """What the server says; ``silent``: nothing, until it is ended; ``reset``: it hangs up."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    silent: bool = False
    reset: bool = False


def error(status: int, code: str) -> Answer:
    return Answer(
        status, {"x-amz-request-id": "1"}, b"<Error><Code>%s</Code></Error>" % code.encode()
    )


class Bucket:
    """One bucket and what it says. ``images`` is the witness."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.way: Way = store
        self.over = threading.Event()
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_PUT(self) -> None:
                self.say(self.rfile.read(int(self.headers["Content-Length"])))

            def do_HEAD(self) -> None:
                self.say(b"")

            do_GET = do_HEAD

            def say(self, body: bytes) -> None:
                answer = bucket.way(bucket, self.command, self.path, body)
                if answer.silent:
                    bucket.over.wait(30)
                if answer.silent or answer.reset:
                    self.close_connection = True
                    with contextlib.suppress(OSError):  # the other side may be gone
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def images(self) -> dict[str, bytes]:
        """Objects, without the first run's own."""
        return {key: data for key, data in self.objects.items() if not key.endswith(KEY)}

    @contextlib.contextmanager
    def serving(self) -> Iterator[Bucket]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self.server.shutdown()
            thread.join(120)
            assert not thread.is_alive(), "the server did not end"
            self.server.server_close()


Way = Callable[[Bucket, str, str, bytes], Answer]


def _digests(data: bytes) -> dict[str, str]:
    sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
    return {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "x-amz-checksum-sha256": sha256}


def store(bucket: Bucket, method: str, path: str, body: bytes) -> Answer:
    """As S3 does."""
    if method == "PUT":
        if path in bucket.objects:
            return error(412, "PreconditionFailed")
        bucket.objects[path] = body
        return Answer(200, _digests(body))
    if (held := bucket.objects.get(path)) is None:
        return Answer(404)
    return Answer(200, {**_digests(held), "Content-Length": str(len(held))})


def always(put_: Answer, head: Answer | None = None) -> Way:
    """The same to everything, or another answer to what is not a PUT."""
    return lambda _bucket, method, _path, _body: put_ if method == "PUT" else head or put_


def odd_etag(_bucket: Bucket, method: str, _path: str, body: bytes) -> Answer:
    """As with KMS: 32 hex digits that are no MD5; and nothing is stored."""
    return Answer(200, {"ETag": '"%s"' % ("ab" * 16)}) if method == "PUT" else Answer(404)


def echo(_bucket: Bucket, method: str, _path: str, body: bytes) -> Answer:
    """Reports the right digests of what it does not keep."""
    return Answer(200, _digests(body)) if method == "PUT" else Answer(404)


def error_in_200(_bucket: Bucket, method: str, _path: str, _body: bytes) -> Answer:
    return Answer(200, {}, b"<Error><Code>InternalError</Code></Error>") if method == "PUT" else (
        Answer(404)
    )  # fmt: skip


_PAGE = Answer(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")
_UNPROVED = Answer(200, {"x-amz-request-id": "1"})
WAYS: dict[str, Way] = {
    "200 stores nothing": always(_UNPROVED, Answer(404)),
    "500": always(error(500, "InternalError")),
    "503": always(error(503, "SlowDown")),
    "a proxy's 502": always(Answer(502, {}, b"bad gateway")),
    "reset": always(Answer(reset=True)),
    "HEAD 403": always(_UNPROVED, Answer(403)),
    "HEAD 409": always(_UNPROVED, Answer(409)),
    "HEAD 418": always(_UNPROVED, Answer(418)),
    "HEAD 451": always(_UNPROVED, Answer(451)),
    "HEAD 400": always(_UNPROVED, Answer(400)),
    "HEAD 500": always(_UNPROVED, Answer(500)),
    "a bare 400": always(Answer(400)),
    "400 that any image gets": always(error(400, "InvalidRequest")),
    "400 of a header": always(error(400, "InvalidArgument"), Answer(404)),
    "no digest": always(_UNPROVED, Answer(200, {"Content-Length": "60"})),
    "another digest": always(Answer(200, _digests(b"other")), Answer(404)),
    "odd ETag": odd_etag,
    "echoes and stores nothing": echo,
    "error in 200": error_in_200,
    "501": always(error(501, "NotImplemented")),
    "portal page": always(_PAGE),
    "portal redirect": always(Answer(302, {"Location": "http://portal.example/"})),
    "403 QuotaExceeded": always(error(403, "QuotaExceeded")),
    "409 QuotaExceeded": always(error(409, "QuotaExceeded")),
    "507": always(Answer(507)),
    "401": always(Answer(401)),
    "403 page of a proxy": always(Answer(403, {"Content-Type": "text/html"}, b"<html>No.</html>")),
    "403 AccessDenied": always(error(403, "AccessDenied")),
    "404 NoSuchBucket": always(error(404, "NoSuchBucket")),
    "412 of nothing": always(error(412, "PreconditionFailed"), Answer(404)),
    "XAmzContentSHA256Mismatch": always(error(400, "XAmzContentSHA256Mismatch")),
    "429": always(error(429, "TooManyRequests")),
}
"""How a server answers; more ways are made where they are tried."""
AN_HOUR = 12  # runs of an hour
QUICK = {
    "200 stores nothing", "503", "a bare 400", "odd ETag", "portal page",
}  # fmt: skip
"""Of each kind one, for every day; the others in make test-slow."""
assert set(WAYS) > QUICK


SILENT = always(Answer(silent=True))


def cache_of_one(make: Callable[..., Any]) -> Callable[..., Any]:
    """boto3 takes a tenth of a second to find its way to a bucket, and it is the same each run."""
    made: dict[bool, Any] = {}

    def cached(*args: Any, in_host: bool) -> Any:
        if in_host not in made:
            made[in_host] = make(*args, in_host=in_host)
        return made[in_host]

    return cached


class OpenGate(FreePacer):
    """Lets everything pass. Stands in for the pacer of a run, which is not what is tried here."""

    def __init__(self, *_args: object, **_more: object) -> None:
        super().__init__()
        self.rate = 10_000_000

    def close(self, reason: Ending) -> None:
        self.closed = reason


class Day:
    """A gateway whose clock the test moves, and all that it tells."""

    def __init__(self, root: Path, bucket: Bucket) -> None:
        self.bucket, self.clock, self.heard = bucket, Clock(), list[str]()
        settings = settings_for(
            root, s3__bucket="photos", s3__endpoint_url=bucket.url, s3__region="us-east-1",
            spool__keep_free="0B", receiver__bind="127.0.0.1:1", uplink__parallel="2",
            uplink__link="10MB/s", uplink__share="100%",
        )  # fmt: skip
        self.spool = Spool.open(settings, probe=False, now=self.clock)
        self.mails: list[str] = []
        self.number = 0

    def receive(self, images: int = 1) -> None:
        for _ in range(images):
            self.number += 1
            put(self.spool, b"image %06d of the day" % self.number, device=f"cam-{self.number % 3}")

    def step(self) -> Any:
        """One run, as cron starts it; then five minutes less that pass."""
        report = run(self.spool, RunRequest(trigger="cron"))
        if drain_command._is_news(self.spool, report):
            self.mails.append(report.outcome)
        self.clock.advance(seconds=INTERVAL - 1)
        return report

    def facts(self) -> Snapshot:
        return snapshot(self.spool, latest=0, runs=20)

    def series(self, facts: Snapshot) -> dict[str, float]:
        """As Prometheus would keep them, by the line's own name and labels."""
        lines = [line for line in text(measures(facts, "1", "3")).splitlines() if line[0] != "#"]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def firing(alert: str, series: Mapping[str, float], now: float) -> bool:
    """Whether a rule of numbers without labels holds now."""
    found = re.search(rf"- alert: {alert}\n +expr: (.*)", RULES)
    assert found is not None
    named = re.sub(r"headgate_\w+", lambda name: repr(series.get(name[0], float("nan"))), found[1])
    return bool(eval(named, {"time": lambda: now, "nan": float("nan")}))


@pytest.fixture
def day(monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(start, "Pacer", OpenGate)
    monkeypatch.setattr(endpoint, "open_access", cache_of_one(endpoint.open_access))
    monkeypatch.setattr("uploader.run.throttle._LONGEST_SECONDS", 0.0)
    monkeypatch.setattr("uploader.run.workers._LOOK_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(random, "random", random.Random(7).random)
    logs.configure(io.StringIO(), level=logging.ERROR)  # ten thousand lines that nobody reads
    root = folder_in_memory()
    with Bucket().serving() as bucket:
        made = Day(root, bucket)
        monkeypatch.setattr(Heartbeat, "_ping", lambda _self, word: made.heard.append(word) is None)
        monkeypatch.setattr(Heartbeat, "__init__", _heard)

        def sender(*args: Any, **more: Any) -> S3Sender:
            hasty = made.bucket.way is SILENT
            timeouts = Timeouts(answer=0.2) if hasty else PATIENT
            return S3Sender(*args, timeouts=timeouts, **more)

        monkeypatch.setattr(destination, "S3Sender", sender)
        try:
            yield made
        finally:
            made.spool.close()
            shutil.rmtree(root)
            structlog.reset_defaults()


def _heard(self: Heartbeat, spool: Spool) -> None:
    """It is asked for, and its pings are noted instead of sent."""
    self._spool, self._url, self._first = spool, "http://monitor.invalid", None


def assert_bad(day: Day, number: int, last_success: Any) -> None:
    """What everybody is told after the run with this number of a day in vain."""
    facts = day.facts()
    (last, *_) = facts.runs
    told = f"run {number}, {last.outcome}: {last.message}"
    stored = len(day.bucket.images)
    uploaded = facts.uploaded_local.images + facts.uploaded_pruned.images
    assert uploaded == stored == 3, told
    assert facts.unaccounted == 0, told
    # the run
    assert last.exit_code != 0 or (last.outcome is Outcome.NOTHING_TO_DO and not last.success), told
    assert last.exit_code in (Exit.OK, Exit.ERROR, Exit.UPLINK_DOWN, Exit.NOTHING_CONFIRMED), told
    assert not last.success, told
    assert facts.last_success_at == last_success, told
    # the monitor elsewhere, and cron's mail
    assert day.heard[-1] not in ("0", "start"), told
    assert "done" not in day.mails and "nothing to do" not in day.mails, told
    # the page, and headgate status
    said = verdict(facts, Place())
    assert said.level in (Level.WARN, Level.BAD), (told, said)
    assert "All is well" not in said.sentence, told
    waits = facts.waiting.images + facts.sending.images
    if waits:
        assert facts.forecast.empty is None and facts.forecast.doubt, told
        assert "Empty" not in wording.backlog(facts), told
        assert any("NOTHING" in line for line in _lines(facts)), told
    assert wait_for_room(day.spool, 1000, 0.5) is None, told
    # the numbers
    series = day.series(facts)
    assert series["headgate_last_success_timestamp_seconds"] == last_success.timestamp(), told
    assert series['headgate_attempts_total{result="confirmed"}'] == stored, told
    assert series["headgate_confirmed_bytes_total"] == sum(map(len, day.bucket.images.values()))
    assert ("headgate_forecast_empty_seconds" in series) is not bool(waits), told
    assert numbers(facts, last)["RunErrors"] == 1, told
    if number >= TOLD_WITHIN:
        assert {alert.code for alert in facts.alerts} & TELLING, told
        now = facts.at.timestamp()
        assert firing("HeadgateNoSuccessfulRun", series, now), told
        assert firing("HeadgateNothingConfirmed", series, now) is bool(waits), told
        if waits:
            assert said.level is Level.BAD or last.outcome is Outcome.UPLINK_DOWN, (told, said)
            assert numbers(facts, last)["Unconfirmed"] > 2 * INTERVAL, told


def live_through(day: Day, way: Way, runs: int) -> None:
    """A good run, the day, and what comes after it is over."""
    day.receive(3)
    assert day.step().outcome is Outcome.DONE
    last_success = day.facts().last_success_at
    assert last_success is not None and day.heard[-1] == "0"
    assert verdict(day.facts(), Place()).level is not Level.BAD
    day.bucket.way = way
    day.receive(3)
    for number in range(1, runs + 1):
        if number % 24 == 0:
            day.receive()
        if number == 6:
            job = day.spool.site.jobs.ask(Job("job", "http", "a test", day.clock.at), 6)
        day.step()
        assert_bad(day, number, last_success)
    ended = day.spool.site.jobs.get(job.id)
    assert ended is not None and (ended.state, ended.succeeded) == ("done", False)
    assert len(day.mails) < 10, day.mails  # the outcome changes now and then, and not each hour
    seen = doctor_schedule.judge(collect.schedule(day.spool))
    assert [one.level.value for one in seen if one.check == "runs"] != ["ok"]
    told = {alert.code: alert.began_at for alert in day.facts().alerts if alert.code in TELLING}
    assert any((day.clock.at - since).total_seconds() > (runs - 9) * INTERVAL
               for since in told.values()), told  # fmt: skip
    # The bucket is mended: all is tried again, arrives, and is called good.
    day.bucket.way = store
    for state in (State.SET_ASIDE, State.WAITING):
        for receipt in day.spool.images(state, 100):
            day.spool.site.add_request("retry", receipt.id, day.clock.at)
    for _ in range(3):
        day.step()
    facts = day.facts()
    assert facts.waiting.images == 0 and len(day.bucket.images) == day.number
    assert facts.runs[0].success and day.heard[-1] == "0"
    assert facts.last_success_at is not None and facts.last_success_at > last_success
    assert not {alert.code for alert in facts.alerts} & TELLING
    assert not firing("HeadgateNothingConfirmed", day.series(facts), facts.at.timestamp())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in WAYS],
)
def test_an_hour_in_vain_is_never_called_good(day: Day, name: str) -> None:
    live_through(day, WAYS[name], AN_HOUR)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_day_in_vain_is_never_called_good(day: Day, name: str) -> None:
    """Between two attempts of an image lies up to an hour, and most runs find nothing due."""
    live_through(day, WAYS[name], RUNS)


def test_a_server_that_never_answers(day: Day) -> None:
    live_through(day, SILENT, AN_HOUR)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(ConnectionRefusedError(111, "Connection refused"), id="nobody listens"),
        pytest.param(
            socket.gaierror(-3, "Temporary failure"), id="no name", marks=pytest.mark.slow
        ),
        pytest.param(TimeoutError("timed out"), id="no route"),
    ],
)
def test_no_connection_comes_about(
    day: Day, monkeypatch: pytest.MonkeyPatch, trouble: OSError
) -> None:
    def connect(*args: Any, **more: Any) -> Any:
        if day.bucket.way is unreached:
            raise trouble
        return dialing.connect(*args, **more)

    monkeypatch.setattr(http, "connect", connect)
    live_through(day, unreached, AN_HOUR)


def unreached(*_request: object) -> Answer:
    """A way in which no request comes this far."""
    raise AssertionError("a request came")
