"""What Prometheus scrapes: facts from the spool at the time of the scrape, and what requests met.

Facts of the spool survive restarts; counters of requests begin when this receiver starts,
as counters may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from app.admission.admission import Gate
from app.refusals import REFUSALS
from headgate.monitor.metrics import Measure, gauge, measures, text
from headgate.spool import sqlite
from headgate.spool.spool import Spool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One a receiver. Thread-safe."""

    def __init__(self, spool: Spool, gate: Gate) -> None:
        self._spool, self._gate = spool, gate
        self._version = version("headgate")
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
        self._received_before = spool.catalog.totals().received.bytes
        self._written_before = written_bytes() or 0

    def refused(self, code: str) -> None:
        """A request was refused for this reason."""
        self._refused.labels(code).inc()

    def acknowledged(self, seconds: float) -> None:
        """An upload was acknowledged after so long."""
        self._duration.observe(seconds)

    def exposition(self) -> bytes:
        """All of them, in Prometheus's text format."""
        facts = self._gate.facts(latest=0, runs=3)
        told = [*measures(facts, self._version, sqlite.VERSION), *self._own(facts.received.bytes)]
        return text(told).encode() + generate_latest(self._registry)

    def _own(self, received_bytes: int) -> Iterator[Measure]:
        """What only the receiver knows."""
        yield gauge(
            "headgate_reserved_bytes",
            "Disk space reserved for uploads in progress.",
            self._gate.reservations.size,
        )
        yield gauge(
            "headgate_disk_keep_free_bytes",
            "Uploads are refused below this many free bytes.",
            self._spool.disk().keep_free_bytes,
        )
        yield gauge(
            "headgate_disk_trusted",
            "0 after a disk error until test writes have succeeded; nothing is accepted meanwhile.",
            self._gate.latch.trouble() is None,
        )
        written, received = written_bytes(), received_bytes - self._received_before
        yield gauge(
            "headgate_disk_written_bytes_per_image_byte",
            "Bytes that the receiver wrote to disk per byte of image since it started.",
            None
            if written is None or received <= 0
            else (written - self._written_before) / received,
        )


def written_bytes() -> int | None:
    """What this program made the disk write, as the kernel counts it (proc(5), /proc/pid/io:
    pages that were made dirty); None where it does not say."""
    try:
        found = re.search(r"^write_bytes: (\d+)$", Path("/proc/self/io").read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1])
