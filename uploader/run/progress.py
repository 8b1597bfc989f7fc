"""The progress of a run, on one line of a terminal or one line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from headgate.host import terminal
from headgate.host.progress import Line, can_show
from headgate.monitor import collect
from headgate.settings.units import human_duration, human_size
from headgate.spool.image.image import Count
from headgate.spool.spool import Spool
from uploader.run.report import Progress
from uploader.wire.pacer import Pacer

_WINDOW_SECONDS = 10.0
_QUIET_SECONDS = 10.0
_FORECAST_SECONDS = 5.0


def parts_of(
    progress: Progress,
    waiting: Count,
    rate: float,
    cap: int,
    seconds: float | None,
    *,
    in_vain: bool = False,
) -> list[str]:
    """What is said, the most important first: ``seconds`` until it is empty (None: not at this
    rate), images, bytes, rate against the cap; ``in_vain``: what is tried is not confirmed. Pure.
    """
    if not waiting.images:
        left = "empty"
    elif rate < 1:
        left = "nothing is moving"
    elif in_vain:
        left = "nothing is confirmed"
    elif seconds is None:
        left = "more comes in than goes out"
    else:
        left = f"empty in {human_duration(max(0.0, seconds))}"
    parts = [
        left,
        f"{progress.images:,} uploaded",
        f"{waiting.images:,} wait",
        f"{human_size(rate)}/s of {human_size(cap)}/s",
        f"{human_size(progress.bytes)} of {human_size(progress.bytes + waiting.bytes)}",
    ]
    if progress.set_aside:
        parts.insert(3, f"{progress.set_aside:,} set aside")
    return parts


class ProgressWatcher:
    """Call it with the progress, about once a second."""

    def __init__(
        self,
        spool: Spool,
        pacer: Pacer,
        out: TextIO | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool, self._pacer = spool, pacer
        self._out = out if out is not None else sys.stderr
        self._lines = terminal.NeverFails(self._out)
        self._line = Line(self._out) if can_show(self._out) else None
        self._monotonic = monotonic
        self._seen: deque[tuple[float, int]] = deque([(monotonic(), 0)])
        self._said = monotonic()
        self._foreseen = monotonic() - _FORECAST_SECONDS
        self._empty: datetime | None = None
        self._in_vain = False

    def __call__(self, progress: Progress) -> None:
        now = self._monotonic()
        self._seen.append((now, self._pacer.sent))
        while len(self._seen) > 2 and self._seen[0][0] < now - _WINDOW_SECONDS:
            self._seen.popleft()
        if self._line is None and now - self._said < _QUIET_SECONDS:
            return
        self._said = now
        (since, before), (_, sent) = self._seen[0], self._seen[-1]
        rate = (sent - before) / (now - since) if now > since else 0.0
        totals = self._spool.catalog.totals()
        left = totals.waiting + totals.sending
        if now - self._foreseen >= _FORECAST_SECONDS:
            self._foreseen = now
            confirmed = progress.images / progress.attempts if progress.attempts else 1.0
            forecast = collect.forecast(self._spool, rate * min(1.0, confirmed))
            self._empty = None if forecast.empty is None else forecast.empty.at
            self._in_vain = bool(forecast.doubt)
        seconds = None if self._empty is None else (self._empty - self._spool.now()).total_seconds()
        cap = self._pacer.rate
        parts = parts_of(progress, left, rate, cap, seconds, in_vain=self._in_vain)
        total = progress.bytes + left.bytes
        if self._line is not None:
            self._line.say(progress.bytes, total, parts)
            return
        share = progress.bytes / total if total else 1.0
        self._lines.write(f"{share:4.0%}  {'  '.join(parts)}\n")
        self._lines.flush()

    def close(self) -> None:
        """Clear the line for the report."""
        if self._line is not None:
            self._line.close()
