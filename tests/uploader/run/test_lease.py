"""A run borrows of a shared uplink, and what one gateway sets holds at the others."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.actions import site_day
from headgate.actions import uplink as actions
from headgate.settings.load import load
from headgate.shared import lending
from headgate.shared.connection import connect
from headgate.shared.day_book import DayBook
from headgate.shared.keys import key
from headgate.shared.lending import Borrower
from headgate.spool.budget import ledger, slots
from headgate.spool.budget.uplink import Part
from headgate.spool.site.audit import Actor
from headgate.spool.spool import Spool
from tests.support.queueing import Redis, needs_redis
from tests.support.wait import join, wait_until
from uploader.cli.doctor import collect
from uploader.run import lease
from uploader.wire.other_traffic import permitted
from uploader.wire.pacer import Permitted

RATE, FLOOR = 1_000_000, 100_000
BY = Actor("root", "terminal")


def shared_spool(folder: Path, gateway: str, url: str) -> Spool:
    folder.mkdir()
    config = folder / "headgate.toml"
    config.write_text(
        f'[uplink]\nlink = "1MB/s"\nshare = "100%"\ngateways = 3\nfloor = "100kB/s"\n'
        f'gateway = "{gateway}"\nshared = "{url}"\ndaily = "90MB"\n[spool]\npath = "spool"\n'
    )
    return Spool.open(load(str(config), environment={}))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(shared_spool(tmp_path / "gw1", "gw1", "redis://127.0.0.1:1/0")) as opened:
        yield opened


def lent(rate: int, for_seconds: float, rest: int = 700_000) -> Borrower:
    ends_at = ledger.boottime() + int(for_seconds * 1e9)
    return Borrower(server="run1", number=1, lent=rate, ends_at=ends_at, rest=rest)


def test_a_lease_raises_the_cap_above_the_floor_until_it_ends(spool: Spool) -> None:
    """All processes of the gateway, each pacer with the end of the lease; another boot has none."""
    assert spool.uplink.cap().rate == FLOOR
    known = lent(500_000, 3600)
    spool.uplink.remember(known, "")
    cap = spool.uplink.cap()
    assert (cap.rate, cap.until) == (600_000, known.ends_at)
    for part in Part:
        assert permitted(spool.uplink, part) == Permitted(cap.part(part), known.ends_at)
    with closing(Spool.open(spool.settings)) as other:
        assert other.uplink.cap() == cap
    spool.uplink.remember(lent(500_000, -1), "")
    assert (spool.uplink.cap().rate, spool.uplink.cap().until) == (FLOOR, None)
    spool.uplink.remember(known, "")
    spool.site.put("lease", {**spool.site.get("lease"), "boot": "0" * 32})
    assert spool.uplink.cap().rate == FLOOR


def test_a_limit_lowers_floor_and_lease_at_once(spool: Spool) -> None:
    spool.uplink.remember(lent(350_000, 3600), "")
    actions.limit(spool, BY, "65%", "10min")
    assert spool.uplink.cap().rate == FLOOR + 175_000  # 350 of the 700 kB that can be lent now
    actions.limit(spool, BY, "15%", "10min")
    assert spool.uplink.cap().rate == 50_000  # three floors fill it
    actions.pause(spool, BY)
    assert spool.uplink.cap().for_images == 0
    assert spool.uplink.cap().for_the_rest <= spool.uplink.site_cap().rate // 3


def test_a_gateway_without_redis_has_its_floor_of_the_day(spool: Spool) -> None:
    """A tenth of what images may have, as of the rate; and of the rest an equal part."""
    rest = spool.uplink.allowance(Part.OTHER)
    day = spool.uplink.day
    assert day is not None and rest == slots.other_part(30_000_000)
    images = 90_000_000 - 3 * rest
    assert (day.shares.floor, day.shares.pool) == (images // 10, images - 3 * (images // 10))
    with lease.kept(spool):
        pass
    with closing(spool.uplink.open_ledger(Part.DRAIN)) as book:
        assert book.left_today == day.shares.floor
    use = spool.uplink.budget()
    assert use.day_allowance == day.shares.floor + rest and not use.day_spent
    assert use.site_day is not None and use.site_day.words == (
        "; the 90.0 MB of the site are shared, and Redis is away: no more can be had"
    )


@needs_redis
def test_three_gateways_share_a_day_and_none_takes_what_another_used(tmp_path: Path) -> None:
    """Through Redis, their disks and ledgers; a restart of Redis without data changes nothing."""
    redis = Redis(tmp_path / "redis").start()
    with contextlib.ExitStack() as stack:
        stack.callback(redis.stop)
        every = [
            stack.enter_context(closing(shared_spool(tmp_path / name, name, redis.url)))
            for name in ("gw1", "gw2", "gw3")
        ]
        one, two, three = (spool.uplink for spool in every)
        assert one.day and two.day and three.day
        client = stack.enter_context(closing(connect(redis.url, timeout_seconds=60)))
        book = DayBook(client, "site")
        site_day.take(every[0], book, 10**9)
        state = one.budget().site_day
        assert state is not None and state.words.endswith("once 2 more gateways have reported")
        assert one.day.holder().of(one.today()) == 0
        for spool in every[1:]:
            site_day.take(spool, book, 0)
        one.day.wish(40_000_000)
        site_day.take(every[0], book, 10**9)
        assert one.day.holder().of(one.today()) == 40_000_000
        assert one.more_today(one.today()) == one.day.shares.pool - 40_000_000
        with closing(one.open_ledger(Part.DRAIN)) as ledger_of_one:
            assert ledger_of_one.left_today == one.day.shares.floor + 40_000_000
            time.sleep(ledger_of_one.wait_seconds())
            grant = ledger_of_one.charge(25_000_000, 10**9)
            assert grant is not None and grant.size == 25_000_000

        redis.stop()
        shutil.rmtree(redis.folder)
        redis.folder.mkdir()
        redis.start()
        two.day.wish(10**9)
        for spool in every[1:]:
            site_day.take(spool, book, 10**9)
        assert two.day.holder().of(two.today()) == 0, "what gw1 holds is not known"
        site_day.give_back(every[0], book)
        assert one.day.holder().of(one.today()) == 25_000_000
        site_day.take(every[1], book, 10**9)
        held = two.day.holder().of(two.today())
        assert held == two.day.shares.pool - 25_000_000
        site_day.take(every[2], book, 10**9)
        assert three.day.holder().of(three.today()) == three.more_today(three.today()) == 0
        assert not three.budget().day_spent, "it has its floor"


def test_a_run_without_redis_goes_on_at_its_floor_and_says_so(spool: Spool) -> None:
    assert (collect.shared_uplink(spool.settings) or "").startswith("Redis: ")
    with lease.kept(spool):
        assert spool.uplink.cap().rate == FLOOR
        state = spool.uplink.lease()
    assert state is not None
    assert (state.rate, state.floor, state.shared) == (FLOOR, FLOOR, False)
    assert state.trouble.startswith("Redis: ")
    assert state.since is not None and state.since <= datetime.now(UTC)
    assert spool.uplink.budget().lease == state


def test_a_name_lookup_that_hangs_holds_no_run_up(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no timeout; a lease that is answered after the run is not taken."""
    hangs = threading.Event()

    def lookup(*_words: object, **_more: object) -> None:
        hangs.wait(60)
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    with lease.kept(spool):
        assert spool.uplink.cap().rate == FLOOR
    assert not hangs.is_set()  # the run began and ended while the lookup hung
    hangs.set()
    join(*[thread for thread in threading.enumerate() if thread.name == "lease"])


