"""The status page in tests: the facts it shows, and its HTML."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

from headgate.monitor.snapshot import Snapshot
from headgate.monitor.summary import Place
from headgate.spool.budget.uplink import BudgetUse
from headgate.spool.disk.room import NO_RECEIVER, FreeSpace, Receiving, admission
from headgate.spool.image.image import Count, Receipt, State
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from headgate.spool.spool import Spool

NOW = datetime(2026, 11, 23, 16, 4, 5, tzinfo=UTC)


NONE = Count(0, 0)


PLACE = Place()


FLOOR = 10**10


def room(free: int, receiving: Receiving = NO_RECEIVER) -> dict[str, Any]:
    """The facts of a disk with so much free."""
    answer = admission(20 * 10**6, FreeSpace(free, FLOOR, 10**6), receiving)
    return {"free_bytes": free, "admission": answer}


def facts(*, unaccounted: int = 0, **changes: object) -> Snapshot:
    """A snapshot of a calm site but for these changes; what was received follows from the rest."""
    calm = Snapshot(
        at=NOW,
        received=Count(352, 88_000_000),
        waiting=Count(12, 3_000_000),
        sending=NONE,
        held=NONE,
        set_aside=NONE,
        uploaded_local=Count(340, 85_000_000),
        uploaded_pruned=NONE,
        lost=NONE,
        discarded=NONE,
        purged=NONE,
        oldest_waiting_at=NOW - timedelta(minutes=1),
        latest=(),
        runs=(run(),),
        budget=BudgetUse(
            40_000_000, 12_000_000_000, 300, 85_000_000, 40_000_000, why="20% of the link"
        ),
        free_bytes=10**11,
        disk_bytes=2 * 10**11,
        free_inodes=10**6,
    )
    changed = replace(calm, **changes)  # type: ignore[arg-type]
    return with_unaccounted(
        changed, 0 if "received" in changes else unaccounted - changed.unaccounted
    )


def with_unaccounted(snapshot: Snapshot, more: int) -> Snapshot:
    """The same, and so many more images were received."""
    return replace(snapshot, received=snapshot.received + Count(more, 0))


def run(
    outcome: str = "done",
    images: int = 340,
    minutes: float = 2,
    message: str = "",
    attempts: int = 0,
) -> Run:
    return Run(
        id="r1",
        started_at=NOW - timedelta(minutes=minutes, seconds=30),
        ended_at=NOW - timedelta(minutes=minutes) if outcome else None,
        trigger="cron",
        outcome=Outcome(outcome),
        exit_code=0 if outcome else None,
        images=images,
        bytes=images * 250_000,
        wire_bytes=images * 251_000,
        set_aside=0,
        deferred=0,
        message=message,
        attempts=attempts or images,
    )


class Page(HTMLParser):
    """Every tag closed, and the texts."""

    VOID = ("meta", "link", "img", "rect", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())


class Told(Spool):
    """A real spool, of which the page shows what a test says."""

    said: Snapshot

    def risk(self) -> None:
        """None, on whatever disk these tests run."""


def receipt(state: State, **changes: object) -> Receipt:
    image = Receipt(
        id="20261123T160401.000000Z_cam-07_0123456789abcdef",
        sha256="0" * 64,
        size=250_000,
        device="cam-07",
        received_at=NOW - timedelta(seconds=4),
        state=state,
        local=True,
        media_type="image/jpeg",
    )
    return replace(image, **changes)  # type: ignore[arg-type]


ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


def basic(name: str, token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()}
