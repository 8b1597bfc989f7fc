"""Whole runs over links that are far, narrow or bad: the cap is used, and what begins ends."""

from __future__ import annotations

import json

import pytest

from headgate.host.exit_codes import Exit
from tests.support.gateway import Gateway
from tests.support.shaping_proxy import Link


def uploads_of(gateway: Gateway) -> int:
    return gateway.script.seen("PUT")


@pytest.mark.slow
def test_far_away_many_connections_use_the_cap(gateway: Gateway) -> None:
    """300 ms there and back: one connection would carry three images a second, whatever the cap."""
    images = gateway.fill(100, 20_000)
    with Link(gateway.place.url, delay=0.15) as link:
        gateway.write(endpoint=link.url, uplink={"link": "2MB/s", "share": "50%"})
        report = gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    assert report["deferred"] == 0
    assert link.connections >= 8
    assert uploads_of(gateway) == 100


def test_on_a_narrow_link_few_connections_finish_what_they_start(gateway: Gateway) -> None:
    """1 Mbit/s under a cap of 40 MB/s: more connections would only share it, and time out. How
    many it takes depends on what the clock shows; test_concurrency.py has a clock of its own."""
    images = gateway.fill(16, 20_000)
    with Link(gateway.place.url, delay=0.02, rate=125_000) as link:
        gateway.write(endpoint=link.url)
        report = gateway.json("drain", "--until-empty")
    gateway.assert_arrived(images)
    assert (report["deferred"], uploads_of(gateway)) == (0, 16)  # none was begun twice
    assert report["wire_bytes"] <= 1.2 * report["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("carries", [5_000, 70_000])
def test_on_a_link_that_breaks_connections_everything_arrives(
    gateway: Gateway, carries: int
) -> None:
    images = gateway.fill(24, 20_000)
    with Link(gateway.place.url, delay=0.01, rate=500_000, breaks=2, carries=carries) as link:
        gateway.write(endpoint=link.url)
        arrived = 0
        for _ in range(10):
            ran = gateway.call("drain", "--json")
            assert ran.returncode in (Exit.OK, Exit.NOTHING_CONFIRMED), ran.stderr
            arrived += json.loads(ran.stdout)["images"]
            for item in gateway.spool.catalog.after(0, 100):
                gateway.spool.catalog.put_back(item.id)  # do not wait for the backoff
            if arrived == 24:
                break
    gateway.assert_arrived(images)
    assert link.connections >= 2
