"""What will be, on simulated sites of which everything is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.monitor import collect
from headgate.monitor.collect import snapshot
from headgate.monitor.forecast import Doubt, Outlook, forecast, wait_for_room
from headgate.monitor.metrics import measures
from headgate.spool.budget.daily import Daily
from headgate.spool.budget.uplink import Part
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count
from headgate.spool.site.outcome import Outcome
from headgate.spool.site.runs import Run
from tests.support.spooling import Clock, open_spool, put

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


# -- empty and full, on simulated sites


MB = 10**6
MINUTE = timedelta(minutes=1)


class World:
    """A site of which everything is known: what comes in by the minute, and what the network and
    the cap let out."""

    def __init__(
        self,
        came: Callable[[datetime], float],
        carries: Callable[[datetime], float],
        waiting: float = 0.0,
        cap: Callable[[datetime], int] = lambda _at: 40 * MB,
        size: int = MB // 4,
    ) -> None:
        self.size = size
        self.came, self.carries, self.cap = came, carries, cap
        self.now, self.waiting = NOW, waiting
        self.flows: list[Flow] = []

    def minute(self) -> None:
        came = self.came(self.now) * 60
        goes = min(self.waiting + came, min(self.carries(self.now), self.cap(self.now)) * 60)
        self.waiting += came - goes
        if came or goes:
            counts = [Count(round(size / self.size), round(size)) for size in (came, goes)]
            self.flows.append(Flow(self.now, 1, *counts, round(goes)))
        self.now += MINUTE

    def run(self, **span: float) -> World:
        until = self.now + timedelta(**span)
        while self.now < until:
            self.minute()
        return self

    def outlook(
        self, *, room: int = 10**15, inodes: int = 10**9, down: bool = False, **more: Any
    ) -> Outlook:
        hours: dict[datetime, list[Flow]] = {}
        for flow in self.flows:
            hours.setdefault(flow.at.replace(minute=0), []).append(flow)
        return Outlook(
            now=self.now,
            waiting=Count(round(self.waiting / self.size), round(self.waiting)),
            room=Count(inodes, room),
            rate_at=self.cap,
            minutes=[flow for flow in self.flows if flow.at >= self.now - 15 * MINUTE],
            hours=[
                Flow(at, 60, sum((f.received for f in inner), Count()),
                     sum((f.uploaded for f in inner), Count()), 0)
                for at, inner in hours.items()
            ],
            doubt=Doubt.UPLINK_DOWN if down else Doubt.NONE,
            **more,
        )  # fmt: skip

    def empty_at(self) -> datetime:
        while self.waiting > 0:
            self.minute()
        return self.now


def constant(megabytes: float) -> Callable[[datetime], float]:
    return lambda _at: megabytes * MB


def noisy(megabytes: float, part: float, seed: int) -> Callable[[datetime], float]:
    chance = random.Random(seed)
    return lambda _at: megabytes * MB * (1 + part * (2 * chance.random() - 1))


@pytest.mark.parametrize("seed", range(5))
def test_the_owners_site_after_eight_hours_without_its_link(seed: int) -> None:
    """500 MB a minute come in, 240 GB wait, 2,400 MB a minute go out: within 10 % after three
    intervals."""
    world = World(noisy(8.33, 0.5, seed), noisy(39.6, 0.02, seed), waiting=240_000 * MB)
    world.run(minutes=15)
    found = forecast(world.outlook())
    began, truth = world.now, world.empty_at()
    assert found.empty is not None
    wrong = abs((found.empty.at - truth).total_seconds())
    assert wrong <= 0.1 * (truth - began).total_seconds()
    assert found.empty.earliest <= found.empty.at
    assert found.empty.latest is not None
    assert found.empty.at <= found.empty.latest
    assert found.full is None


def test_a_network_that_carries_less_than_the_cap_is_noticed() -> None:
    world = World(constant(5), constant(10), waiting=50_000 * MB)
    world.run(minutes=15)
    found = forecast(world.outlook())
    assert found.carried_per_second == pytest.approx(10 * MB)
    began, truth = world.now, world.empty_at()
    assert found.empty is not None
    wrong = abs((found.empty.at - truth).total_seconds())
    assert wrong <= 0.1 * (truth - began).total_seconds()


def test_quiet_minutes_say_nothing_of_the_network() -> None:
    """Nothing waits: that little goes out is no sign that little could."""
    world = World(constant(1), constant(100))
    world.run(minutes=15)
    assert forecast(world.outlook()).carried_per_second == 40 * MB


def test_what_comes_in_faster_than_it_goes_is_never_gone_and_fills_the_disk() -> None:
    world = World(constant(50), constant(100), waiting=1000 * MB)
    world.run(minutes=15)
    found = forecast(world.outlook(room=36_000 * MB))
    assert found.empty is None
    assert found.full is not None
    assert (found.full.at - world.now).total_seconds() == pytest.approx(3600, rel=0.01)
    assert found.full.earliest < found.full.at


def test_while_the_uplink_is_down_nothing_is_promised() -> None:
    world = World(constant(10), constant(0), waiting=1000 * MB)
    world.run(minutes=15)
    found = forecast(world.outlook(room=6000 * MB, down=True))
    assert found.empty is None
    assert found.full is not None
    assert (found.full.at - world.now).total_seconds() == pytest.approx(600, rel=0.01)


def test_nothing_waits_and_the_disk_is_full() -> None:
    world = World(constant(0), constant(40))
    found = forecast(world.outlook(room=0))
    assert found.empty is not None
    assert found.full is not None
    assert found.empty.at == found.full.at == world.now


def test_with_a_day_of_history_each_hour_has_its_own_arrivals() -> None:
    """Shop hours: nothing comes at night, so the evening's backlog goes faster than it came."""

    def shop(at: datetime) -> float:
        return 60.0 * MB if 8 <= at.hour < 20 else 2.0 * MB

    world = World(shop, constant(100), waiting=0)
    world.run(hours=27, minutes=26)  # it is half past seven in the evening: a backlog of 11.5 hours
    found = forecast(world.outlook())
    began, truth = world.now, world.empty_at()
    assert found.empty is not None
    wrong = abs((found.empty.at - truth).total_seconds())
    assert wrong <= 0.1 * (truth - began).total_seconds()


