"""A replica takes over from a real Redis: it lends nothing until every lease of the old one has
ended, and an old one that lives on behind a broken network stops by itself, as OPERATING.md sets it
up."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headgate.host.addresses import free_port
from headgate.settings.parsers import SHARED_URL
from headgate.shared import lender
from headgate.shared.connection import Sentinels, SharedTrouble, parse_sentinels
from headgate.shared.lender import Lender
from headgate.shared.lending import Ask, Demand, Why
from tests.support.queueing import Redis, needs_redis
from tests.support.wait import kill, wait_until

pytestmark = [needs_redis, pytest.mark.slow]
RATE, FLOOR = 1_000_000, 100_000


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Redis, Redis]]:
    """A primary with the settings of docs/OPERATING.md, and its replica."""
    monkeypatch.setattr(lender, "TIMEOUT_SECONDS", 60.0)
    primary, replica = Redis(tmp_path / "one").start(), Redis(tmp_path / "two").start()
    try:
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
        with primary.client() as client:
            client.config_set("min-replicas-to-write", 1)
            client.config_set("min-replicas-max-lag", 3)
            wait_until(
                lambda: client.info("replication").get("min_slaves_good_slaves"),
                "the replica follows",
            )
        yield primary, replica
    finally:
        primary.stop()
        replica.stop()


def ask(at: Lender, gateway: str) -> tuple[int, Why | None]:
    """What it lends now, and why nothing; None: it does not answer."""
    asked = Ask(gateway, gateway, RATE, FLOOR, 2, Demand(10**9, 0, 60))
    try:
        answer, _ = at.ask(asked)
    except SharedTrouble:
        return 0, None
    return answer.lent, answer.why


def await_lent(at: Lender, gateway: str) -> None:
    wait_until(lambda: ask(at, gateway)[0], f"{gateway} is lent something")


def test_a_replica_that_takes_over_lends_nothing_for_one_lease(pair: tuple[Redis, Redis]) -> None:
    primary, replica = pair
    with closing(Lender(primary.url, "north")) as old, closing(Lender(replica.url, "north")) as new:
        await_lent(old, "gw1")
        assert ask(new, "gw1") == (0, None), "a replica takes no writes"
        primary.stop()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        assert ask(new, "gw1") == (0, Why.JUST_STARTED), "it has the book, and another run's"
        await_lent(new, "gw1")


def test_two_servers_never_lend_at_once_where_a_primary_needs_its_replica(
    pair: tuple[Redis, Redis],
) -> None:
    """The network between them breaks: the replica is promoted at once, and the old one goes on.
    (That a promotion waits for ten seconds is for the last leases of the old one.)"""
    primary, replica = pair
    with closing(Lender(primary.url, "north")) as old, closing(Lender(replica.url, "north")) as new:
        await_lent(old, "gw1")
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        stopped = False

        def both_asked() -> bool:
            """Whether the new one lends; whatever the order, the old one does not then."""
            nonlocal stopped
            lent_new = ask(new, "gw2")[0]
            lent_old, why = ask(old, "gw1")
            stopped = stopped or why is None
            assert not (lent_new and lent_old), "both lend the same bytes"
            return bool(lent_new)

        wait_until(both_asked, "the new one lends")
        assert stopped and ask(old, "gw1") == (0, None), "it has no replica, so it refuses writes"


def test_sentinels_lead_to_the_replica_that_took_over(
    pair: tuple[Redis, Redis], tmp_path: Path
) -> None:
    """Real Sentinels, to whom the setting points: the primary is killed, and a gateway that knows
    nothing but them borrows of the other server, after one lease's length."""
    primary, replica = pair
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        for port in ports:
            config = tmp_path / f"sentinel-{port}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\nsentinel monitor site 127.0.0.1 {primary.port} 2\n"
                "sentinel down-after-milliseconds site 5000\nsentinel failover-timeout site 5000\n"
            )
            started = subprocess.Popen(
                ["redis-server", str(config), "--sentinel"], cwd=tmp_path, stdout=subprocess.DEVNULL
            )
            stack.callback(kill, started)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        there = stack.enter_context(closing(Lender(f"sentinel://{hosts}/site/0", "north")))
        await_lent(there, "gw1")
        with replica.client() as client:
            assert client.info("replication")["role"] == "slave"
        for port in ports:  # a replica that no Sentinel knows of yet could not be promoted
            wait_until(lambda: knows_all(port), "the Sentinels know each other and the replica")  # noqa: B023
        primary.stop()
        wait_until(lambda: ask(there, "gw1")[1] is Why.JUST_STARTED, "the replica is asked")
        await_lent(there, "gw1")
        with replica.client() as client:
            assert client.info("replication")["role"] == "master"


def knows_all(port: int) -> bool:
    """Whether the Sentinel there knows the replica and the two others."""
    import redis

    with closing(redis.Redis(port=port, decode_responses=True)) as one:
        known: Any = one
        try:
            return bool(known.sentinel_slaves("site")) and (
                len(known.sentinel_sentinels("site")) == 2
            )
        except redis.ConnectionError:  # it has just started
            return False


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://10.0.0.5:6379/0", None),
        ("sentinel://a/site", Sentinels([("a", 26379)], "site")),
        (
            "sentinel://me:p%40ss@a:1,b:2,c/site-1/3",
            Sentinels([("a", 1), ("b", 2), ("c", 26379)], "site-1", 3, "me", "p@ss"),
        ),
        ("sentinel://:secret@a/site", Sentinels([("a", 26379)], "site", 0, None, "secret")),
    ],
)
def test_the_url_of_sentinels_is_read(url: str, found: Sentinels | None) -> None:
    assert parse_sentinels(url) == found
    assert re.fullmatch(SHARED_URL, url), "and the settings take it"
    for wrong in ("sentinel://a", "sentinel:///site", "sentinel://a,/site", "sentinel://a:b/site"):
        assert not re.fullmatch(SHARED_URL, wrong)