def test_what_a_newer_limit_says_is_followed_and_an_older_one_is_not(spool: Spool) -> None:
    actions.pause(spool, BY)
    mine = spool.site.get("controls")
    assert not spool.uplink.follow(mine)
    assert not spool.uplink.follow({**mine, "version": 0, "limit": None})
    assert spool.uplink.cap().is_pause
    assert spool.uplink.follow({**mine, "gateway": "gw2", "limit": None})  # of the same version
    assert not spool.uplink.cap().is_pause


@needs_redis
@pytest.mark.slow
def test_two_gateways_borrow_and_a_pause_at_one_holds_at_the_other(tmp_path: Path) -> None:
    redis = Redis(tmp_path).start()
    with contextlib.ExitStack() as stack:
        stack.callback(redis.stop)
        one, two = (
            stack.enter_context(closing(shared_spool(tmp_path / name, name, redis.url)))
            for name in ("gw1", "gw2")
        )
        with lease.kept(one):
            # No image waits, so nothing is lent, but it watches the clock and has what it may have.
            wait_until(lambda: one.uplink.borrower().number > 0, "gw1 was answered with a lease")
            actions.pause(two, BY, reason="works")
            with lease.kept(two):
                pass  # its next run tells
            wait_until(lambda: one.uplink.cap().is_pause, "the pause holds at gw1")
            limit = one.uplink.cap().limit
            assert limit is not None and limit.reason == "works"
            held = one.uplink.borrower()
            assert held.ends_at - ledger.boottime() < lending.USE_MS * lending.MILLISECOND
        assert one.uplink.borrower().lent_at(ledger.boottime(), RATE) == 0  # it was given back
        with redis.client() as client:
            book = json.loads(client.get(key("site", "lending")))
        assert {entry["gateway"] for entry in book["entries"].values()} == {"gw1", "gw2"}