def test_a_timetable_counts_hour_by_hour() -> None:
    def cap(at: datetime) -> int:
        return 10 * MB if at.hour < 18 else 80 * MB

    world = World(constant(10), constant(1000), waiting=500_000 * MB, cap=cap)
    world.run(minutes=15)
    found = forecast(world.outlook())
    began, truth = world.now, world.empty_at()
    assert found.empty is not None
    wrong = abs((found.empty.at - truth).total_seconds())
    assert wrong <= 0.1 * (truth - began).total_seconds()


def test_nothing_to_go_by_is_no_reason_to_fail() -> None:
    quiet = Outlook(NOW, Count(100, 100 * MB), Count(10**9, 10**12), lambda _at: 10 * MB, (), ())
    found = forecast(quiet)
    assert found.empty is not None
    assert found.empty.at == NOW + timedelta(seconds=10)
    paused = Outlook(NOW, Count(100, 100 * MB), Count(10**9, 10**12), lambda _at: 0, (), ())
    assert forecast(paused).empty is None


def test_inodes_run_out_by_the_images_that_come_whatever_their_size() -> None:
    """10 a second of 1 kB come and none goes: 36,000 inodes are an hour."""
    world = World(constant(0.01), constant(0), waiting=0, size=1000)
    world.run(minutes=15)
    found = forecast(world.outlook(inodes=36_000, down=True))
    assert found.full is None
    assert found.inodes is not None
    assert (found.inodes.at - world.now).total_seconds() == pytest.approx(3600, rel=0.01)
    sent = World(constant(0.01), constant(1), waiting=0, size=1000).run(minutes=15)
    assert forecast(sent.outlook(inodes=36_000)).inodes is None  # they go as fast as they come


