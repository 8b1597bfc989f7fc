"""Five gateways behind one counting link, and a real Redis that is stopped, killed, restarted empty
and cut off from some: in no second more than the rate, and the floors while it is away."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headgate.shared.lending import Borrower, rest_of
from headgate.spool.budget import ledger
from headgate.spool.budget.uplink import LEASE
from tests.support.counting_proxy import Arrival, Counting, counting
from tests.support.gateway import Gateway, slack
from tests.support.queueing import Redis, needs_redis
from tests.support.s3_server import Place
from tests.support.shaping_proxy import Link
from tests.support.wait import kill, wait_until

pytestmark = [needs_redis, pytest.mark.slow]

GATEWAYS = 5
RATE, FLOOR = 3_000_000, 150_000
REST = rest_of(RATE, FLOOR, GATEWAYS)
IMAGE = 200_000
FLOODED, OTHERS = 600, 200  # images


class Site:
    """Gateways of one site as processes, and what each was lent."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.gateways: list[Gateway] = []
        self.runs: dict[int, subprocess.Popen[str]] = {}
        for n in range(GATEWAYS):
            root = folder / f"gw{n}"
            root.mkdir()
            self.gateways.append(Gateway(root, place))
            self.gateways[n].fill(OTHERS if n else FLOODED, IMAGE)

    def share(self, n: int, link: str, redis: str) -> None:
        self.gateways[n].write(
            endpoint=link,
            uplink={
                "link": f"{RATE}B/s", "share": "100%", "shared": redis, "gateway": f"gw{n}",
                "gateways": GATEWAYS, "floor": f"{FLOOR}B/s", "parallel": 1,
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
