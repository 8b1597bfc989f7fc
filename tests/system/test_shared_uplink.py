"""Five gateways behind one counting link, and a real Redis that is stopped, killed, restarted empty
and cut off from some: in no second more than the rate, and the floors while it is away."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from tests.support.wait import SECONDS, kill, wait_until

pytestmark = [needs_redis, pytest.mark.slow]

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


def test_five_gateways_never_send_more_than_the_rate(tmp_path: Path, place: Place) -> None:
    site = Site(tmp_path, place)
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

                assert redis.process is not None
                redis.process.send_signal(signal.SIGSTOP)
                site.await_floors(*range(GATEWAYS))
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
