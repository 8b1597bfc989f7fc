"""A report of a gateway, as tests publish it."""

from __future__ import annotations

from headgate.monitor.fleet import GatewayReport
from headgate.monitor.rules import Level

ONE = GatewayReport(
    gateway="gw1", version="1", level=Level.OK, sentence="", received=10, waiting=3,
    waiting_bytes=3000, sending=1, held=1, set_aside=1, uploaded=2, discarded=1, purged=1, lost=0,
    oldest_seconds=60, rate=40, floor=10, used=20, not_shared="", free_bytes=5, disk_bytes=9,
    empty_at=None, full_at="2026-11-24T00:00:00Z",
)  # fmt: skip
