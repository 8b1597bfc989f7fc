"""A gateway that fell silent is reported once, by whichever other one noticed first."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.monitor import silent_gateways as module
from headgate.monitor.fleet_reports import TAKEN, Reports
from headgate.monitor.silent_gateways import silent_gateways
from headgate.shared.connection import connect
from headgate.shared.keys import key
from headgate.spool.spool import Spool
from tests.support.fleet import ONE
from tests.support.queueing import Redis, needs_redis
from tests.support.spooling import open_spool
from uploader.alerts.evaluate import look


@needs_redis
def test_one_of_the_others_reports_it_until_another_has_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 60.0)
    redis = Redis(tmp_path / "redis").start()
    with ExitStack() as stack:
        stack.callback(redis.stop)
        client = stack.enter_context(closing(connect(redis.url, timeout_seconds=60)))
        reports = stack.enter_context(closing(Reports(redis.url, "north")))
        gateways = []
        for name in ("gw1", "gw2", "gw3"):
            (tmp_path / name).mkdir()
            flags = {"site__name": "north", "uplink__gateway": name, "uplink__shared": redis.url,
                     "uplink__gateways": "3", "uplink__floor": "1MB/s"}  # fmt: skip
            gateways.append(open_spool(tmp_path / name, **flags))
            stack.callback(gateways[-1].close)
            reports.publish(replace(ONE, gateway=name))
        one, two, three = gateways

        def tell() -> list[list[str]]:
            return [sorted(silent_gateways(spool)) for spool in (two, one)]

        assert tell() == [[], []]
        then = datetime.now(UTC).timestamp() - 600
        client.zadd(key("north", "gateways"), {"gw3": then})
        assert silent_gateways(three) == {}, "no gateway calls itself silent"
        assert tell() == tell() == [["gw3"], []], "who noticed first, and each minute again"
        assert 0 < client.pttl(key("north", "silent", "gw3")) <= TAKEN.total_seconds() * 1000
        assert list(look(two).silent_gateways) == ["gw3"] and not look(one).silent_gateways
        client.delete(key("north", "silent", "gw3"))  # as when it ends: gw2 is silent as well
        assert sorted(silent_gateways(one)) == ["gw3"] and tell() == [[], ["gw3"]]

        client.delete(key("north", "silent", "gw3"))
        client.zadd(key("north", "gateways"), {"gw1": then})
        both = silent_gateways(two)
        assert sorted(both) == ["gw1", "gw3"] and both["gw3"].timestamp() == pytest.approx(then)
        redis.stop()
        assert silent_gateways(two) == both, "nothing ends because Redis is away"
        redis.start()
        reports.publish(replace(ONE, gateway="gw3"))
        client.zadd(key("north", "gateways"), {"gw1": then})
        assert sorted(silent_gateways(two)) == ["gw1"], "it reports again"
        reports.forget("gw1")
        assert silent_gateways(two) == {}


def test_a_gateway_alone_asks_no_one(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        assert isinstance(spool, Spool) and not look(spool).silent_gateways
