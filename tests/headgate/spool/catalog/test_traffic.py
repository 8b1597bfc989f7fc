"""What came in and went out: as many as the images that did, in their minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from headgate.spool.catalog import traffic
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count
from headgate.spool.spool import Spool
from tests.support.spooling import Clock, put, upload_all


def test_images_are_counted_in_the_minute_in_which_they_came_and_went(
    spool: Spool, clock: Clock
) -> None:
    began = clock.at
    for number in range(3):
        put(spool, b"image %d" % number)
    put(spool, b"image 0")  # held already: nothing came in
    clock.advance(minutes=2)
    put(spool, b"another")
    assert upload_all(spool) == 4
    spool.catalog.note_sent(500, clock.at)
    spool.catalog.note_sent(20, clock.at)
    none = Count()
    assert spool.catalog.flow(began, 1) == [
        Flow(began.replace(second=0, microsecond=0), 1, Count(3, 21), none, 0),
        Flow(
            (began + timedelta(minutes=2)).replace(second=0, microsecond=0),
            1, Count(1, 7), Count(4, 28), 520,
        ),
    ]  # fmt: skip
    (whole,) = spool.catalog.flow(began, 60)
    assert (whole.received, whole.uploaded, whole.sent_bytes) == (Count(4, 28), Count(4, 28), 520)
    assert whole.at.minute == 0
    assert spool.catalog.flow(clock.at + timedelta(minutes=1), 1) == []


def test_old_minutes_go(spool: Spool, clock: Clock) -> None:
    began = clock.at
    put(spool, b"old")
    clock.advance(days=traffic.KEEP.days, minutes=1)
    put(spool, b"new")
    spool.catalog.note_sent(1, clock.at)
    assert [one.received.bytes for one in spool.catalog.flow(began, 1)] == [3]
    assert spool.catalog.flow(began, 1)[0].at > began


def test_times_are_utc(spool: Spool) -> None:
    put(spool, b"x")
    (one,) = spool.catalog.flow(datetime(2026, 1, 1, tzinfo=UTC), 5)
    assert one.at.tzinfo is UTC
