"""How many connections: tried on networks of arithmetic, whose best number is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploader.run.concurrency import FEWEST, FIRST, MOST, Parallel

SIZE = 250_000


@dataclass
class Network:
    """Carries images of ``SIZE``; each takes ``latency`` besides its share of the link."""

    cap: float  # bytes a second that may be sent
    link: float = 1e12  # bytes a second that fit through
    latency: float = 0.001
    machine: float = 1500  # images a second that this program can make ready

    def carries(self, count: int) -> float:
        """Bytes a second with so many connections."""
        return min(self.cap, self.link, self.machine * SIZE, count * SIZE / self.latency)

    def used(self) -> float:
        return min(self.cap, self.link, self.machine * SIZE)


def run(parallel: Parallel, network: Network, seconds: float, start: float = 0.0) -> list[int]:
    """What the count was after each image; the clock is arithmetic as well."""
    now, sent, counts = start, 0.0, []
    while now < start + seconds:
        now += SIZE / network.carries(parallel.count)
        sent += SIZE
        parallel.arrived(now, int(sent), int(network.cap))
        counts.append(parallel.count)
    return counts


def usually(counts: list[int]) -> int:
    """The number that it had most of the time, after it had found its way."""
    late = counts[len(counts) // 2 :]
    return max(set(late), key=late.count)


@pytest.mark.parametrize(
    ("network", "low", "high"),
    [
        (Network(cap=40e6, latency=0.3), 48, 128),  # far away: many are under way at once
        (Network(cap=40e6, latency=0.03), 5, 16),
        (Network(cap=1e6, latency=0.3), 2, 4),  # a small cap needs few, however far
        (Network(cap=40e6, link=125_000), 2, 2),  # 1 Mbit/s: more would only share it
        (Network(cap=1e12, latency=0.001), 2, 4),  # this machine is what bounds it
        (Network(cap=1e12, latency=0.02), 16, 64),
    ],
)
def test_as_many_as_bring_more(network: Network, low: int, high: int) -> None:
    counts = run(Parallel(0.0), network, 300)
    assert low <= usually(counts) <= high
    late = counts[len(counts) // 2 :]
    carried = sum(network.carries(count) for count in late) / len(late)
    assert carried >= 0.9 * network.used()


def test_many_are_found_soon() -> None:
    counts = run(Parallel(0.0), Network(cap=40e6, latency=0.3), 12)
    assert counts[-1] >= 48


def test_it_follows_a_network_that_changes() -> None:
    parallel = Parallel(0.0)
    near, far = Network(cap=40e6, latency=0.01), Network(cap=40e6, latency=0.3)
    assert usually(run(parallel, near, 60)) <= 8
    assert usually(run(parallel, far, 60, 60)) >= 48
    assert usually(run(parallel, near, 200, 120)) <= 16


def test_a_connection_that_breaks_halves_the_number_once_a_second() -> None:
    parallel = Parallel(0.0, 64)
    for _ in range(20):
        parallel.broke(1.0, 0)  # all of them at once: one loss
    assert parallel.count == 32
    for second in range(2, 20):
        parallel.broke(float(second), 0)
    assert parallel.count == FEWEST


def test_a_link_that_breaks_connections_is_not_crowded_again_at_once() -> None:
    parallel = Parallel(0.0, 8)
    parallel.broke(1.0, 0)
    counts = run(parallel, Network(cap=40e6, latency=0.3), 9, 1.0)
    assert set(counts) == {4}


@given(st.integers(1, 256))
def test_a_number_that_was_set_stays(number: int) -> None:
    parallel = Parallel(0.0, number, fewest=number, most=number)
    for network in (Network(cap=40e6, latency=0.3), Network(cap=40e6, link=125_000)):
        assert set(run(parallel, network, 5)) == {number}
    parallel.broke(10.0, 0)
    assert parallel.count == number


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**9), st.booleans()), max_size=200),
    st.integers(0, 10**12),
)
def test_never_fewer_than_two_and_never_a_crowd(
    events: list[tuple[float, int, bool]], rate: int
) -> None:
    parallel, now, sent = Parallel(0.0), 0.0, 0
    for seconds, size, broke in events:
        now, sent = now + seconds, sent + size
        act: Callable[[], None] = (
            (lambda at=now, all_=sent: parallel.broke(at, all_))  # type: ignore[misc]
            if broke
            else (lambda at=now, all_=sent: parallel.arrived(at, all_, rate))  # type: ignore[misc]
        )
        act()
        assert FEWEST <= parallel.count <= MOST


def test_what_an_earlier_run_learnt_is_where_it_begins() -> None:
    assert Parallel(0.0).count == FIRST
    assert Parallel(0.0, 48).count == 48
    assert Parallel(0.0, 10**9).count == MOST


def test_a_round_needs_its_time_and_two_images_of_each_connection() -> None:
    quick = Parallel(0.0, 4)
    for number in range(50):
        quick.arrived(0.19, number, 10**9)
    assert quick.images_a_second == 0
    few = Parallel(0.0, 4)
    for number in range(7):
        few.arrived(2.0, number, 10**9)
    assert few.images_a_second == 0
    few.arrived(2.0, 8, 10**9)
    assert few.images_a_second == 4
