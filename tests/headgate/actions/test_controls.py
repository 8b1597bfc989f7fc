"""What is set at one gateway holds at all of the site: at once at those that are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.actions import controls, uplink
from headgate.shared.connection import connect
from headgate.shared.controls import Record
from headgate.shared.keys import key
from headgate.spool.site.audit import Actor
from headgate.spool.spool import Spool
from tests.support.queueing import Redis, needs_redis
from tests.support.spooling import Clock, open_spool

pytestmark = needs_redis
BY = Actor("root", "terminal")


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    monkeypatch.setattr(controls, "_TIMEOUT_SECONDS", 60.0)
    server = Redis(tmp_path / "redis").start()
    yield server
    server.stop()


def gateway(folder: Path, name: str, redis: Redis, clock: Clock, timetable: str = "") -> Spool:
    (folder / name).mkdir(exist_ok=True)
    flags = {"site__name": "north", "uplink__gateway": name, "uplink__shared": redis.url,
             "uplink__gateways": "2", "uplink__floor": "1MB/s",
             "uplink__timetable": timetable}  # fmt: skip
    return open_spool(folder / name, clock, **flags)


def test_what_is_set_at_one_gateway_holds_at_idle_ones_too_and_the_later_wins(
    tmp_path: Path, redis: Redis
) -> None:
    clock = Clock()
    with (
        closing(gateway(tmp_path, "gw1", redis, clock)) as one,
        closing(gateway(tmp_path, "gw2", redis, clock)) as two,
        closing(connect(redis.url, timeout_seconds=60)) as client,
    ):
        for share in ("50%", "60%", "70%"):
            uplink.limit(one, BY, share, "10min")  # no run is at work anywhere
        assert two.uplink.cap().limit is None
        assert controls.exchange(two) == ""
        assert two.uplink.cap().share == "70%", "by the minute's look, or as a run begins"

        uplink.end_limit(one, BY)
        uplink.pause(two, BY, reason="works")  # which did not hear of that
        assert controls.exchange(one) == "" and one.uplink.cap().is_pause

        client.set(
            key("north", Record.LIMIT), '{"version": 9e15, "gateway": "gw9", "limit": {"share": 3}}'
        )
        assert controls.exchange(one) == "" and one.uplink.cap().is_pause, "that is no limit"

        redis.stop()
        for reason in ("once", "twice", "more"):
            uplink.pause(one, BY, reason=reason)
        clock.advance(seconds=1)
        uplink.resume(two, BY)
        assert not two.uplink.cap().is_pause and one.uplink.cap().is_pause
        assert "Redis" in controls.exchange(one) and one.uplink.cap().is_pause
        redis.start()
        client.flushall()
        controls.exchange(one)  # the older one comes first
        controls.exchange(two)
        controls.exchange(one)
        assert not one.uplink.cap().is_pause and not two.uplink.cap().is_pause


def test_a_timetable_that_changes_at_one_gateway_holds_at_all(tmp_path: Path, redis: Redis) -> None:
    """Also in programs that read their settings before, and while Redis is away and empty again."""
    clock = Clock()
    with (
        closing(gateway(tmp_path, "gw1", redis, clock, "00:00-24:00 10%")) as one,
        closing(gateway(tmp_path, "gw2", redis, clock, "00:00-24:00 10%")) as two,
        closing(connect(redis.url, timeout_seconds=60)) as client,
    ):
        for each in (one, two, one):
            controls.notice_settings(each)
            assert controls.exchange(each) == "" and each.uplink.cap().share == "10%"
        clock.advance(seconds=60)
        with closing(gateway(tmp_path, "gw1", redis, clock, "00:00-24:00 30%")) as edited:
            assert edited.uplink.cap().share == "10%", "not before a look"
            controls.notice_settings(edited)
            controls.exchange(edited)
        assert one.uplink.cap().share == "30%", "which has its old settings, and the same disk"
        assert two.uplink.cap().share == "10%"
        controls.exchange(two)
        cap, shared = two.uplink.cap(), two.uplink.budget().timetable
        assert (cap.share, cap.entry) == ("30%", "00:00-24:00 30%")
        assert shared is not None and (shared.gateway, shared.differs) == ("gw1", True)

        redis.stop()
        with closing(gateway(tmp_path, "gw2", redis, clock, "00:00-24:00 10%")) as again:
            controls.notice_settings(again)
            assert "Redis" in controls.exchange(again)
            assert again.uplink.cap().share == "30%", "it is kept on the disk"
        redis.start()
        client.flushall()
        controls.exchange(two)
        assert "gw1" in str(client.get(key("north", Record.TIMETABLE)))
        client.set(key("north", Record.TIMETABLE), '{"version": 9e15, "gateway": "gw9"}')
        assert controls.exchange(two) == "" and two.uplink.cap().share == "30%"
