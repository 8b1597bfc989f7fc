"""The table of alerts: what judges each, how patiently, and what mends it. Pure.

When something is said of one, and how often, is ``states``'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from headgate.monitor import checks
from headgate.monitor.checks import Signs

_MINUTE = 60


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """Something wrong, in a sentence; ``subject``: of which device or channel."""

    code: str
    sentence: str
    subject: str = ""


Judge = Callable[[Signs, AbstractSet[str]], Iterable[tuple[str, str]]]
"""(subject, sentence) of what is wrong, given the subjects that were wrong before."""


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One row of the table. ``wait_seconds``: how long it must last before it is told;
    ``calm_seconds``: how long it must be good before that is told. ``causes``: alerts of which it
    is a mere consequence, so that nothing is said of it while they last."""

    code: str
    title: str
    judge: Judge
    fix: str  # what to type
    wait_seconds: int = 0
    calm_seconds: int = 2 * _MINUTE
    causes: tuple[str, ...] = ()


def find(signs: Signs, before: AbstractSet[tuple[str, str]]) -> list[AlertCondition]:
    """All that is wrong now; ``before``: (code, subject) of what was wrong at the last look."""
    return [
        AlertCondition(rule.code, sentence, subject)
        for rule in RULES
        for subject, sentence in rule.judge(
            signs, frozenset(subject for code, subject in before if code == rule.code)
        )
    ]


_STOPPED = ("uplink-down", "runs-fail", "nothing-confirmed", "no-run", "queue-silent")

RULES: tuple[AlertRule, ...] = (
    AlertRule(
        "receiver-silent",
        "The receiver does not answer",
        lambda signs, _before: checks.one(signs.receiver),
        "systemctl restart headgate-receiver",
        wait_seconds=_MINUTE,
    ),
    AlertRule("disk-refuses", "The disk refuses to write", checks.disk_refuses, "dmesg | tail"),
    AlertRule("disk-full", "The disk is full", checks.disk_full, "df -h"),
    AlertRule("uploads-refused", "Uploads are refused", checks.refusals,
              "journalctl -u headgate-receiver | grep request.refused",
              causes=("receiver-silent", "disk-refuses", "disk-full")),
    AlertRule("unaccounted", "Images are unaccounted for", checks.unaccounted, "headgate verify",
              wait_seconds=3 * _MINUTE),
    AlertRule("uplink-down", "The uplink is down", checks.uplink_down, "headgate config check"),
    AlertRule("runs-fail", "Runs fail", checks.runs_fail, "headgate config check"),
    AlertRule("nothing-confirmed", "Nothing is confirmed", checks.nothing_confirmed,
              "headgate config check", causes=("uplink-down", "runs-fail")),
    AlertRule("no-run", "No run has started", checks.no_run, "headgate cron install"),
    AlertRule("queue-silent", "The queue is silent", checks.queue_silent,
              "systemctl status headgate-worker", causes=("uplink-down", "no-run")),
    AlertRule("set-aside", "Images were set aside", checks.set_aside,
              "headgate list --state set_aside"),
    AlertRule("disk-soon", "The disk will be full", checks.disk_soon, "headgate status",
              wait_seconds=10 * _MINUTE, calm_seconds=30 * _MINUTE, causes=("disk-full",)),
    AlertRule("inodes-soon", "Inodes run out", checks.inodes, "df -i",
              wait_seconds=10 * _MINUTE, calm_seconds=30 * _MINUTE),
    AlertRule("backlog-old", "Images wait too long", checks.backlog_old, "headgate status",
              wait_seconds=10 * _MINUTE, calm_seconds=10 * _MINUTE, causes=_STOPPED),
    AlertRule("backlog-grows", "The backlog grows", checks.backlog_grows, "headgate limit",
              calm_seconds=10 * _MINUTE, causes=_STOPPED),
    AlertRule("cap-unused", "The cap is not used", checks.cap_unused, "headgate config check",
              wait_seconds=15 * _MINUTE, calm_seconds=15 * _MINUTE, causes=_STOPPED),
    AlertRule("device-silent", "A device is silent", checks.silent, "headgate device list",
              calm_seconds=0,
              causes=("receiver-silent", "disk-refuses", "disk-full", "uplink-down")),
    AlertRule("device-gaps", "Images never came", checks.gaps, "headgate device list",
              wait_seconds=10 * _MINUTE, causes=("receiver-silent", "disk-refuses", "disk-full")),
    AlertRule("device-unusable", "A device sends unusable images", checks.unusable,
              "headgate device list", calm_seconds=10 * _MINUTE),
    AlertRule("device-clock", "A device's clock is off", checks.clocks, "headgate device list",
              wait_seconds=10 * _MINUTE, calm_seconds=10 * _MINUTE),
    AlertRule("s3-clock", "This machine's clock is off", checks.s3_clock, "timedatectl"),
    AlertRule("open-network", "Anybody may send", checks.open, "headgate device add"),
    AlertRule("channel-fails", "Alerts do not get out", checks.channels, "headgate alert test",
              causes=("uplink-down",)),
)  # fmt: skip
"""Gravest first. Titles, waits and causes are also in docs/DESIGN.md, and a test compares them."""
BY_CODE: Mapping[str, AlertRule] = {rule.code: rule for rule in RULES}
