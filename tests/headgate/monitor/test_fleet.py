"""Gateways of one site, told as one: what they report, who is silent, and what all add up to."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from headgate.monitor.fleet import SILENT, GatewayReport, fleet
from headgate.monitor.fleet_reports import Reports
from headgate.monitor.fleet_words import law, lines, sentence, timetable
from headgate.monitor.rules import Level
from headgate.shared.connection import SharedTrouble, connect
from headgate.shared.keys import key
from tests.support.fleet import ONE
from tests.support.queueing import Redis, needs_redis
from tests.support.spooling import open_spool, put
from uploader.cli.main import headgate

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


def test_the_law_holds_over_all_and_who_is_silent_still_counts() -> None:
    other = replace(ONE, gateway="gw2", received=11)
    seen = {"gw1": NOW - SILENT, "gw2": NOW - SILENT - timedelta(seconds=1), "gw3": NOW}
    found = fleet(seen, [other, ONE], NOW)
    assert [one.gateway for one in found.members] == ["gw1", "gw2", "gw3"]
    assert found.silent == ("gw2",) and found.level is Level.BAD
    assert (found.totals.received, found.totals.waiting, found.totals.rate) == (21, 6, 80)
    assert found.totals.unaccounted == 1  # of gw2, and so of the site
    well = fleet({"gw1": NOW}, [ONE], NOW)
    assert well.level is Level.OK and well.totals.unaccounted == 0
    assert fleet({"gw1": NOW}, [replace(ONE, lost=1, waiting=2)], NOW).level is Level.BAD
    assert fleet({"gw1": NOW}, [replace(ONE, level=Level.WARN)], NOW).level is Level.WARN


def test_the_words_name_what_needs_a_look_first() -> None:
    down = replace(ONE, gateway="gw2", level=Level.WARN, sentence="The uplink is down", rate=10)
    seen = {"gw1": NOW, "gw2": NOW, "gw3": NOW - timedelta(hours=1), "gw4": NOW}
    found = fleet(seen, [ONE, down, replace(ONE, gateway="gw3", not_shared="away")], NOW)
    every = lines(found, NOW)
    assert [one.gateway for one in every] == ["gw3", "gw2", "gw4", "gw1"]
    assert [one.state for one in every] == ["silent", "warning", "no report", "ok"]
    assert every[1].remark == "The uplink is down" and every[1].floor == ""
    assert (every[3].full, every[3].empty, every[3].floor) == ("7 h 56 min", "-", "10 B/s its own")
    assert "borrows nothing" in every[0].floor and every[2].waiting == "-"
    assert sentence(found) == "1 of 4 gateways is silent: gw3."
    assert law(found.totals) == (
        "30 received = 9 waiting + 3 sending + 3 held + 3 set aside + 6 uploaded + 3 discarded + "
        "3 purged + 0 lost"
    )
    short = fleet({"gw1": NOW}, [replace(ONE, received=12)], NOW)
    assert law(short.totals).endswith(", and 2 unaccounted for")
    assert lines(short, NOW)[0].state == "serious" and "headgate verify" in sentence(short)
    assert sentence(fleet({"gw2": NOW}, [down], NOW)) == "gw2: The uplink is down."
    assert sentence(fleet({"gw1": NOW}, [ONE], NOW)) == "1 gateway reports; 3 images waiting."
    assert "No gateway" in sentence(fleet({}, [], NOW))


def test_the_sites_timetable_is_said_once_and_who_differs_needs_a_look() -> None:
    one = replace(ONE, timetable="from gw2, since Tue 01 Dec 08:05 UTC")
    seen = {"gw1": NOW, "gw2": NOW, "gw3": NOW - timedelta(hours=1)}
    two, silent = replace(one, gateway="gw2"), replace(ONE, gateway="gw3", timetable="from gw3")
    assert timetable(fleet(seen, [ONE], NOW)) == ""
    found = fleet(seen, [one, two, silent], NOW)
    assert timetable(found) == "timetable from gw2, since Tue 01 Dec 08:05 UTC"
    found = fleet({"gw1": NOW, "gw2": NOW}, [one, replace(two, timetable_differs=True)], NOW)
    assert found.level is Level.WARN and lines(found, NOW)[0].gateway == "gw2"
    differs = "its uplink.timetable differs from the site's, and is not used"
    assert (lines(found, NOW)[0].remark, sentence(found)) == (differs, f"gw2: {differs}.")
    found = fleet({"gw1": NOW, "gw2": NOW}, [one, replace(two, timetable="from gw1")], NOW)
    assert timetable(found) == (
        "timetable not yet the same everywhere: from gw2, since Tue 01 Dec 08:05 UTC, at gw1; "
        "from gw1, at gw2"
    )
    older = {name: value for name, value in ONE.encode().items() if "timetable" not in name}
    assert GatewayReport.decode(older) == ONE, "of a gateway that was not updated yet"


@given(st.builds(
    lambda number, words: replace(ONE, received=number, sentence=words),
    st.integers(0, 2**62), st.text(),
))  # fmt: skip
def test_a_report_is_read_as_it_was_written(report: GatewayReport) -> None:
    assert GatewayReport.decode(json.loads(json.dumps(report.encode()))) == report
    assert GatewayReport.decode(report.encode() | {"newer": 1}) == report


@pytest.mark.parametrize("wrong", [{"received": "1"}, {"level": "odd"}, {"sentence": 3}], ids=str)
def test_a_report_of_another_kind_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        GatewayReport.decode(ONE.encode() | wrong)
    with pytest.raises(KeyError):
        GatewayReport.decode({})


# -- in a real Redis, by the commands


def call(root: Path, url: str, name: str, *words: str) -> Result:
    flags = {
        "spool.path": str(root / name / "spool"), "uplink.shared": url, "uplink.gateway": name,
        "uplink.gateways": "3", "uplink.floor": "2MB/s", "site.name": "north",
    }  # fmt: skip
    sets = [word for pair in flags.items() for word in ("--set", "=".join(pair))]
    return CliRunner().invoke(headgate, [*sets, *words])


@needs_redis
def test_gateways_report_each_minute_and_are_shown_as_one_site(tmp_path: Path) -> None:
    redis = Redis(tmp_path / "redis").start()
    try:
        for name, images in (("gw1", 2), ("gw2", 1)):
            (tmp_path / name).mkdir()
            with closing(open_spool(tmp_path / name, spool__path="spool")) as spool:
                for number in range(images):
                    put(spool, f"{name} {number}".encode())
        none = call(tmp_path, redis.url, "gw1", "fleet", "status")
        assert none.exit_code == 0 and "No gateway has reported" in none.stdout
        for name in ("gw1", "gw2"):
            assert call(tmp_path, redis.url, name, "watch", "--cron").exit_code == 0
        with closing(connect(redis.url, timeout_seconds=20)) as client:  # gw3 reported long ago
            client.hset(
                key("north", "reports"), "gw3", json.dumps(replace(ONE, gateway="gw3").encode())
            )
            client.zadd(key("north", "gateways"), {"gw3": datetime.now(UTC).timestamp() - 600})
            client.hset(key("north", "reports"), "odd", "{")  # and no report at all
        told = json.loads(call(tmp_path, redis.url, "gw2", "fleet", "status", "--json").stdout)
        assert [one["gateway"] for one in told["gateways"]] == ["gw1", "gw2", "gw3"]
        assert told["silent"] == ["gw3"] and told["totals"]["received"] == 2 + 1 + 10
        assert told["totals"]["unaccounted"] == 0 and told["level"] == "bad"
        assert told["gateways"][0]["report"]["floor"] == 2_000_000
        shown = call(tmp_path, redis.url, "gw1", "fleet", "status")
        assert shown.exit_code == 1 and "gw3: silent; see" in shown.stdout
        assert "13 received = 6 waiting + 1 sending" in shown.stdout
        assert "1 of 3 gateways is silent: gw3." in shown.stdout
        assert call(tmp_path, redis.url, "gw1", "fleet", "forget", "gw3").exit_code == 0
        assert "gw3" not in call(tmp_path, redis.url, "gw1", "fleet", "status").stdout
        assert call(tmp_path, redis.url, "gw1", "fleet", "forget", "gw3").exit_code == 1
    finally:
        redis.stop()
    assert call(tmp_path, redis.url, "gw1", "watch", "--cron").exit_code == 0, "it goes on"
    away = call(tmp_path, redis.url, "gw1", "fleet", "status")
    assert away.exit_code == 1 and "Redis" in away.stderr


@needs_redis
def test_a_gateway_that_was_silent_for_a_week_is_forgotten(tmp_path: Path) -> None:
    redis = Redis(tmp_path).start()
    try:
        with (
            closing(connect(redis.url, timeout_seconds=20)) as client,
            closing(Reports(redis.url, "north")) as reports,
        ):
            reports.publish(replace(ONE, gateway="old"))
            client.zadd(
                key("north", "gateways"), {"old": datetime.now(UTC).timestamp() - 8 * 86400}
            )
            reports.publish(ONE)
            assert [one.gateway for one in reports.read().members] == ["gw1"]
            assert client.hkeys(key("north", "reports")) == ["gw1"]
            assert 0 < client.ttl(key("north", "reports")) <= 7 * 86400
    finally:
        redis.stop()
    with pytest.raises(SharedTrouble), closing(Reports(redis.url, "north")) as reports:
        reports.read()
