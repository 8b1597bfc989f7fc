"""The facts as Prometheus reads them: one table of names, and its text format. Pure.

Names follow Prometheus's rules (base units, counters end in ``_total``). Labels are bounded:
states, kinds of failure, outcomes of runs, and devices as ``headgate.monitor.devices`` bounds them.
The receiver tells them at each scrape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from headgate.monitor.snapshot import Snapshot
from headgate.spool.image.image import State
from headgate.spool.site.gone import Stage
from headgate.spool.site.runs import FAILURES

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the number."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric with all its series. ``kind`` is "gauge" or "counter"."""

    name: str
    kind: str
    what: str
    labels: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()


def measures(facts: Snapshot, version: str, sqlite: str) -> tuple[Measure, ...]:
    """All metrics of the spool. An instant that never was has no series.

    ``version`` is Headgate's, ``sqlite`` that of the SQLite that opens its databases.
    """
    built = (((version, sqlite), 1.0),)
    labels = ("version", "sqlite")
    return (
        *_images(facts),
        *_sending(facts),
        *_runs(facts),
        *_places(facts),
        *_devices(facts),
        Measure("headgate_build_info", "gauge", "1; which versions these are.", labels, built),
    )


def gauge(name: str, what: str, value: float | None) -> Measure:
    """A gauge with one series, or none where there is no value."""
    return Measure(name, "gauge", what, samples=() if value is None else (((), float(value)),))


def _counter(name: str, what: str, value: float) -> Measure:
    return Measure(name, "counter", what, samples=(((), float(value)),))


def _images(facts: Snapshot) -> Iterator[Measure]:
    by_state = {
        (State.WAITING.value, "true"): facts.waiting,
        (State.SENDING.value, "true"): facts.sending,
        (State.UPLOADED.value, "true"): facts.uploaded_local,
        (State.UPLOADED.value, "false"): facts.uploaded_pruned,
        (State.HELD.value, "true"): facts.held,
        (State.SET_ASIDE.value, "true"): facts.set_aside,
        (State.LOST.value, "false"): facts.lost,
        (State.DISCARDED.value, "false"): facts.discarded,
        (Stage.PURGED.value, "false"): facts.purged,
    }
    labels = ("state", "local")
    images = tuple((key, float(count.images)) for key, count in by_state.items())
    size = tuple((key, float(count.bytes)) for key, count in by_state.items())
    yield Measure("headgate_images", "gauge", "Images by state; local: a copy is here.", labels,
                  images)  # fmt: skip
    yield Measure("headgate_image_bytes", "gauge", "Bytes of images by state.", labels, size)
    yield _counter("headgate_received_images_total", "Images received.", facts.received.images)
    yield _counter(
        "headgate_received_bytes_total", "Bytes of images received.", facts.received.bytes
    )
    yield gauge(
        "headgate_unaccounted_images",
        "Received images that are in no known state: 0, or run headgate verify.",
        facts.unaccounted,
    )
    yield gauge(
        "headgate_oldest_age_seconds",
        "How long the oldest image has waited; 0 if none waits.",
        _age(facts.oldest_waiting_at, facts.at) or 0.0,
    )
    yield gauge(
        "headgate_oldest_due_age_seconds",
        "How long the oldest could have been sent, without pauses between attempts; 0 if none.",
        _age(facts.oldest_due_at, facts.at) or 0.0,
    )
    yield gauge(
        "headgate_oldest_failing_age_seconds",
        "How long the oldest image has waited since it came, if attempts to send it failed; else "
        "0.",
        (_age(facts.oldest_waiting_at, facts.at) or 0.0) if facts.oldest_attempts else 0.0,
    )
    forecast = facts.forecast
    waits = facts.waiting.images + facts.sending.images
    empty = None if forecast.empty is None else forecast.empty.at
    full = None if forecast.full is None else forecast.full.at
    unknown = waits and forecast.doubt
    yield gauge(
        "headgate_forecast_empty_seconds",
        "Until no image waits; +Inf: not within two weeks. No series: unknown, because "
        "nothing is confirmed or no run starts.",
        None if unknown else _until(empty, facts.at) if waits else 0.0,
    )
    yield gauge(
        "headgate_forecast_full_seconds",
        "Until the disk is full; +Inf: not within two weeks.",
        _until(full, facts.at),
    )
    yield gauge(
        "headgate_forecast_inodes_seconds",
        "Until the disk has no inode left; +Inf: not within two weeks.",
        _until(None if forecast.inodes is None else forecast.inodes.at, facts.at),
    )


def _sending(facts: Snapshot) -> Iterator[Measure]:
    totals, budget = facts.run_totals, facts.budget
    yield _counter(
        "headgate_sent_bytes_total",
        "Bytes that runs wrote to the uplink: failed attempts and headers too.",
        totals.wire_bytes,
    )
    yield _counter(
        "headgate_confirmed_bytes_total", "Bytes of images confirmed in the bucket.", totals.bytes
    )
    yield Measure(
        "headgate_attempts_total", "counter", "Images by the result of an attempt.", ("result",),
        (
            (("confirmed",), float(totals.images)),
            (("deferred",), float(totals.deferred)),
            (("set_aside",), float(totals.set_aside)),
        ),
    )  # fmt: skip
    yield Measure(
        "headgate_failures_total", "counter", "Attempts that failed, by kind.", ("kind",),
        tuple(((kind,), float(totals.failures.get(kind, 0))) for kind in FAILURES),
    )  # fmt: skip
    yield gauge("headgate_interval_seconds", "Time between two runs.", budget.interval)
    yield gauge("headgate_cap_bytes_per_second", "Maximum bytes to send in a second.", budget.rate)
    lease = budget.lease
    yield gauge(
        "headgate_uplink_floor_bytes_per_second",
        "Bytes a second that are always this gateway's own, where several share the uplink.",
        None if lease is None else lease.floor,
    )
    yield gauge(
        "headgate_uplink_shared",
        "1 while the gateways of the site can lend each other the uplink.",
        None if lease is None else lease.shared,
    )
    yield gauge("headgate_budget_bytes", "Maximum bytes to send in one interval.", budget.budget)
    yield gauge("headgate_budget_used_bytes", "Bytes sent in the last interval.", budget.used)


