"""CloudWatch: the numbers of each run, also those of an outage; a dashboard and its alarms.

moto keeps what it is given and judges none of it, so bodies are held here against the rules of the
"Dashboard Body Structure" page and of ``PutMetricAlarm`` and ``PutMetricData``, written down anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from moto.server import ThreadedMotoServer

from headgate.spool.budget.uplink import Part
from headgate.spool.image.image import Count
from headgate.spool.site.metric_points import Point
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool
from tests.support.page import facts
from tests.support.s3_server import environment
from tests.support.spooling import open_spool, put
from uploader.cli.main import headgate
from uploader.cloudwatch import dashboard, metrics, publish
from uploader.cloudwatch.dashboard import DashboardPlan

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
PLAN = DashboardPlan(
    "north", "eu-central-1", 300, 5.0, ("arn:aws:sns:eu-central-1:123456789012:ops",)
)


# -- what CloudWatch takes, from its documentation

UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes",
    "Terabytes", "Bits", "Percent", "Count", "Bytes/Second", "Count/Second", "None",
}  # fmt: skip
STATS = {"SampleCount", "Average", "Sum", "Minimum", "Maximum"}
OPERATORS = {
    "GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold",
    "LessThanOrEqualToThreshold",
}  # fmt: skip


def period_fits(seconds: int) -> bool:
    return seconds in (10, 20, 30) or (seconds >= 60 and seconds % 60 == 0)


def faults_of_dashboard(name: str, body: str) -> list[str]:
    faults = []
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name):
        faults.append("name")
    document = json.loads(body)
    taken: set[tuple[int, int]] = set()
    if set(document) - {"widgets", "start", "end", "periodOverride", "variables"}:
        faults.append("keys")
    if len(document["widgets"]) > 500 or len(body) > 1024 * 1024:
        faults.append("size")
    for widget in document["widgets"]:
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        if widget["type"] != "metric" or not (x >= 0 and x + width <= 24 and 1 <= height <= 1000):
            faults.append("place")
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        if cells & taken:
            faults.append("overlap")
        taken |= cells
        of = widget["properties"]
        if of["view"] not in ("timeSeries", "singleValue", "bar", "pie", "gauge", "table"):
            faults.append("view")
        if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", of["region"]):
            faults.append("region")
        if of["stat"] not in STATS or not period_fits(of["period"]):
            faults.append("stat or period")
        for metric in of["metrics"]:
            if len(metric) < 2 or len(metric) % 2 or not all(isinstance(m, str) for m in metric):
                faults.append("metric")
    return faults


def faults_of_alarm(alarm: dict[str, Any]) -> list[str]:
    faults = []
    if not 1 <= len(alarm["AlarmName"]) <= 255 or len(alarm["AlarmDescription"]) > 1024:
        faults.append("name")
    if alarm["Statistic"] not in STATS or alarm["ComparisonOperator"] not in OPERATORS:
        faults.append("statistic")
    if alarm["TreatMissingData"] not in ("breaching", "notBreaching", "ignore", "missing"):
        faults.append("missing")
    period, count = alarm["Period"], alarm["EvaluationPeriods"]
    # At most a day is looked at, a week where a period is an hour or more.
    if not period_fits(period) or period * count > (86400 if period < 3600 else 604800):
        faults.append("period")
    if not 1 <= alarm["DatapointsToAlarm"] <= count:
        faults.append("datapoints")
    if len(alarm["AlarmActions"]) > 5:
        faults.append("actions")
    return faults


@pytest.mark.parametrize("interval", [60, 300, 900, 3600, 43200, 86400])
@pytest.mark.parametrize("site", ["north", "a.b-c_9"])
def test_the_dashboard_and_alarms_are_as_cloudwatch_wants_them(interval: int, site: str) -> None:
    plan = DashboardPlan(site, "eu-central-1", interval, 5.0, PLAN.sns)
    assert faults_of_dashboard(plan.name, dashboard.dashboard(plan)) == []
    assert [fault for alarm in dashboard.alarms(plan) for fault in faults_of_alarm(alarm)] == []


def test_the_checks_of_bodies_can_fail() -> None:
    body = json.loads(dashboard.dashboard(PLAN))
    body["widgets"][1]["x"] = 6
    body["widgets"][2]["properties"]["period"] = 90
    assert faults_of_dashboard("a.b", json.dumps(body)) == ["name", "overlap", "stat or period"]
    alarm = dashboard.alarms(PLAN)[0] | {
        "Period": 300,
        "EvaluationPeriods": 300,
        "Statistic": "Mean",
    }
    assert faults_of_alarm(alarm) == ["statistic", "period"]


def test_every_panel_and_alarm_asks_for_a_number_that_runs_report() -> None:
    known = {number.name for number in metrics.NUMBERS}
    assert {number.unit for number in metrics.NUMBERS} <= UNITS
    panels = json.loads(dashboard.dashboard(PLAN))["widgets"]
    asked = {metric[1] for panel in panels for metric in panel["properties"]["metrics"]}
    assert asked | {alarm["MetricName"] for alarm in dashboard.alarms(PLAN)} <= known
    assert {tuple(metric[2:]) for panel in panels for metric in panel["properties"]["metrics"]} == {
        ("site", "north")
    }


def test_a_heartbeat_that_is_missing_is_an_alarm() -> None:
    (heartbeat,) = [a for a in dashboard.alarms(PLAN) if a["AlarmName"].endswith("-heartbeat")]
    assert heartbeat["TreatMissingData"] == "breaching"
    assert heartbeat["AlarmActions"] == list(PLAN.sns)


# -- on moto


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def account(moto: str) -> Iterator[Any]:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with environment(**keys, AWS_ENDPOINT_URL_CLOUDWATCH=moto):
        made = boto3.Session().client("cloudwatch", region_name="eu-central-1")
        with closing(made):
            yield made


@pytest.fixture
def spool(tmp_path: Path, account: Any) -> Iterator[Spool]:
    made = open_spool(tmp_path, alerts__cloudwatch="on", s3__region="eu-central-1",
                      site__name=f"site-{tmp_path.name[-20:]}")  # fmt: skip
    yield made
    made.close()


def read(account: Any, site: str, name: str, since: datetime) -> list[tuple[datetime, float]]:
    found = account.get_metric_statistics(
        Namespace="Headgate", MetricName=name, Dimensions=[{"Name": "site", "Value": site}],
        StartTime=since, EndTime=since + timedelta(hours=5), Period=60, Statistics=["Maximum"],
    )["Datapoints"]  # fmt: skip
    return sorted((point["Timestamp"], point["Maximum"]) for point in found)


def test_each_run_says_its_numbers_and_they_are_the_catalogs(spool: Spool, account: Any) -> None:
    put(spool, b"image")
    now = spool.now()
    run = Run("run", now - timedelta(seconds=9), now, "cron", "failed", 1, images=3)
    publish.after_run(spool, run)
    assert spool.site.points.oldest(9) == []
    site, since = spool.settings.site.name, now - timedelta(hours=1)
    for name, value in {
        "Heartbeat": 1, "RunErrors": 1, "RunSeconds": 9, "UploadedImages": 3, "WaitingImages": 1,
        "WaitingBytes": 5, "UnaccountedImages": 0, "ReceivedImages": 1,
    }.items():  # fmt: skip
        ((_, said),) = read(account, site, name, since)
        assert said == value, name
    use = spool.uplink.budget()
    assert use.used > 1000 and (spool.files.state / Part.OTHER).exists()  # it passed the pacer


def test_numbers_of_an_outage_come_later_with_their_own_time(
    spool: Spool, account: Any, monkeypatch: pytest.MonkeyPatch, moto: str
) -> None:
    start = spool.now().replace(second=0, microsecond=0) - timedelta(hours=2)
    for number in range(24):
        at = start + timedelta(minutes=5 * number)
        spool.site.points.add(Point(at, {"WaitingImages": 100.0 + number}))
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", "http://127.0.0.1:1")
    assert publish.send(spool) == 0 and len(spool.site.points.oldest(99)) == 24
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", moto)
    assert publish.send(spool) == 24 and spool.site.points.oldest(99) == []
    said = read(account, spool.settings.site.name, "WaitingImages", start)
    assert [value for _, value in said] == [100.0 + number for number in range(24)]
    assert [at for at, _ in said] == [start + timedelta(minutes=5 * n) for n in range(24)]


def test_what_is_older_than_two_weeks_is_dropped(spool: Spool) -> None:
    spool.site.points.add(Point(AT, {"Heartbeat": 1}))
    spool.site.points.add(Point(AT + timedelta(days=15), {"Heartbeat": 1}))
    assert [point.at for point in spool.site.points.oldest(9)] == [AT + timedelta(days=15)]


def test_trouble_with_cloudwatch_never_fails_a_run(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> int:
        raise RuntimeError("anything")

    monkeypatch.setattr(publish, "send", broken)
    publish.after_run(spool, Run("run", AT, AT))
    assert len(spool.site.points.oldest(9)) == 1


def test_without_the_setting_nothing_is_kept(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as other:
        publish.after_run(other, Run("run", AT, AT))
        assert other.site.points.oldest(9) == []


def test_the_numbers_of_an_empty_site_are_numbers() -> None:
    empty = facts(received=Count(0, 0), oldest_due_at=None, disk_bytes=0, free_bytes=0)
    said = metrics.numbers(empty, Run("run", AT))
    assert set(said) == {number.name for number in metrics.NUMBERS}
    assert all(isinstance(value, float) for value in said.values())


# -- the command


def call(spool: Spool, *arguments: str, code: int = 0) -> Result:
    values = ("spool.path", "site.name", "s3.region", "alerts.cloudwatch")
    flags = [word for name in values for word in ("--set", f"{name}={spool.settings.value(name)}")]
    words = [*flags, "dashboard", "cloudwatch", *arguments]
    result = CliRunner().invoke(headgate, words, prog_name="headgate")
    assert result.exit_code == code, result.output
    return result


def test_applying_twice_is_applying_once(spool: Spool, account: Any) -> None:
    name = f"headgate-{spool.settings.site.name}"
    would = json.loads(call(spool, "--json").stdout)
    assert would["applied"] is False

    def there() -> tuple[Any, list[Any]]:
        held = account.describe_alarms(AlarmNamePrefix=name)["MetricAlarms"]
        keep = sorted((a["AlarmName"], a["Threshold"], tuple(a["AlarmActions"])) for a in held)
        boards = account.list_dashboards(DashboardNamePrefix=name)["DashboardEntries"]
        bodies = [account.get_dashboard(DashboardName=b["DashboardName"]) for b in boards]
        return [json.loads(body["DashboardBody"]) for body in bodies], keep

    assert there() == ([], [])
    topic = PLAN.sns[0]
    assert "alarm" in call(spool, "--apply", "--sns", topic).stdout
    once = there()
    assert once[0] == [would["dashboard"]["body"]]
    assert len(once[1]) == len(would["alarms"]) == 8
    assert all(actions == (topic,) for _, _, actions in once[1])
    call(spool, "--apply", "--sns", topic)
    assert there() == once


def test_a_topic_that_is_none_is_refused(spool: Spool) -> None:
    assert "is not an SNS topic" in call(spool, "--apply", "--sns", "ops", code=2).stderr
    assert "not both" in call(spool, "--apply", "--dry-run", code=2).stderr
