"""Five gateways behind one counting link, and a real Redis that is stopped, killed, restarted empty
and cut off from some: in no second more than the rate, and the floors while it is away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from headgate.shared.lending import Borrower, rest_of
from headgate.spool.budget import ledger
from headgate.spool.budget.uplink import LEASE
from headgate.spool.spool import Spool
from tests.support.counting_proxy import Arrival, Counting, counting
from tests.support.gateway import Gateway, slack
from tests.support.queueing import Redis, needs_redis
from tests.support.s3_server import Place
from tests.support.shaping_proxy import Link
from tests.support.wait import SECONDS, kill, spend, wait_until

pytestmark = [needs_redis, pytest.mark.slow]

MINUTES = float(os.environ.get("HEADGATE_TEST_GATEWAYS_MINUTES", "0"))
"""How long the published run takes (make gateways)."""
GATEWAYS = 5
RATE, FLOOR = 3_000_000, 150_000
REST = rest_of(RATE, FLOOR, GATEWAYS)
IMAGE = 200_000
FLOODED, OTHERS = 600, 200  # images


class Site:
    """Gateways of one site as processes, and what each was lent."""

    def __init__(
        self,
        folder: Path,
        place: Place,
        *,
        flooded: int = FLOODED,
        others: int = OTHERS,
        gateways: int = GATEWAYS,
        image: int = IMAGE,
    ) -> None:
        self.gateways: list[Gateway] = []
        self.runs: dict[int, subprocess.Popen[str]] = {}
        for n in range(gateways):
            root = folder / f"gw{n}"
            root.mkdir()
            self.gateways.append(Gateway(root, place))
            self.gateways[n].fill(others if n else flooded, image)

    def share(
        self, n: int, link: str, redis: str, gateways: int = GATEWAYS, daily: int = 0
    ) -> None:
        self.gateways[n].write(
            endpoint=link,
            receiver={"max_image": "1MiB"},
            uplink={
                "link": f"{RATE}B/s", "share": "100%", "shared": redis, "gateway": f"gw{n}",
                "gateways": gateways, "floor": f"{FLOOR}B/s", "parallel": 1,
                "daily": f"{daily}B" if daily else "",
            },
        )  # fmt: skip

    def start(self, n: int) -> None:
        self.runs[n] = self.gateways[n].start("drain", "--until-empty")

    def lent(self, n: int) -> int:
        """What it may send now above its floor."""
        found = self.gateways[n].spool.site.get(LEASE)
        return Borrower.decode(found["borrower"]).lent_at(ledger.boottime(), REST) if found else 0

    def all_lent(self) -> list[int]:
        return [self.lent(n) for n in range(GATEWAYS)]

    def await_all_of_the_rate(self) -> None:
        """Floors and leases of all that send are nearly the whole rate: what the lender decides,
        however fast this machine then sends."""
        wait_until(
            lambda: GATEWAYS * FLOOR + sum(self.all_lent()) >= 0.97 * RATE,
            "at least 97 % of the rate may be sent",
            detail=self.all_lent,
        )

    def await_lent(self, *these: int) -> None:
        wait_until(
            lambda: all(self.lent(n) for n in these), f"{these} borrow", detail=self.all_lent
        )

    def await_floors(self, *these: int) -> None:
        wait_until(
            lambda: not any(self.lent(n) for n in these),
            f"{these} have their floors alone",
            detail=self.all_lent,
        )


@contextmanager
def link_before(place: Place) -> Iterator[Counting]:
    assert place.strict is not None
    with counting("127.0.0.1", place.strict.server.port) as proxy:
        yield proxy


def most_in_a_second(arrivals: list[Arrival]) -> int:
    """The most bytes that surely arrived within one second, of windows that begin with every fifth
    arrival."""
    ordered, worst = sorted(arrivals), 0
    for first in range(0, len(ordered), 5):
        start, inside = ordered[first][0], 0
        for early, late, size in ordered[first:]:
            if early > start + 1:
                break
            inside += size if late <= start + 1 else 0
        worst = max(worst, inside)
    return worst


@dataclass(frozen=True)
class Phase:
    """A time in which one thing held, by the monotonic clock."""

    name: str
    begin: float
    end: float

    def row(self, arrivals: list[Arrival]) -> str:
        """What arrived in it, of the rate."""
        inside = [one for one in arrivals if one[0] >= self.begin and one[1] <= self.end]
        seconds = self.end - self.begin
        part = sum(size for _, _, size in inside) / seconds / RATE
        return f"| {self.name} | {seconds:.0f} s | {part:.1%} | {most_in_a_second(inside):,} B |"


def table(phases: list[Phase], arrivals: list[Arrival]) -> str:
    head = f"| of {RATE:,} B/s | for | used | most of a second |\n|---|---|---|---|"
    return "\n".join([head, *(phase.row(arrivals) for phase in phases)])


class Phases(list[Phase]):
    """Begins where what is to hold is known to, and lasts for a number of seconds."""

    def hold(self, name: str, seconds: float) -> None:
        begin = time.monotonic()
        spend(seconds)
        self.append(Phase(name, begin, time.monotonic()))


def test_five_gateways_never_send_more_than_the_rate(tmp_path: Path, place: Place) -> None:
    site, phases = Site(tmp_path, place), Phases()
    redis = Redis(tmp_path / "redis").start()
    try:
        with link_before(place) as proxy:
            with Link(redis.url.replace("redis:", "http:")) as cut:
                through = cut.url.replace("http:", "redis:") + "/0"
                for n in range(GATEWAYS):
                    site.share(n, proxy.url, through if n in (1, 2) else redis.url)
                for n in range(GATEWAYS - 1):
                    site.start(n)
                site.await_lent(0, 1, 2, 3)
                site.start(4)
                site.await_lent(4)
                site.await_all_of_the_rate()
                phases.hold("all is well", 5)

                assert redis.process is not None
                redis.process.send_signal(signal.SIGSTOP)
                site.await_floors(*range(GATEWAYS))
                phases.hold("Redis stopped: floors", 3)
                redis.process.send_signal(signal.SIGCONT)
                site.await_lent(0, 1, 2, 3, 4)

                kill(redis.process)
                site.await_floors(*range(GATEWAYS))
                shutil.rmtree(tmp_path / "redis")
                redis.folder.mkdir()
                redis.start()
                site.await_lent(0, 1, 2, 3, 4)
            site.await_floors(1, 2)  # cut off from Redis, while the others borrow what they leave
            site.await_lent(0, 3, 4)
            kill(site.runs[3])
            wait_until(lambda: site.lent(0) > REST // 3, "the flooded one gets what others leave")
            for process in site.runs.values():
                kill(process)
    finally:
        for process in site.runs.values():
            if process.poll() is None:
                kill(process)
        redis.stop()
    worst = most_in_a_second(proxy.arrivals)
    seconds = proxy.arrivals[-1][1] - proxy.arrivals[0][0]
    print(
        f"{worst} B in one second of at most {RATE}; {proxy.total / seconds / RATE:.1%} of the time"
    )
    print(table(phases, proxy.arrivals))
    assert worst <= RATE + slack(GATEWAYS)


@pytest.mark.skipif(not MINUTES, reason="HEADGATE_TEST_GATEWAYS_MINUTES is not set: make gateways")
def test_the_published_run(tmp_path: Path, place: Place) -> None:
    """One of five has ten times what its equal part of the rate could send, the others as much as
    that; one of those is killed and started again, and Redis is killed and comes back empty. The
    table says what was used of the rate. The floor of the one that is down is no one else's."""
    seconds = MINUTES * 60
    part = int(seconds * RATE / IMAGE / GATEWAYS)
    site, phases = Site(tmp_path, place, flooded=10 * part, others=part), Phases()
    redis = Redis(tmp_path / "redis").start()
    try:
        with link_before(place) as proxy:
            for n in range(GATEWAYS):
                site.share(n, proxy.url, redis.url)
                site.start(n)
            site.await_lent(*range(GATEWAYS))
            site.await_all_of_the_rate()
            phases.hold("all five send", seconds * 0.4)
            kill(site.runs[3])
            phases.hold("one was killed", seconds * 0.1)
            site.start(3)
            site.await_lent(3)
            site.await_all_of_the_rate()
            phases.hold("it was started again", seconds * 0.2)
            assert redis.process is not None
            kill(redis.process)
            site.await_floors(*range(GATEWAYS))
            phases.hold("Redis is away: floors", seconds * 0.1)
            shutil.rmtree(redis.folder)
            redis.folder.mkdir()
            redis.start()
            site.await_lent(0)
            phases.hold("Redis is back, and empty", seconds * 0.2)
            sent = [gateway.spool.uplink.budget().day_used for gateway in site.gateways]
    finally:
        for process in site.runs.values():
            kill(process)
        redis.stop()
    worst = most_in_a_second(proxy.arrivals)
    print(table(phases, proxy.arrivals))
    print(f"most of any second: {worst:,} B; sent by each gateway: {sent}")
    assert worst <= RATE + slack(GATEWAYS)