def test_what_a_run_measures_counts_instead_of_what_was() -> None:
    """The timetable still holds: half of what may go now, and half of what may go later."""

    def cap(at: datetime) -> int:
        return 10 * MB if at.hour < 17 else 40 * MB

    world = World(constant(0), constant(1000), waiting=34_000 * MB, cap=cap)
    found = forecast(world.outlook(measured=5.0 * MB))
    hour = NOW.replace(hour=17, minute=0)
    left = 34_000 * MB - (hour - NOW).total_seconds() * 5 * MB
    assert found.empty is not None
    expected = hour + timedelta(seconds=left / (20 * MB))
    assert abs((found.empty.at - expected).total_seconds()) < 1


def test_a_daily_allowance_spreads_the_backlog_over_days() -> None:
    """Of 2.5 GB 0.6 may still leave today and 1.0 tomorrow: the rest takes 90 s after midnight."""
    world = World(constant(0), constant(1000), waiting=2500 * MB, cap=lambda _at: 10 * MB)
    daily = Daily(1000 * MB, 400 * MB, lambda at: at.toordinal())
    found = forecast(world.outlook(daily=daily))
    midnight = NOW.replace(hour=0, minute=0) + timedelta(days=2)
    assert found.empty is not None
    assert found.empty.at == midnight + timedelta(seconds=90)
    assert found.carried_per_second == 10 * MB


def test_a_day_whose_allowance_is_spent_lets_nothing_out_until_midnight() -> None:
    world = World(constant(1), constant(1000), waiting=100 * MB, cap=lambda _at: 10 * MB)
    world.run(minutes=15)
    outlook = world.outlook(daily=Daily(10**12, 10**12, lambda at: at.toordinal()), room=3600 * MB,
                            inodes=4 * 1800)  # fmt: skip
    found = forecast(outlook)
    assert found.full is not None and found.inodes is not None
    assert found.full.at - world.now == timedelta(seconds=3600)
    assert found.inodes.at - world.now == timedelta(seconds=1800)
    assert found.carried_per_second == 0
    assert wait_for_room(outlook, 1000, 0.5) is None


def test_a_spool_knows_what_of_its_day_is_left(tmp_path: Path) -> None:
    clock = Clock()
    with closing(open_spool(tmp_path, clock, uplink__daily="1GB")) as spool:
        put(spool, b"1" * 1000)
        spool.site.save_run(run("one", clock.at, Outcome.DONE, images=1, confirmed_at=clock.at))
        assert collect.forecast(spool).empty is not None
        daily = spool.uplink.daily()
        assert daily is not None
        assert (daily.allowance, daily.used) == (spool.uplink.allowance(Part.DRAIN), 0)
        with (
            spool.hold_drain_lock("a test", 0),
            closing(spool.uplink.open_ledger(Part.DRAIN)) as book,
        ):
            while book.charge(10**9, 10**9) is not None:
                pass
        assert collect.forecast(spool).carried_per_second == 0
    with closing(open_spool(tmp_path / "2", clock)) as other:
        assert other.uplink.daily() is None


@pytest.mark.parametrize(
    ("missing", "chance", "expected"),
    [
        (4000 * MB, 0.5, 100),
        (4000 * MB, 0.0, 75),
        (4000 * MB, 1.0, 125),
        (0, 0.5, 5),  # soon, and not at once
        (10**18, 0.5, 3600),  # nobody waits for days on a guess
    ],
)
def test_the_wait_for_room_is_bounded_and_spread(
    missing: int, chance: float, expected: int
) -> None:
    assert wait_for_room(World(constant(1), constant(100)).outlook(), missing, chance) == expected


def test_a_wait_for_room_that_nobody_knows() -> None:
    world = World(constant(1), constant(100))
    assert wait_for_room(world.outlook(down=True), 1000, 0.5) is None
    paused = World(constant(1), constant(100), cap=lambda at: 0 if at.hour < 17 else 40 * MB)
    assert wait_for_room(paused.outlook(), 1000, 0.5) is None


def test_a_pause_on_the_way_is_waited_for() -> None:
    """Ten minutes at 1 MB/s, then a pause of half an hour."""

    def cap(at: datetime) -> int:
        return 0 if timedelta(minutes=10) <= at - NOW < timedelta(minutes=40) else MB

    world = World(constant(1), constant(100), cap=cap)
    assert wait_for_room(world.outlook(), 660 * MB, 0.5) == 41 * 60