def _runs(facts: Snapshot) -> Iterator[Measure]:
    totals = facts.run_totals
    outcomes = sorted(totals.outcomes.items())
    yield Measure(
        "headgate_runs_total", "counter", "Runs that ended, by outcome.", ("outcome",),
        tuple(((outcome,), float(runs)) for outcome, runs in outcomes),
    )  # fmt: skip
    yield _counter("headgate_run_seconds_total", "Seconds that runs took.", totals.seconds)
    yield _counter(
        "headgate_skipped_runs_total", "Runs that found another one active.", totals.skipped
    )
    fired = [one for one in facts.triggers if one.last_at is not None]
    yield Measure(
        "headgate_trigger_last_fired_timestamp_seconds",
        "gauge",
        "When a trigger last requested a run.",
        ("trigger",),
        tuple(((one.kind,), one.last_at.timestamp()) for one in fired if one.last_at),
    )
    last = facts.runs[0] if facts.runs else None
    ended = next((run for run in facts.runs if run.ended_at is not None), None)
    yield gauge(
        "headgate_last_run_timestamp_seconds",
        "When the last run began.",
        None if last is None else last.started_at.timestamp(),
    )
    yield gauge(
        "headgate_last_success_timestamp_seconds",
        "When the last successful run ended: it confirmed images, or none was in doubt.",
        None if facts.last_success_at is None else facts.last_success_at.timestamp(),
    )
    confirmed_at = facts.proof.confirmed_at
    yield gauge(
        "headgate_last_confirmed_timestamp_seconds",
        "When an image was last confirmed in the bucket.",
        None if confirmed_at is None else confirmed_at.timestamp(),
    )
    waits = facts.waiting.images + facts.sending.images
    yield gauge(
        "headgate_unconfirmed_seconds",
        "How long attempts have failed without one that confirmed its image; 0 if they do not.",
        facts.proof.failing_seconds(facts.at) if waits and facts.proof.fruitless_runs else 0.0,
    )
    yield gauge(
        "headgate_last_run_duration_seconds",
        "Duration of the last run that ended.",
        None if ended is None else _age(ended.started_at, ended.ended_at or facts.at),
    )
    yield gauge(
        "headgate_last_run_exit_code",
        "Exit code of the last run that ended; a killed one has none.",
        None if ended is None else ended.exit_code,
    )
    yield gauge("headgate_active_alerts", "Active alerts.", len(facts.alerts))


def _places(facts: Snapshot) -> Iterator[Measure]:
    yield gauge("headgate_disk_free_bytes", "Free on the spool's disk.", facts.free_bytes)
    yield gauge("headgate_disk_size_bytes", "Size of the spool's disk.", facts.disk_bytes)
    yield gauge("headgate_disk_free_inodes", "Free inodes of the spool's disk.", facts.free_inodes)
    yield gauge(
        "headgate_accepting",
        "1 if an image of the largest size would be taken now.",
        facts.admission.accepting,
    )


def _devices(facts: Snapshot) -> Iterator[Measure]:
    known = facts.devices

    def of(name: str, what: str, values: Iterable[tuple[str, float | None]]) -> Measure:
        samples = tuple(((device,), value) for device, value in values if value is not None)
        return Measure(name, "gauge", what, ("device",), samples)

    yield of(
        "headgate_device_last_seen_timestamp_seconds",
        "When the device's last image came.",
        ((one.device, None if one.last_at is None else one.last_at.timestamp()) for one in known),
    )
    yield of(
        "headgate_device_missing_images",
        "Sequence numbers that never arrived.",
        ((one.device, float(one.missing)) for one in known),
    )
    yield Measure(
        "headgate_device_unusable_images_total", "counter",
        "Unusable images: cut off, changed in transit, or not images.", ("device",),
        tuple(((one.device,), float(one.unusable.images)) for one in known),
    )  # fmt: skip
    yield of(
        "headgate_device_clock_offset_seconds",
        "How far the device's clock is ahead; negative: behind.",
        ((one.device, one.clock_offset_seconds) for one in known),
    )
    yield of(
        "headgate_device_silent",
        "1 if it has been quiet for longer than usual.",
        ((one.device, float(one.is_silent(facts.at))) for one in known),
    )


def _age(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else max(0.0, (now - since).total_seconds())


def _until(at: datetime | None, now: datetime) -> float:
    return math.inf if at is None else max(0.0, (at - now).total_seconds())


# -- the text format (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4)


def text(found: Iterable[Measure]) -> str:
    """As a scrape or node_exporter's textfile collector reads it."""
    lines = []
    for measure in found:
        lines.append(f"# HELP {measure.name} {_escaped(measure.what)}")
        lines.append(f"# TYPE {measure.name} {measure.kind}")
        for values, number in measure.samples:
            pairs = zip(measure.labels, values, strict=True)
            labels = ",".join(f'{key}="{_escaped(value, quotes=True)}"' for key, value in pairs)
            lines.append(f"{measure.name}{{{labels}}} {_number(number)}" if labels
                         else f"{measure.name} {_number(number)}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _escaped(words: str, *, quotes: bool = False) -> str:
    words = words.replace("\\", r"\\").replace("\n", r"\n")
    return words.replace('"', r"\"") if quotes else words


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)
