"""The dashboard and the alarms, as CloudWatch takes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headgate.monitor.rules import (
    BY_CODE,
    DISK_LOW,
    NEARLY_FULL,
    RUN_LATE,
    TRIED_LONG,
    UNCONFIRMED,
    WAITS_LONG,
)
from uploader.cloudwatch.metrics import NAMESPACE


@dataclass(frozen=True, slots=True)
class DashboardPlan:
    """What is made for one site. ``sns``: ARNs of topics that alarms are sent to."""

    site: str
    region: str
    interval_seconds: int
    keep_free_percent: float
    sns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the dashboard, with which every alarm's name begins."""
        return f"headgate-{self.site.replace('.', '_')}"  # dashboards know no dots


_PANELS: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("Are we losing images? (0, or an alarm)", ("UnaccountedImages", "SetAsideImages"), "Maximum"),
    ("Runs", ("Heartbeat", "RunErrors"), "Sum"),
    ("Seconds without a confirmation", ("Unconfirmed", "OldestFailing"), "Maximum"),
    ("Waiting images", ("WaitingImages",), "Maximum"),
    ("Waiting bytes", ("WaitingBytes",), "Maximum"),
    ("The oldest could have gone", ("OldestDue",), "Maximum"),
    ("Bytes that left", ("SentBytes",), "Sum"),
    ("Images uploaded", ("UploadedImages",), "Sum"),
    ("Free disk", ("DiskFreePercent",), "Minimum"),
)


def dashboard(plan: DashboardPlan) -> str:
    """The body of ``PutDashboard``: a widget a question, two in a row."""
    widgets = [
        {
            "type": "metric",
            "x": 12 * (place % 2),
            "y": 6 * (place // 2),
            "width": 12,
            "height": 6,
            "properties": {
                "title": title,
                "view": "timeSeries",
                "stacked": False,
                "region": plan.region,
                "stat": stat,
                "period": max(60, plan.interval_seconds),
                "metrics": [[NAMESPACE, name, "site", plan.site] for name in names],
            },
        }
        for place, (title, names, stat) in enumerate(_PANELS)
    ]
    return json.dumps({"widgets": widgets}, sort_keys=True)


def _says(code: str) -> str:
    return f"{BY_CODE[code].title}: {BY_CODE[code].fix}"


def alarms(plan: DashboardPlan) -> list[dict[str, Any]]:
    """The arguments of each ``PutMetricAlarm``."""
    seconds = plan.interval_seconds

    def alarm(
        word: str, metric: str, stat: str, operator: str, threshold: float, what: str,
        *, periods: int = 1, missing: str = "notBreaching", every: int = seconds,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "AlarmName": f"{plan.name}-{word}",
            "AlarmDescription": what,
            "Namespace": NAMESPACE,
            "MetricName": metric,
            "Dimensions": [{"Name": "site", "Value": plan.site}],
            "Statistic": stat,
            "Period": max(60, every),
            "EvaluationPeriods": periods,
            "DatapointsToAlarm": periods,
            "Threshold": float(threshold),
            "ComparisonOperator": operator,
            "TreatMissingData": missing,
            "ActionsEnabled": True,
            "AlarmActions": list(plan.sns),
            "OKActions": list(plan.sns),
        }

    above, below = "GreaterThanThreshold", "LessThanThreshold"
    return [
        alarm("heartbeat", "Heartbeat", "Sum", below, 1, _says("no-run"),
              periods=round(RUN_LATE.wrong), missing="breaching"),
        alarm("oldest", "OldestDue", "Maximum", above, WAITS_LONG.seconds(seconds),
              _says("backlog-old"), periods=3),
        alarm("failing", "OldestFailing", "Maximum", above, TRIED_LONG.seconds(seconds),
              _says("backlog-old"), periods=2),
        alarm("unconfirmed", "Unconfirmed", "Maximum", above, UNCONFIRMED.seconds(seconds),
              _says("nothing-confirmed")),
        alarm("disk", "DiskFreePercent", "Minimum", below,
              round((1 + NEARLY_FULL.wrong) * plan.keep_free_percent, 2),
              f"{DISK_LOW.title}: {DISK_LOW.fix}", periods=2),
        alarm("set-aside", "SetAsideImages", "Maximum", above, 0, _says("set-aside")),
        alarm("unaccounted", "UnaccountedImages", "Maximum", above, 0, _says("unaccounted"),
              periods=2),
        alarm("errors", "RunErrors", "Sum", above, 0, _says("runs-fail"), periods=3),
    ]  # fmt: skip
