"""No upload starts that what is left does not cover: a day's allowance, the time until a pause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.budget.uplink import Uplink
from headgate.spool.image.image import Item, State
from headgate.spool.image.names import Name
from headgate.spool.site.outcome import Outcome
from tests.support.s3_server import Place
from tests.support.site import Site
from tests.support.spooling import open_spool, put
from uploader.run.bounds import QUEUE_BREAK_OFF_SECONDS, RunRequest, bounds_of
from uploader.run.pick import Clearance
from uploader.run.runway import AROUND_BYTES, Runway

MONDAY = datetime(2026, 11, 23, 7, 58, tzinfo=UTC)


@dataclass
class FakePacer:
    rate: int = 1_000_000
    sent: int = 0
    left_today: int | None = None


@dataclass
class World:
    uplink: Uplink
    at: datetime = MONDAY
    pacer: FakePacer = field(default_factory=FakePacer)
    arrivals: int = 0

    def seconds(self) -> float:
        return (self.at - MONDAY).total_seconds()

    def runway(self, **more: Any) -> Runway:
        return Runway(self.uplink, cast(Any, self.pacer), self.seconds, **more)

    def image(self, room: int) -> Item:
        """One that takes so much room."""
        self.arrivals += 1
        name = Name(MONDAY, "cam", f"{self.arrivals:016x}", "jpg")
        return Item(name, "0" * 64, room - AROUND_BYTES, State.WAITING, self.arrivals)

    def passes(self, seconds: float, sent: int = 0) -> None:
        self.at += timedelta(seconds=seconds)
        self.pacer.sent += sent


@contextmanager
def world_in(root: Path, **flags: str) -> Iterator[World]:
    world = World(cast(Any, None))
    spool = open_spool(root, lambda: world.at, uplink__link="1MB/s", uplink__share="100%", **flags)
    world.uplink = spool.uplink
    object.__setattr__(spool.uplink, "local", lambda at: at)
    world.pacer.rate = spool.uplink.cap().for_images
    yield world
    spool.close()


def test_what_is_left_of_the_day_covers_all_that_are_under_way(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__daily="100MB") as world:
        runway, world.pacer.left_today = world.runway(), 1_000_000
        first, second, third, small = (world.image(n) for n in (400_000, 500_000, 300_000, 90_000))
        assert runway.clear(first) is runway.clear(second) is Clearance.NOW
        assert runway.clear(third) is Clearance.LATER  # it fits alone
        assert runway.clear(small) is Clearance.NOW
        world.pacer.left_today = 600_000  # the first one left
        runway.ended([first])
        assert runway.clear(third) is Clearance.LATER
        world.pacer.left_today = 320_000
        runway.ended([second, small])
        assert runway.clear(third) is Clearance.NOW
        runway.ended([third])
        world.pacer.left_today = 10_000
        assert runway.clear(third) is Clearance.NOT_ANY_MORE
        refusals = runway.take_refusals()
        assert refusals.short is Outcome.ALLOWANCE_SPENT and not refusals.never
        assert runway.take_refusals().short is None
        ending = runway.ending(Outcome.ALLOWANCE_SPENT)
        assert "10.0 kB are left of it" in ending.message and "Tue 24 Nov" in ending.message
        assert world.uplink.budget().day_spent  # for the page, alerts and forecasts
        assert world.uplink.daily() is not None
        world.at += timedelta(days=1)
        assert not world.uplink.budget().day_spent


def test_an_image_that_takes_more_than_a_day_never_starts(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__daily="50MB") as world:
        runway, world.pacer.left_today = world.runway(), 49_800_000
        large = world.image(49_900_000)
        assert runway.clear(large) is Clearance.NEVER
        assert runway.take_refusals().never == [large]
        assert runway.clear(world.image(49_000_000)) is Clearance.NOW


def test_the_time_until_the_timetables_pause_covers_all_that_are_under_way(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__timetable="Mon-Fri 08:00-18:00 0%") as world:
        runway = world.runway()
        assert runway.clear(world.image(1_000_000)) is Clearance.NOW
        assert runway.clear(world.image(60_000_000)) is Clearance.NOW  # of 120 s at 1 MB/s
        assert runway.clear(world.image(60_000_000)) is Clearance.LATER
        assert runway.clear(world.image(121_000_000)) is Clearance.NOT_ANY_MORE
        assert runway.take_refusals().short is Outcome.PAUSED
        assert runway.clear(world.image(50_000_000)) is Clearance.NOW
        world.passes(90, sent=90 * world.pacer.rate)
        assert runway.clear(world.image(1_000_000)) is Clearance.LATER
        assert runway.clear(world.image(30_000_000)) is Clearance.NOT_ANY_MORE


def test_a_limit_that_ends_in_a_pause_counts_until_then(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__timetable="Mon-Fri 07:00-18:00 0%") as world:
        until = world.at + timedelta(seconds=10)
        cast(Any, world.uplink.site).put(
            "limit", {"share": "50%", "until": until.isoformat(), "reason": "now"}
        )
        # Minute by minute: the limit holds at 07:58:00, and no more at 07:59:00.
        assert world.uplink.room_before_pause() == 60 * world.uplink.cap().for_images
        cast(Any, world.uplink.site).put("limit", None)
        assert world.uplink.room_before_pause() == 0


def test_a_pause_that_is_far_away_or_never_comes_holds_nothing_back(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__timetable="Mon-Fri 21:00-22:00 0%; Sat 10%") as world:
        assert world.uplink.room_before_pause() is None
        runway = world.runway()
        for _ in range(3):
            assert runway.clear(world.image(10**9)) is Clearance.NOW
    with world_in(tmp_path / "other", uplink__timetable="Mon-Fri 08:00-18:00 10%") as world:
        assert world.uplink.room_before_pause() is None


def test_a_slow_network_is_what_counts_and_not_the_rate(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__timetable="Mon-Fri 08:00-18:00 0%") as world:
        runway = world.runway()
        assert runway.clear(world.image(1_000_000)) is Clearance.NOW
        assert runway.clear(world.image(1_000_000)) is Clearance.NOW
        world.passes(60, sent=6_000_000)  # a tenth of the rate
        assert runway.clear(world.image(5_000_000)) is Clearance.LATER  # 6 MB in 60 s
        assert runway.clear(world.image(7_000_000)) is Clearance.NOT_ANY_MORE
        assert runway.clear(world.image(3_000_000)) is Clearance.NOW


def test_time_alone_never_keeps_a_run_from_its_first_image(tmp_path: Path) -> None:
    with world_in(tmp_path, uplink__timetable="Mon-Fri 08:00-18:00 0%") as world:
        runway = world.runway(cut_at=10)
        assert runway.clear(world.image(10**9)) is Clearance.NOW
        assert runway.clear(world.image(10**9)) is Clearance.NOT_ANY_MORE


def test_a_run_of_the_queue_starts_nothing_that_its_worker_would_break_off(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        settings = world.uplink.settings
        interval = settings.uplink.interval
        bounds = bounds_of(settings, RunRequest(trigger="queue"))
        assert bounds.cut_seconds == interval - QUEUE_BREAK_OFF_SECONDS
        assert bounds_of(settings, RunRequest(trigger="http")).cut_seconds == bounds.cut_seconds
        assert bounds_of(settings, RunRequest(trigger="cron")).cut_seconds is None
        runway = world.runway(cut_at=bounds.cut_seconds)
        rate = world.pacer.rate
        assert runway.clear(world.image(100 * rate)) is Clearance.NOW
        world.passes(bounds.cut_seconds - 100, sent=(interval - 100) * rate)
        assert runway.clear(world.image(10 * rate)) is Clearance.LATER
        assert runway.clear(world.image(101 * rate)) is Clearance.NOT_ANY_MORE
        assert runway.take_refusals().short is Outcome.TIME_SPENT


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 400_000), st.integers(0, 3)), max_size=60))
def test_what_starts_always_fits_into_what_is_left(steps: list[tuple[int, int]]) -> None:
    """An oracle of its own: each image leaves whole, at its end, and the day is never overdrawn."""
    world = World(cast(Any, FakeUplink()))
    world.pacer.left_today = left = 2_000_000
    runway, under_way = world.runway(), []
    for room, ending in steps:
        image = world.image(room + AROUND_BYTES)
        if runway.clear(image) is Clearance.NOW:
            under_way.append(image)
        for done in under_way[:ending]:
            left -= done.size + AROUND_BYTES
            under_way.remove(done)
            world.pacer.left_today = left
            runway.ended([done])
        assert left - sum(one.size + AROUND_BYTES for one in under_way) >= 0


class FakeUplink:
    day: Any = None
    charged_day: Any = None
    more_today: Any = None

    def allowance(self, _part: object) -> int:
        return 2_000_000

    def room_before_pause(self) -> None:
        return None


@dataclass
class FakeDay:
    """A day that is shared with other gateways, and what may still be had of it."""

    free: int
    wished: int = 0

    def wish(self, size: int) -> None:
        self.wished = size


def test_a_run_waits_for_what_the_sites_pool_still_has() -> None:
    day = FakeDay(500_000)
    uplink = FakeUplink()
    uplink.day = day
    uplink.charged_day = lambda: 739_000
    uplink.more_today = lambda number: day.free if number == 739_000 else 0
    pacer = FakePacer(left_today=100_000)
    world = World(cast(Any, uplink), pacer=pacer)
    runway = world.runway()
    image, small = world.image(200_000), world.image(50_000)
    assert runway.clear(small) is Clearance.NOW and day.wished == 0
    assert runway.clear(image) is Clearance.LATER and day.wished > 250_000
    pacer.left_today = day.wished
    assert runway.clear(image) is Clearance.NOW
    pacer.left_today, day.free = 10_000, 100_000
    assert runway.clear(world.image(150_000)) is Clearance.NOT_ANY_MORE
    assert runway.take_refusals().short is Outcome.ALLOWANCE_SPENT


# -- in a run


@pytest.fixture
def site(tmp_path: Path, place: Place) -> Iterator[Site]:
    made = Site(
        tmp_path, place, uplink__daily="200kB", receiver__max_image="100kB",
        uplink__link="100MB/s",
    )  # fmt: skip
    try:
        yield made
    finally:
        made.server.stop()
        made.spool.close()


def test_an_image_larger_than_a_day_is_set_aside_and_the_others_go(site: Site) -> None:
    large = put(site.spool, b"\xff\xd8" + b"x" * 250_000).receipt.id  # taken under a larger limit
    images = site.fill(3)
    run = site.run()
    assert (run.outcome, run.set_aside, run.images) == (Outcome.DONE, 1, 3)
    assert site.objects() == images and site.aside == [large]
    item = site.spool.catalog.get(large)
    assert item is not None and "Raise uplink.daily, then headgate retry" in item.last_error


def test_a_small_image_goes_where_a_larger_one_does_not_fit_any_more(site: Site) -> None:
    put(site.spool, b"\xff\xd8" + b"x" * 120_000, device="a")
    first = site.run()
    assert (first.outcome, first.images) == (Outcome.DONE, 1)
    large = put(site.spool, b"\xff\xd9" + b"x" * 80_000, device="a").receipt.id
    small = put(site.spool, b"\xff\xd8small", device="b").receipt.id
    second = site.run()
    assert (second.outcome, second.images, second.waiting) == (Outcome.ALLOWANCE_SPENT, 1, 1)
    assert "too little for the next image" in second.message
    waits, gone = site.spool.catalog.get(large), site.spool.catalog.get(small)
    assert gone is None and waits is not None and not waits.unknown and not waits.attempts
    assert "a" not in site.spool.catalog.backlog.served() or (
        site.spool.catalog.backlog.served()["a"] < 200_000
    )
    assert site.run().wire_bytes == 0
