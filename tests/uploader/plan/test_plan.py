"""A site on paper: values worked out by hand, and a minute-by-minute account of our own."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headgate.host.exit_codes import Exit
from headgate.settings.settings import combine
from headgate.settings.units import parse_percent
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count
from tests.support.spooling import Clock, open_spool, put
from uploader.cli.main import headgate
from uploader.plan import plan
from uploader.plan.arrivals import measured
from uploader.plan.faults import Limit
from uploader.plan.plan import Plan
from uploader.plan.terms import LIST_PRICES, Arrivals, Disk, Terms

MB, GB, MINUTE = 10**6, 10**9, 60
OWNER = Arrivals((500 * MB / MINUTE,), 250_000, head_bytes=0)
"""2,000 images and 500 MB a minute; without heads, so that the numbers below are round."""


def terms(arrivals: Arrivals = OWNER, outage: int = 8 * 3600, **more: Any) -> Terms:
    own = {name: more.pop(name) for name in ("disk", "gateways", "floor") if name in more}
    settings = combine({"uplink": more}, None, {}, {}, Path("/"))
    return Terms(settings.uplink, arrivals, outage, LIST_PRICES, **own)


def made(**more: Any) -> Plan:
    return plan.make(terms(**more))


def test_the_owners_site_by_hand() -> None:
    """12,000 MB a minute, of which images may use 20 %: 40 MB/s, less one part in 256 for the rest;
    and a run picks in 295 of its 300 seconds."""
    found = made(disk=Disk(500 * GB, parse_percent("5%")))
    carried = (40 * MB - 156_250) * 295 / 300
    assert found.cap_bytes_per_second == 40 * MB
    assert found.carried_bytes_per_second == pytest.approx(carried, abs=1)
    assert found.backlog_bytes == 2500 * MB  # five minutes' worth waits for its run
    # Eight hours, the five minutes until the next run after them, and what waited for one before.
    assert found.peak_bytes == (480 + 5 + 5) * 500 * MB
    seconds = 485 * 500 * MB / (carried - 500 * MB / 60) + 300
    assert found.recover_seconds == pytest.approx(seconds, abs=60)
    assert found.room_bytes == 475 * GB and found.disk_bytes == pytest.approx(245 * GB / 0.95, 1e-9)
    assert found.puts_per_day == 2000 * 60 * 24 and found.stored_bytes_per_day == 720 * GB
    assert found.puts_cost_per_day == pytest.approx(2880 * 0.005)
    assert found.storage_cost_per_month == pytest.approx(720 * 0.023)
    assert found.puts_per_second == pytest.approx(carried / 250_000, abs=0.01)
    assert found.holds


def account(given: Terms, hour: int) -> tuple[float, float]:
    """The highest backlog, and the seconds from the end of an outage that begins on Tuesday at this
    hour until it is gone, from first principles: minute after minute, by a timetable that pauses on
    workdays from eight to six, and a day's allowance."""
    at, backlog, peak, left = datetime(2026, 1, 5, tzinfo=UTC), 0.0, 0.0, {}
    rate = (40 * MB - 156_250) * 295 / 300
    daily = given.uplink.daily and given.uplink.daily - given.uplink.daily // 256
    down = datetime(2026, 1, 6, hour, tzinfo=UTC)
    again = down + timedelta(hours=8, minutes=5)
    while at <= again or backlog:
        paused = down <= at < again or (at.weekday() < 5 and 8 <= at.hour < 18)
        goes = 0.0 if paused else min(rate * 60, backlog + 500 * MB)
        if daily:
            goes = min(goes, left.setdefault(at.date(), daily))
            left[at.date()] -= goes
        backlog += 500 * MB - goes
        peak = max(peak, backlog)
        at += timedelta(minutes=1)
    return peak, (at - again).total_seconds() + 300


@pytest.mark.parametrize("daily", ["", "1200GB"])
def test_the_worst_outage_follows_a_pause_or_comes_before_one(daily: str) -> None:
    given = terms(timetable=["Mon-Fri 08:00-18:00 0%"], daily=daily)
    found = plan.make(given)
    accounts = [account(given, hour) for hour in range(24)]
    # From eight to six nothing leaves, and then for eight hours and until the next run.
    assert max(peak for peak, _ in accounts) == (18 * 60 + 5) * 500 * MB
    assert found.peak_bytes == (18 * 60 + 5 + 5) * 500 * MB
    assert found.recover_seconds is not None and found.holds
    assert max(seconds for _, seconds in accounts) == pytest.approx(found.recover_seconds, abs=120)


FAULTS: list[tuple[dict[str, Any], Limit, str]] = [
    ({"share": "4%"}, Limit.CAP, "uplink.share"),
    ({"link": "400MB/min", "share": "50%"}, Limit.CAP, "uplink.link"),
    ({"timetable": ["Mon-Sun 1%"]}, Limit.CAP, "uplink.timetable"),
    ({"daily": "500GB"}, Limit.DAILY, "uplink.daily"),
    ({"batch_images": 9000}, Limit.BATCH_IMAGES, "uplink.batch_images"),
    ({"batch_bytes": "2GB"}, Limit.BATCH_BYTES, "uplink.batch_bytes"),
    ({"batch_images": 10_000}, Limit.RECOVERY, "uplink.batch_images"),
    ({"share": "4.3%"}, Limit.RECOVERY, "uplink.share"),
    ({"disk": Disk(100 * GB, 0)}, Limit.DISK, "spool.path"),
    ({"disk": Disk(500 * GB, 0, inodes=900_000)}, Limit.INODES, "spool.path"),
    ({"gateways": 5, "floor": 10 * MB}, Limit.FLOORS, "uplink.floor"),
]


