"""What Prometheus scrapes: facts from the spool at the time of the scrape, and what requests met.

Names follow Prometheus's rules (base units, ``_total``). Labels are bounded: states, and reasons
of the table of refusals. Facts of the spool are true whoever restarts; what requests met counts
since this receiver started, as counters may.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from app.gate import Gate
from app.refusals import REFUSALS
from spool.item import State
from spool.spool import Spool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One a receiver. Thread-safe."""

    def __init__(self, spool: Spool, gate: Gate) -> None:
        self._registry = CollectorRegistry()
        self._refused = Counter(
            "headgate_refused", "Requests that were refused.", ["reason"], registry=self._registry
        )
        for code in REFUSALS:
            self._refused.labels(code)  # from the start, so that a first one is an increase
        self._duration = Histogram(
            "headgate_upload_duration_seconds",
            "From the first header of an upload to its acknowledgement.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_Facts(spool, gate))

    def refused(self, code: str) -> None:
        """A request was refused for this reason."""
        self._refused.labels(code).inc()

    def acknowledged(self, seconds: float) -> None:
        """An upload was acknowledged after so long."""
        self._duration.observe(seconds)

    def exposition(self) -> bytes:
        """All of them, in Prometheus's text format."""
        return generate_latest(self._registry)


class _Facts:
    """Asked at each scrape."""

    def __init__(self, spool: Spool, gate: Gate) -> None:
        self._spool = spool
        self._gate = gate

    def describe(self) -> Iterable[Metric]:
        """Nothing is collected only to learn the names."""
        return ()

    def collect(self) -> Iterable[Metric]:
        facts = self._spool.facts(latest=0, runs=1)
        by_state = {
            (State.WAITING, "true"): facts.waiting,
            (State.SENDING, "true"): facts.sending,
            (State.UPLOADED, "true"): facts.uploaded_local,
            (State.UPLOADED, "false"): facts.uploaded_pruned,
            (State.SET_ASIDE, "true"): facts.set_aside,
        }
        images = GaugeMetricFamily(
            "headgate_images",
            "Images by state, and whether a copy is here.",
            labels=["state", "local"],
        )
        size = GaugeMetricFamily(
            "headgate_image_bytes", "Bytes of images by state.", labels=["state", "local"]
        )
        for (state, local), count in by_state.items():
            images.add_metric([state.value, local], count.images)
            size.add_metric([state.value, local], count.bytes)
        yield images
        yield size
        yield CounterMetricFamily(
            "headgate_received_images", "Images received.", value=facts.received.images
        )
        yield CounterMetricFamily(
            "headgate_received_bytes", "Bytes of images received.", value=facts.received.bytes
        )
        reserved = self._gate.reservations
        for name, what, value in (
            ("headgate_unaccounted_images", "0, or run headgate verify.", facts.unaccounted),
            ("headgate_disk_free_bytes", "Free on the spool's disk.", facts.free_bytes),
            ("headgate_disk_size_bytes", "Size of the spool's disk.", facts.disk_bytes),
            ("headgate_disk_free_inodes", "Free inodes of the spool's disk.", facts.free_inodes),
            ("headgate_disk_keep_free_bytes", "The floor.", self._gate.room().keep_free_bytes),
            ("headgate_reserved_bytes", "Promised to uploads that arrive now.", reserved.size),
            (
                "headgate_disk_trusted",
                "0 after the disk failed, until probes have passed: nothing is accepted then.",
                self._gate.latch.trouble() is None,
            ),
            ("headgate_cap_bytes_per_second", "What may leave in a second.", facts.budget.rate),
        ):
            yield GaugeMetricFamily(name, what, value=float(value))