def run(name: str, at: datetime, outcome: Outcome, code: int = 0, **more: Any) -> Run:
    return Run(name, at, ended_at=at, trigger="cron", outcome=outcome, exit_code=code, **more)


def test_nothing_is_promised_of_runs_that_do_not_come_or_confirm_nothing(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock, uplink__link="1kB/s", uplink__share="100%")

    def told() -> Doubt:
        found = snapshot(spool).forecast
        assert (found.empty is None) == bool(found.doubt)
        wait = collect.wait_for_room(spool, 1000, 0.5)
        assert (wait is None) == bool(found.doubt)
        series = {one.name: one.samples for one in measures(snapshot(spool), "1", "3")}
        assert bool(series["headgate_forecast_empty_seconds"]) is not bool(found.doubt)
        return found.doubt

    try:
        put(spool, b"1" * 1000)
        assert told() is Doubt.NO_RUN
        by_hand = Run("hand", clock.at, clock.at, outcome=Outcome.DONE, exit_code=0, images=1,
                      attempts=1, confirmed_at=clock.at)  # fmt: skip
        spool.site.save_run(by_hand)
        assert told() is Doubt.NO_RUN  # nothing says that another one comes
        spool.site.save_run(run("idle", clock.at, Outcome.NOTHING_TO_DO))
        assert told() is Doubt.NONE
        clock.advance(minutes=10, seconds=50)
        assert told() is Doubt.NONE
        clock.advance(seconds=20)
        assert told() is Doubt.NO_RUN
        spool.site.save_run(run("down", clock.at, Outcome.UPLINK_DOWN, 5))
        assert told() is Doubt.UPLINK_DOWN
        spool.site.save_run(run("failed", clock.at, Outcome.FAILED, 1))
        assert told() is Doubt.RUNS_FAIL
        spool.site.save_run(run("killed", clock.at, Outcome.KILLED))
        assert told() is Doubt.RUNS_FAIL
        vain = run("vain", clock.at, Outcome.NOTHING_CONFIRMED, 6, attempts=1,
                   failing_since=clock.at)  # fmt: skip
        spool.site.save_run(vain)
        assert told() is Doubt.NOTHING_CONFIRMED
        spool.site.save_run(run("idle again", clock.at, Outcome.NOTHING_TO_DO))
        assert told() is Doubt.NOTHING_CONFIRMED
        # A run that sends, and nothing is confirmed.
        assert collect.forecast(spool, measured=10.0).empty is None
        spool.site.save_run(replace(by_hand, id="good", trigger="cron"))
        assert told() is Doubt.NONE
        spool.site.save_run(Run("long", clock.at + timedelta(seconds=1), trigger="cron"))
        clock.advance(hours=2)
        assert told() is Doubt.NO_RUN
        assert collect.forecast(spool, measured=10.0).empty is not None
    finally:
        spool.close()


def test_a_site_that_never_confirmed_an_image_promises_nothing(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock)
    try:
        spool.site.save_run(run("idle", clock.at, Outcome.NOTHING_TO_DO, settled=True))
        put(spool, b"1" * 1000)
        assert collect.forecast(spool).doubt is Doubt.NEVER_CONFIRMED
    finally:
        spool.close()


def test_a_spool_forecasts_by_its_own_flow(tmp_path: Path) -> None:
    clock = Clock()
    spool = open_spool(tmp_path, clock, uplink__link="1kB/s", uplink__share="100%")
    try:
        good = run("one", clock.at, Outcome.DONE, images=1, confirmed_at=clock.at)
        spool.site.save_run(good)
        for minute in range(5):
            put(spool, bytes([minute]) * 12_000)
            clock.advance(minutes=1)
        found = snapshot(spool).forecast
        assert found.received_per_second == pytest.approx(200, rel=0.01)
        assert found.carried_per_second == spool.uplink.cap().for_images
        assert found.empty is not None
        seconds = (found.empty.at - clock.at).total_seconds()
        assert seconds == pytest.approx(60_000 / (found.carried_per_second - 200), rel=0.05)
        assert found.full is None
    finally:
        spool.close()