def test_two_gateways_use_one_allowance_of_a_day(tmp_path: Path, place: Place) -> None:
    """The busy one gets what the other leaves, which is more than half, and both never more than
    the day has; whatever is killed, and while Redis comes back without its data."""
    site, daily = Site(tmp_path, place, flooded=60, others=8, gateways=2, image=100_000), 4_000_000
    redis = Redis(tmp_path / "redis").start()
    try:
        with link_before(place) as proxy:
            for n in range(2):
                site.share(n, proxy.url, redis.url, gateways=2, daily=daily)
            for n in (0, 1, 0):  # as each minute does: who was not heard of may hold something
                site.gateways[n].call("watch", "--cron")
            assert site.gateways[1].call("drain").returncode == 0
            site.start(0)
            busy = site.gateways[0].spool.uplink
            wait_until(lambda: busy.budget().day_used > 500_000, "it sends", process=site.runs[0])
            kill(site.runs[0])
            redis.stop()
            shutil.rmtree(redis.folder)
            redis.folder.mkdir()
            redis.start()
            for n in (0, 1, 0):
                site.gateways[n].call("watch", "--cron")
            site.start(0)
            site.runs[0].communicate(timeout=SECONDS)
        uses = []
        for gateway in site.gateways:
            with closing(Spool.open(gateway.settings())) as spool:
                uses.append(spool.uplink.budget())
        status = site.gateways[0].call("status").stdout
    finally:
        redis.stop()
    assert sum(use.day_used for use in uses) <= daily and proxy.total <= daily
    assert uses[0].day_used > daily // 2 and uses[0].day_spent and not uses[1].day_spent
    assert site.gateways[1].spool.catalog.totals().waiting.images == 0
    assert "nothing more until midnight; the 4.0 MB of the site are shared" in status, status
