"""What Prometheus and CloudWatch call wrong is what the table of rules calls wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from headgate.host.exit_codes import Exit
from headgate.monitor import rules
from headgate.monitor.rules import BY_CODE, DISK_LOW, Late, Level
from uploader.cloudwatch.dashboard import DashboardPlan, alarms

PROMETHEUS = Path(__file__).parents[3] / "deploy" / "prometheus" / "headgate.rules.yml"
SEVERITY = {"critical": Level.BAD, "warning": Level.WARN}


def number(value: float) -> str:
    return f"{value:g}" if value < 1 else f"{value:.0f}"


def late(limit: Late) -> str:
    """In PromQL."""
    intervals = f"{number(limit.wrong)} * headgate_interval_seconds"
    if limit.least:
        return f"clamp_min({intervals}, {number(limit.least)})"
    return f"{intervals} + {number(limit.grace)}" if limit.grace else intervals


EXPRESSIONS = {
    # The alert of Prometheus: the code of ours, and a part of its expression.
    "HeadgateImagesUnaccounted": ("unaccounted", "headgate_unaccounted_images != 0 or"),
    "HeadgateReceiverDown": ("receiver-silent", 'up{job="headgate"} == 0'),
    "HeadgateDiskNotTrusted": ("disk-refuses", "headgate_disk_trusted == 0"),
    "HeadgateDiskFull": ("disk-full", "headgate_accepting == 0"),
    "HeadgateDiskFillsUp": (
        "disk-soon", f"headgate_forecast_full_seconds < {number(rules.FULL_SECONDS.wrong)}"),
    "HeadgateInodesRunOut": (
        "inodes-soon", f"headgate_forecast_inodes_seconds < {number(rules.FULL_SECONDS.wrong)}"),
    "HeadgateInodesLow": (
        "inodes-soon", f"headgate_disk_free_inodes < {number(rules.FREE_INODES.wrong)}"),
    "HeadgateNoSuccessfulRun": (
        "no-run",
        f"time() - headgate_last_success_timestamp_seconds > {late(rules.RUN_LATE)}"),
    "HeadgateNothingConfirmed": (
        "nothing-confirmed", f"headgate_unconfirmed_seconds > {late(rules.UNCONFIRMED)}"),
    "HeadgateImageTriedInVain": (
        "backlog-old", f"headgate_oldest_failing_age_seconds > {late(rules.TRIED_LONG)}"),
    "HeadgateBacklogOld": (
        "backlog-old", f"headgate_oldest_due_age_seconds > {late(rules.WAITS_LONG)}"),
    "HeadgateUplinkDown": (
        "uplink-down", f"headgate_last_run_exit_code == {int(Exit.UPLINK_DOWN)}"),
    "HeadgateRunFailed": ("runs-fail", f"headgate_last_run_exit_code == {int(Exit.ERROR)}"),
    "HeadgateCapUnused": (
        "cap-unused",
        f"headgate_budget_used_bytes < {number(rules.CAP_USED.wrong)} * headgate_budget_bytes"),
    "HeadgateImagesSetAside": ("set-aside", 'headgate_images{state="set_aside"} > 0'),
    "HeadgateDeviceSilent": ("device-silent", "headgate_device_silent == 1"),
    "HeadgateDeviceGaps": ("device-gaps", "headgate_device_missing_images >"),
    "HeadgateDeviceClock": (
        "device-clock",
        f"abs(headgate_device_clock_offset_seconds) >= {number(rules.CLOCK_OFF.wrong)}"),
}  # fmt: skip
ALONE = {"HeadgateAttemptsFail"}
"""Prometheus sees attempts of several runs; ours has no such alert, and the page remarks on it."""


def test_prometheus_goes_by_the_same_thresholds() -> None:
    (group,) = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["groups"]
    found = {rule["alert"]: rule for rule in group["rules"]}
    assert found.keys() == EXPRESSIONS.keys() | ALONE
    for name, (code, expression) in EXPRESSIONS.items():
        assert found[name]["expr"].startswith(expression), (name, found[name]["expr"])
        assert SEVERITY[found[name]["labels"]["severity"]] is BY_CODE[code].level, name


@pytest.mark.parametrize("interval", [60, 300, 3600])
def test_cloudwatch_goes_by_the_same_thresholds(interval: int) -> None:
    plan = DashboardPlan("north", "eu-central-1", interval, keep_free_percent=10.0)
    found = {one["AlarmName"].removeprefix("headgate-north-"): one for one in alarms(plan)}
    thresholds = {word: one["Threshold"] for word, one in found.items()}
    assert thresholds == {
        "heartbeat": 1,
        "oldest": rules.WAITS_LONG.seconds(interval),
        "failing": rules.TRIED_LONG.seconds(interval),
        "unconfirmed": rules.UNCONFIRMED.seconds(interval),
        "disk": 10.0 * (1 + rules.NEARLY_FULL.wrong),
        "set-aside": 0,
        "unaccounted": 0,
        "errors": 0,
    }
    assert found["heartbeat"]["EvaluationPeriods"] == rules.RUN_LATE.wrong
    titles = {f"{rule.title}: {rule.fix}" for rule in (*rules.RULES, DISK_LOW)}
    assert {one["AlarmDescription"] for one in found.values()} <= titles


def test_a_limit_that_is_reached_needs_more_to_be_right_again() -> None:
    for rule in rules.RULES:
        for limit in rule.limits:
            assert limit.wrong > 0 or limit is rules.FULL, rule.code
            if isinstance(limit, Late):
                assert limit.seconds(300, before=True) <= limit.seconds(300)


def test_every_sentence_is_one() -> None:
    for rule in (*rules.RULES, DISK_LOW):
        text = re.sub(r"\{[^}]*\}", "X", rule.sentence)
        assert text[0].isupper() and "  " not in text, rule.code
