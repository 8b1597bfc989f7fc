"""The rate in force: what decides, how it is shared, when it changes, when nothing may leave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.settings.units import Percent
from headgate.spool.budget import slots
from headgate.spool.budget.limit import LIMIT, Limit
from headgate.spool.budget.uplink import Part
from headgate.spool.errors import LockHeld
from headgate.spool.site.outcome import Ending, Outcome
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from tests.support.spooling import open_spool

WEEK = "Mon-Fri 08:00-18:00 10%; Sat 0%"


class Wall:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 7, 59, tzinfo=UTC)  # a Monday

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def spool(tmp_path: Path, wall: Wall) -> Iterator[Spool]:
    made = open_spool(
        tmp_path, wall, uplink__link="1MB/s", uplink__timetable=WEEK, uplink__daily="100MB"
    )
    object.__setattr__(made.uplink, "local", lambda at: at)
    yield made
    made.close()


def set_limit(spool: Spool, share: str, until: datetime) -> None:
    spool.site.put(LIMIT, {"share": share, "until": until.isoformat(), "reason": "backup"})


def test_a_limit_goes_before_the_timetable_and_that_before_the_share(
    spool: Spool, wall: Wall
) -> None:
    assert (spool.uplink.cap().rate, spool.uplink.cap().why) == (200_000, "20% of the link")
    assert spool.uplink.next_change() == wall.at + timedelta(minutes=1)
    wall.at += timedelta(minutes=1)
    assert (spool.uplink.cap().rate, spool.uplink.cap().why) == (
        100_000,
        "timetable: Mon-Fri 08:00-18:00 10%",
    )
    until = wall.at + timedelta(hours=1)
    set_limit(spool, "60%", until)
    cap = spool.uplink.cap()
    assert (cap.rate, cap.full_rate, cap.why) == (600_000, 100_000, "headgate limit: backup")
    assert spool.uplink.next_change() == until
    assert spool.uplink.rate_at(until) == 100_000
    wall.at = until
    assert (spool.uplink.cap().rate, spool.uplink.cap().limit) == (100_000, None)


def test_a_pause_stops_images_and_leaves_the_rest_its_part(spool: Spool, wall: Wall) -> None:
    uplink = spool.uplink
    usual = uplink.cap()
    until = wall.at + timedelta(hours=8)
    for limit in (Limit(Percent(0), until, "line"), Limit(Percent(0), None)):
        spool.site.put(LIMIT, limit.encode())
        cap = uplink.cap()
        assert (cap.for_images, cap.for_the_rest) == (0, usual.for_the_rest)
        assert (cap.rate, cap.full_rate) == (usual.for_the_rest, usual.rate)
        assert uplink.rates()(wall.at + timedelta(hours=7)) == 0
        assert uplink.next_change() == limit.until
        assert uplink.budget().paused
        for part, shut in ((Part.DRAIN, True), (Part.OTHER, False)):
            with closing(uplink.open_ledger(part)) as ledger:
                assert (uplink.blocked_reason(part, ledger) is not None) == shut
    with closing(uplink.open_ledger(Part.DRAIN)) as ledger:
        assert uplink.blocked_reason(Part.DRAIN, ledger) == Ending(
            Outcome.PAUSED_BY_HAND, "until headgate resume"
        )
    spool.site.put(LIMIT, Limit(Percent(0), until).encode())
    wall.at = until
    assert not uplink.cap().is_pause and uplink.cap().for_images > 0


def test_the_limit_is_never_above_the_link(spool: Spool, wall: Wall) -> None:
    set_limit(spool, "100%", wall.at + timedelta(hours=1))
    assert spool.uplink.cap().rate == spool.settings.uplink.link


RATES = st.integers(0, 10**12)


@given(RATES)
def test_both_parts_together_are_the_rate(rate: int) -> None:
    images, rest = slots.drain_part(rate), slots.other_part(rate)
    assert images + rest == rate and min(images, rest) >= 0
    assert rest <= rate / 4
    if rate >= 256_000:
        assert images >= rate * 0.996  # at least 99 % is to be used
    if rate >= 4:
        assert rest > 0  # an alert gets through


def test_each_part_has_its_own_lock_and_ring(spool: Spool) -> None:
    uplink = spool.uplink
    with spool.hold_drain_lock("a drain", 0), uplink.hold_rest_lock("a check", 0):
        with pytest.raises(LockHeld, match="a check"):
            uplink.hold_rest_lock("another", 0)
        with closing(uplink.open_ledger(Part.DRAIN)) as drain:
            with closing(uplink.open_ledger(Part.OTHER)) as rest:
                first, second = drain.charge(100, 1000), rest.charge(50, 1000)
    assert first is not None and second is not None
    use = spool.uplink.budget()
    assert (use.used, use.day_used, use.day_allowance) == (150, 150, 100_000_000)
    assert {(spool.files.state / part).stat().st_size for part in Part} != {0}


def test_the_days_allowance_is_shared_like_the_rate(spool: Spool) -> None:
    shares = [spool.uplink.allowance(part) for part in Part]
    assert sum(shares) == 100_000_000 and shares[0] > 99_000_000


def test_why_nothing_may_leave_says_when_it_may_again(spool: Spool, wall: Wall) -> None:
    with closing(spool.uplink.open_ledger(Part.DRAIN)) as book:
        assert spool.uplink.blocked_reason(Part.DRAIN, book) is None
        wall.at += timedelta(days=5)  # Saturday
        assert spool.uplink.blocked_reason(Part.DRAIN, book) == Ending(
            Outcome.PAUSED, "it begins again on Sun 29 Nov at 00:00 local time"
        )
    path = spool.files.state / Part.DRAIN
    path.unlink()
    with closing(spool.uplink.open_ledger(Part.DRAIN)) as book:
        shut = spool.uplink.blocked_reason(Part.DRAIN, book)
        assert str(shut) == (
            "daily allowance spent; it begins again on Sun 29 Nov at 00:00 local time"
        )
    assert spool.uplink.budget().day_spent


@pytest.mark.parametrize("part", Part)
def test_verify_finds_a_ring_that_is_damaged(spool: Spool, part: Part) -> None:
    path = spool.files.state / part
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    assert {(item.kind, item.what) for item in verify.look(spool)} == {
        (verify.DisagreementKind.DAMAGED, str(part))
    }
