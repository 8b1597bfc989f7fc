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
from headgate.monitor.rules import Level
from headgate.shared.connection import SharedTrouble, connect
from headgate.shared.keys import key
from tests.support.queueing import Redis, needs_redis
from tests.support.spooling import open_spool, put
from uploader.cli.main import headgate

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
ONE = GatewayReport(
    gateway="gw1", version="1", level=Level.OK, sentence="", received=10, waiting=3,
    waiting_bytes=3000, sending=1, held=1, set_aside=1, uploaded=2, discarded=1, purged=1, lost=0,
    oldest_seconds=60, rate=40, floor=10, used=20, not_shared="", free_bytes=5, disk_bytes=9,
    empty_at=None, full_at="2026-11-24T00:00:00Z",
)  # fmt: skip


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
        assert none.exit_code == 0 and "no gateway has reported" in none.stdout
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
        assert shown.exit_code == 1 and "gw3: silent" in shown.stdout
        assert "received 13, waiting 6" in shown.stdout
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