@pytest.mark.parametrize(("more", "limit", "change"), FAULTS, ids=lambda one: str(one))
def test_a_plan_that_cannot_hold_names_the_number_to_change(
    more: dict[str, Any], limit: Limit, change: str
) -> None:
    found = made(**more)
    assert [(fault.limit, fault.change) for fault in found.faults] == [(limit, change)]
    assert not found.holds and (change in found.faults[0].sentence or change == "spool.path")


@pytest.mark.parametrize("more", [{"share": "4%"}, {"daily": "500GB"}], ids=str)
def test_the_value_that_is_named_does(more: dict[str, Any]) -> None:
    (fault,) = made(**more).faults
    assert made(**more | {fault.change.partition(".")[2]: fault.to}).holds


def test_several_gateways_share_what_arrives_and_each_has_a_disk() -> None:
    one = made(disk=Disk(300 * GB, 0))
    five = made(disk=Disk(60 * GB, 0), gateways=5, floor=8 * MB)
    assert (five.peak_bytes, five.recover_seconds) == (one.peak_bytes, one.recover_seconds)
    assert five.room_bytes == one.room_bytes and five.disk_bytes == 49 * GB
    assert five.holds


def test_what_is_measured_has_the_hours_of_the_day_once_a_day_is_known() -> None:
    first = datetime(2026, 11, 22, tzinfo=UTC)
    by_hour = [(7, 0), *((hour, 3600 * (hour + 1)) for hour in range(8, 20))]  # none at night
    flows = [
        Flow(
            first + timedelta(days=day, hours=hour), 60, Count(36, size), Count(36, size),
            size + 36 * 700,
        )
        for day in range(2)
        for hour, size in by_hour
        if size
    ]  # fmt: skip
    until = first + timedelta(days=2)
    found = measured(flows, until, lambda at: at + timedelta(hours=2))
    assert found is not None and found.head_bytes == 700
    assert len(found.by_hour) == 24 and found.by_hour[10] == 9 and found.by_hour[9] == 0
    assert found.measured_hours == 40  # from the first image on
    short = measured(flows[:3], flows[2].at + timedelta(hours=1), lambda at: at)
    assert short is not None and short.by_hour == ((9 + 10 + 11) / 3,)
    assert measured([], until, lambda at: at) is None


# -- the command


def call(*words: str) -> Result:
    return CliRunner().invoke(headgate, words)


def test_the_command_refuses_with_a_code_of_its_own(tmp_path: Path) -> None:
    """Planning needs no spool: this site is not built yet."""
    where = ("--set", f"spool.path={tmp_path / 'none'}", "plan")
    given = ("--images-per-minute", "2000", "--mb-per-minute", "500")
    fine = call(*where, *given, "--outage", "8h", "--disk", "500GB")
    assert fine.exit_code == Exit.OK and "refused" not in fine.stdout
    assert "245 GB, 980,000 images" in fine.stdout and "2 h 17 min" in fine.stdout
    small = call(*where, *given, "--disk", "100GB", "--json")
    assert small.exit_code == Exit.CANNOT_HOLD
    told = json.loads(small.stdout)
    assert [fault["limit"] for fault in told["faults"]] == ["disk"] and not told["holds"]
    assert told["faults"][0]["to"] == "258GB"
    by_size = call(*where, "--images-per-minute", "2000", "--bytes-per-image", "250kB", "--json")
    assert json.loads(by_size.stdout)["peak_bytes"] == told["peak_bytes"]
    own = call(*where, *given, "--price-per-1000-puts", "0.01", "--price-per-gb-month", "0")
    assert "28.80 a day" in own.stdout and "as given" in own.stdout
    for wrong in ((given[:2]), (*given, "--bytes-per-image", "1MB"), ("--outage", "8")):
        assert call(*where, *wrong).exit_code == Exit.USAGE
    unmeasured = call(*where)  # there is no spool
    assert unmeasured.exit_code == Exit.USAGE and "--images-per-minute" in unmeasured.stderr


def test_a_gateway_plans_with_what_it_measured(tmp_path: Path) -> None:
    clock = Clock()
    with closing(open_spool(tmp_path, clock)) as spool:
        words = ("--set", f"spool.path={spool.path}", "plan", "--json")
        early = call(*words)
        assert early.exit_code == Exit.ERROR and "--images-per-minute" in early.stderr
        clock.at = datetime.now(UTC) - timedelta(minutes=90)  # in a whole hour that is over
        for number in range(4):
            put(spool, b"%d" % number * 600)
    told = json.loads(call(*words).stdout)["arrivals"]
    assert told["measured_hours"] in (1, 2) and told["image_bytes"] == 600
    assert told["images_per_second"] == pytest.approx(4 / 3600 / told["measured_hours"])
