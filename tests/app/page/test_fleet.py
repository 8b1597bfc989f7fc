"""The page of all gateways of a site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.monitor.fleet_reports import Reports
from headgate.monitor.rules import Level
from headgate.shared.connection import connect
from headgate.shared.keys import key
from tests.support.chromium import BROWSER, browsing
from tests.support.fleet import ONE
from tests.support.queueing import Redis, needs_redis
from tests.support.receiver import Answer, Receiver, check, running
from tests.support.wait import wait_until

pytestmark = needs_redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    settings = {"uplink__gateway": "gw1", "uplink__shared": redis.url, "uplink__floor": "1MB/s",
                "site__name": "north"}  # fmt: skip
    with running(tmp_path_factory.mktemp("gw1"), **settings) as receiver:
        yield receiver


def report(redis: Redis, count: int) -> None:
    """So many gateways; the last one was silent for ten minutes, the one before has an alert."""
    with (
        closing(connect(redis.url, timeout_seconds=60)) as client,
        closing(Reports(redis.url, "north")) as reports,
    ):
        client.flushall()
        for number in range(1, count + 1):
            reports.publish(replace(ONE, gateway=f"gw{number}"))
        if count > 2:
            wrong = {"level": Level.WARN, "sentence": "The uplink is down"}
            reports.publish(replace(ONE, gateway=f"gw{count - 1}", **wrong))  # type: ignore[arg-type]
            long_ago = datetime.now(UTC).timestamp() - 600
            client.zadd(key("north", "gateways"), {f"gw{count}": long_ago})


def shown(gateway: Receiver, text: str) -> str:
    """The page, once it says this: it keeps what it read for two seconds."""

    def found() -> Answer | None:
        answer = gateway.get("/fleet")
        return answer if text in answer.body.decode() else None

    return str(wait_until(found, f"the page says {text}").body.decode())


def test_all_gateways_are_one_page(redis: Redis, gateway: Receiver) -> None:
    report(redis, 1)
    page = shown(gateway, "1 gateway reports; 3 images waiting.")
    assert "(this one)" in page and 'href="/fleet"' in gateway.get("/").body.decode()
    report(redis, 5)
    page = shown(gateway, "1 of 5 gateways is silent: gw5.")
    assert page.index("<bdi>gw5<") < page.index("<bdi>gw4<") < page.index("<bdi>gw1<")
    assert "The uplink is down" in page and "50 received = 15 waiting + 5 sending" in page
    for path in ("/", "/fleet"):
        assert gateway.request("GET", path, X_Forwarded_For="192.0.2.1").status == 403


def test_a_gateway_alone_has_no_such_page(receiver: Receiver) -> None:
    check(receiver.get("/fleet"), 404, "not_found")
    assert 'href="/fleet"' not in receiver.get("/").body.decode()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_a_hundred_gateways_fit_on_a_phone(redis: Redis, gateway: Receiver, tmp_path: Path) -> None:
    report(redis, 100)
    shown(gateway, "of 100 gateways")
    with browsing(tmp_path / "profile") as page:
        for width in (360, 1280):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=800,
                      deviceScaleFactor=1, mobile=False)  # fmt: skip
            page.open(f"{gateway.url}/fleet")
            assert page.evaluate("document.querySelectorAll('tbody tr').length") == 100
            assert page.evaluate("document.documentElement.scrollWidth") <= width
