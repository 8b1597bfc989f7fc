"""What each run says to CloudWatch: one table of names, units and where they come from. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.monitor.snapshot import Snapshot
from headgate.spool.site.runs import Run

NAMESPACE = "Headgate"


@dataclass(frozen=True, slots=True)
class Number:
    """One metric. ``unit`` is one of CloudWatch's."""

    name: str
    unit: str
    of: Callable[[Snapshot, Run], float]
    what: str


def _oldest(facts: Snapshot, _run: Run) -> float:
    if facts.oldest_due_at is None:
        return 0.0
    return max(0.0, (facts.at - facts.oldest_due_at).total_seconds())


def _oldest_failing(facts: Snapshot, _run: Run) -> float:
    if facts.oldest_waiting_at is None or not facts.oldest_attempts:
        return 0.0
    return max(0.0, (facts.at - facts.oldest_waiting_at).total_seconds())


def _unconfirmed(facts: Snapshot, _run: Run) -> float:
    waits = facts.waiting.images and facts.proof.fruitless_runs
    return facts.proof.failing_seconds(facts.at) if waits else 0.0


def _seconds(_facts: Snapshot, run: Run) -> float:
    ended = run.ended_at or run.started_at
    return max(0.0, (ended - run.started_at).total_seconds())


NUMBERS: Sequence[Number] = (
    Number("Heartbeat", "Count", lambda _f, _r: 1, "a run ended"),
    Number("RunErrors", "Count", lambda _f, r: float(not r.success),
           "1 unless the run was a success"),
    Number("RunSeconds", "Seconds", _seconds, "how long the run took"),
    Number("UploadedImages", "Count", lambda _f, r: r.images, "images confirmed by the run"),
    Number("SentBytes", "Bytes", lambda _f, r: r.wire_bytes, "bytes that left in the run"),
    Number("ReceivedImages", "Count", lambda f, _r: f.received.images, "images received so far"),
    Number("WaitingImages", "Count", lambda f, _r: f.waiting.images, "images that wait"),
    Number("WaitingBytes", "Bytes", lambda f, _r: f.waiting.bytes, "bytes that wait"),
    Number("OldestDue", "Seconds", _oldest, "how long the oldest image could have gone"),
    Number("OldestFailing", "Seconds", _oldest_failing,
           "how long the oldest image has waited since it came, if its attempts failed"),
    Number("Unconfirmed", "Seconds", _unconfirmed,
           "how long attempts have failed without one that confirmed its image"),
    Number("SetAsideImages", "Count", lambda f, _r: f.set_aside.images,
           "images that need a person"),
    Number("UnaccountedImages", "Count", lambda f, _r: abs(f.unaccounted) + f.lost.images,
           "0, or an alarm"),
    Number("DiskFreePercent", "Percent",
           lambda f, _r: 100.0 * f.free_bytes / max(1, f.disk_bytes), "free space of the spool"),
    Number("CapBytesPerSecond", "Bytes/Second", lambda f, _r: f.budget.rate, "the cap in force"),
)  # fmt: skip
"""The table is also in docs/DESIGN.md, and a test compares them."""
_UNITS: Mapping[str, str] = {number.name: number.unit for number in NUMBERS}


def numbers(facts: Snapshot, run: Run) -> dict[str, float]:
    """The numbers of one run that has ended."""
    return {number.name: float(number.of(facts, run)) for number in NUMBERS}


def data(at: Any, values: Mapping[str, float], site: str) -> list[dict[str, Any]]:
    """What ``PutMetricData`` takes, of one point."""
    return [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "site", "Value": site}],
            "Timestamp": at,
            "Value": value,
            "Unit": _UNITS[name],
        }
        for name, value in values.items()
        if name in _UNITS
    ]
