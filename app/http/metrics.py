"""What Prometheus scrapes: facts from the spool at the time of the scrape, and what requests met.

Facts of the spool survive restarts; counters of requests begin when this receiver starts,
as counters may. They are on the board, so that any of its processes can tell of all.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.admission.admission import Gate
from app.refusals import REFUSALS
from headgate.host.board import (
    BEGUN,
    DURATION_SUM,
    DURATIONS,
    PID,
    PROCESS,
    REFUSED,
    WRITTEN,
    Board,
    Part,
)
from headgate.host.processes import written_bytes
from headgate.monitor.metrics import Measure, gauge, measures, text
from headgate.spool import sqlite
from headgate.spool.spool import Spool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CELLS = {code: cell for cell, code in enumerate(REFUSALS)}
_AT, _RECEIVED, _WROTE = range(3)
"""The cells of ``BEGUN``: when the receiver did, and what had been received and written then."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _Counted(Collector):
    """What requests met, summed over the processes of the receiver, dead ones included: a process
    that takes the place of another goes on from its numbers."""

    def __init__(self, board: Board, began: float) -> None:
        self._board = board
        self._began = began

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "headgate_refused", "Requests that were refused.", labels=["reason"]
        )
        for code, cell in _CELLS.items():  # all of them, so that a first one is an increase
            refused.add_metric([code], self._board.total(REFUSED, cell), self._began)
        yield refused
        buckets, below = [], 0
        for cell, bound in enumerate((*_BUCKETS, math.inf)):
            below += int(self._board.total(DURATIONS, cell))
            buckets.append(("+Inf" if bound == math.inf else str(float(bound)), below))
        took = HistogramMetricFamily(
            "headgate_upload_duration_seconds",
            "From the first header of an upload to its acknowledgement.",
            buckets=buckets,
            sum_value=self._board.total(DURATION_SUM, 0),
        )
        took.add_sample(f"{took.name}_created", {}, self._began)
        yield took


class Metrics:
    """Counts what requests meet, in one process of the receiver. Thread-safe."""

    def __init__(self, spool: Spool, gate: Gate) -> None:
        self._spool, self._gate = spool, gate
        self._version = version("headgate")
        self._board = spool.board
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._begun = self._board.own(BEGUN)
        with self._board.lock(Part.METRICS):
            if not self._begun[_AT]:  # the first of the processes
                self._begun[_RECEIVED] = spool.catalog.totals().received.bytes
                self._begun[_WROTE] = self._written() or 0
                self._begun[_AT] = time.time()
        self._registry.register(_Counted(self._board, self._begun[_AT]))

    def refused(self, code: str) -> None:
        """A request was refused for this reason."""
        with self._lock:
            self._board.own(REFUSED)[_CELLS[code]] += 1

    def acknowledged(self, seconds: float) -> None:
        """An upload was acknowledged after so long."""
        with self._lock:
            self._board.own(DURATIONS)[bisect.bisect_left(_BUCKETS, seconds)] += 1
            self._board.own(DURATION_SUM)[0] += seconds

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        facts = self._gate.snapshot(latest=0, runs=3)
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
        written, received = self._written(), received_bytes - self._begun[_RECEIVED]
        yield gauge(
            "headgate_disk_written_bytes_per_image_byte",
            "Bytes that the receiver wrote to disk per byte of image since it started.",
            None
            if written is None or received <= 0
            else (written - self._begun[_WROTE]) / received,
        )

    def _written(self) -> int | None:
        """Bytes that all processes wrote, dead ones included; None: the kernel does not say."""
        written = int(self._board.total(WRITTEN, 0))
        for cells in self._board.all(PROCESS):
            if pid := cells[PID]:
                alive = written_bytes(pid)
                if alive is None:
                    return None
                written += alive
        return written
