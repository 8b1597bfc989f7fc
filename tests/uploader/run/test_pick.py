"""Picking: fair between devices in bytes, fresh and old within one, nothing twice."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.schema import WAITING, insert
from headgate.spool.image.image import Item, Metadata, State
from headgate.spool.image.names import Name
from uploader.run.pick import Clearance, Picker

calm = settings(deadline=None)

AT = datetime(2026, 11, 23, tzinfo=UTC)
ORDERS = st.sampled_from(["oldest", "newest", "mixed"])
DEVICES = st.sampled_from(["a", "b", "c", "d"])


class Backlog:
    """What waits, in memory: the catalog's answers, from a list in order of arrival."""

    def __init__(self) -> None:
        self.waiting: list[Item] = []
        self.arrivals = 0
        self.asked = 0
        self.handed = 0

    def add(self, device: str, size: int, urgent: bool = False) -> Item:
        self.arrivals += 1
        name = Name(AT, device, f"{self.arrivals:016x}", "jpg")
        item = Item(name, "0" * 64, size, State.WAITING, self.arrivals, urgent=urgent)
        self.waiting.append(item)
        return item

    def claim(self, picked: list[Item]) -> None:
        gone = {item.arrival for item in picked}
        self.waiting = [item for item in self.waiting if item.arrival not in gone]

    def waiting_devices(self, *, urgent: bool = False) -> list[str]:
        self.asked += 1
        return sorted({item.name.device for item in self.waiting if item.urgent or not urgent})

    def oldest_of(self, device: str, after: int, limit: int, *, urgent: bool) -> list[Item]:
        found = [i for i in self._of(device, urgent) if i.arrival > after]
        return self._page(found[:limit])

    def newest_of(self, device: str, before: int | None, limit: int, *, urgent: bool) -> list[Item]:
        end = self.arrivals + 1 if before is None else before
        found = [i for i in self._of(device, urgent) if i.arrival < end]
        return self._page(found[::-1][:limit])

    def _of(self, device: str, urgent: bool) -> list[Item]:
        return [i for i in self.waiting if i.name.device == device and i.urgent == urgent]

    def _page(self, found: list[Item]) -> list[Item]:
        self.asked += 1
        self.handed += len(found)
        return found


def backlog(**counts: int) -> Backlog:
    """So many images of a byte of each device."""
    made = Backlog()
    for device, count in counts.items():
        for _ in range(count):
            made.add(device, 1)
    return made


ARRIVALS = st.lists(st.tuples(DEVICES, st.integers(1, 1000)), max_size=60)
ROUNDS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 3000), ARRIVALS.map(lambda new: new[:8])),
    max_size=12,
)


@calm
@given(ARRIVALS, ROUNDS, ORDERS)
def test_nothing_is_picked_twice_and_no_pick_exceeds_its_bounds(
    first: list[tuple[str, int]], rounds: list[tuple[int, int, list[tuple[str, int]]]], order: str
) -> None:
    source = Backlog()
    for device, size in first:
        source.add(device, size)
    picker = Picker(source, {}, order)
    seen: set[int] = set()
    for images, size, arriving in rounds:
        waiting = {item.arrival for item in source.waiting}
        picked = picker.pick(images, size)
        arrivals = [item.arrival for item in picked]
        assert len(set(arrivals)) == len(arrivals) <= images
        assert set(arrivals) <= waiting and not seen & set(arrivals)
        assert len(picked) == 1 or sum(item.size for item in picked) <= size
        assert bool(picked) == bool(waiting and images)
        seen.update(arrivals)
        source.claim(picked)
        for device, more in arriving:
            source.add(device, more)


def test_what_does_not_fit_any_more_is_passed_over_and_not_called_served() -> None:
    source = Backlog()
    for size in (90, 5, 90, 4):
        source.add("a", size)
    source.add("b", 50)
    picker = Picker(source, {}, "oldest")

    def clear(item: Item) -> Clearance:
        return Clearance.NOW if item.size < 50 else Clearance.NOT_ANY_MORE

    picked = picker.pick(10, 10**6, clear=clear)
    assert sorted(item.size for item in picked) == [4, 5]
    assert picker.served == {"a": 9, "b": 0}
    picker.give_back(picked[:1])
    assert picker.served["a"] == 9 - picked[0].size


def test_no_more_than_a_few_are_passed_over_in_one_pick() -> None:
    source, asked = backlog(a=100), []

    def clear(item: Item) -> Clearance:
        asked.append(item)
        return Clearance.NOT_ANY_MORE

    assert Picker(source, {}, "mixed").pick(50, 10**6, clear=clear) == []
    assert len(asked) == 16


def test_none_goes_before_one_that_only_waits_for_its_turn() -> None:
    source = Backlog()
    for device, size in (("a", 90), ("b", 5)):
        source.add(device, size, urgent=device == "a")
    picker = Picker(source, {}, "oldest")

    def clear(item: Item) -> Clearance:
        return Clearance.NOW if item.size < 50 else Clearance.LATER

    assert picker.pick(10, 10**6, clear=clear) == []
    assert [item.size for item in picker.pick(10, 10**6)] == [90, 5]


@calm
@given(ARRIVALS, ORDERS, st.integers(1, 7), st.integers(1, 3000))
def test_everything_that_waits_is_picked_in_the_end(
    arrivals: list[tuple[str, int]], order: str, images: int, size: int
) -> None:
    source = Backlog()
    for device, each in arrivals:
        source.add(device, each)
    picker = Picker(source, {}, order)
    for _ in range(len(arrivals)):
        source.claim(picker.pick(images, size))
    assert source.waiting == []


@calm
@given(
    st.dictionaries(DEVICES, st.lists(st.integers(1, 1000), min_size=60, max_size=60), min_size=2),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5000)), max_size=10),
    ORDERS,
)
def test_between_devices_that_always_have_images_bytes_differ_by_one_image_at_most(
    sizes: dict[str, list[int]], picks: list[tuple[int, int]], order: str
) -> None:
    source = Backlog()
    for rank in range(60):
        for device, each in sizes.items():
            source.add(device, each[rank])
    largest = max(item.size for item in source.waiting)
    picker = Picker(source, {}, order)
    sent = dict.fromkeys(sizes, 0)
    taken = dict.fromkeys(sizes, 0)
    for images, size in picks:
        picked = picker.pick(images, size)
        source.claim(picked)
        for item in picked:
            if max(taken.values()) == 60:  # one of them has run out
                return
            sent[item.name.device] += item.size
            taken[item.name.device] += 1
            assert max(sent.values()) - min(sent.values()) <= largest


@calm
@given(st.integers(1, 10**12), st.integers(1, 10**6), ORDERS)
def test_a_newcomer_starts_at_the_least_served_of_those_that_wait(
    least: int, ahead: int, order: str
) -> None:
    source = backlog(a=30, b=30, c=30)
    picker = Picker(source, {"a": least, "b": least + ahead, "gone": 0}, order)
    assert picker.pick(0, 10**6) == []
    assert picker.served == {"a": least, "b": least + ahead, "c": least}


def test_a_device_that_comes_back_has_saved_nothing_up() -> None:
    source = backlog(a=200, b=3)
    picker = Picker(source, {}, "oldest")
    source.claim(picker.pick(100, 10**6))  # b has none left; a goes on alone
    source.claim(picker.pick(50, 10**6))
    for _ in range(40):
        source.add("b", 1)
    devices = [item.name.device for item in picker.pick(20, 10**6)]
    assert devices.count("a") == devices.count("b") == 10


def test_a_device_that_was_served_much_before_it_left_owes_nothing() -> None:
    source = backlog(b=100)
    picker = Picker(source, {"a": 10**9, "b": 5}, "oldest")
    source.claim(picker.pick(10, 10**6))
    for _ in range(50):
        source.add("a", 1)
    devices = [item.name.device for item in picker.pick(20, 10**6)]
    assert devices.count("a") == devices.count("b") == 10


def test_a_flood_of_one_device_does_not_delay_another() -> None:
    source = backlog(flood=3000)
    picker = Picker(source, {}, "mixed")
    for _ in range(5):
        source.claim(picker.pick(50, 10**6))
    quiet = source.add("quiet", 1)
    assert quiet in picker.pick(2, 10**6)


def test_large_images_do_not_buy_a_device_more_bytes() -> None:
    source = Backlog()
    for _ in range(100):
        source.add("large", 1000)
        for _ in range(10):
            source.add("small", 100)
    devices = [item.name.device for item in Picker(source, {}, "oldest").pick(110, 10**6)]
    assert (devices.count("large"), devices.count("small")) == (10, 100)


@pytest.mark.parametrize("order", ["oldest", "newest", "mixed"])
@pytest.mark.parametrize("images", [1, 4, 10, 37])
def test_the_order_within_a_device(order: str, images: int) -> None:
    """Also over several picks, and where the two ends of a device's images meet."""
    source = backlog(a=64)
    left = deque(item.arrival for item in source.waiting)
    expected = []
    for turn in range(64):
        newest = order == "newest" or (order == "mixed" and turn % 10 < 7)
        expected.append(left.pop() if newest else left.popleft())
    picker = Picker(source, {}, order)
    found: list[int] = []
    while source.waiting:
        picked = picker.pick(images, 10**6)
        source.claim(picked)
        found += [item.arrival for item in picked]
    assert found == expected


def test_what_arrives_during_a_run_is_fresh() -> None:
    source = backlog(a=30)
    picker = Picker(source, {}, "mixed")
    source.claim(picker.pick(3, 10**6))
    fresh = source.add("a", 1)
    assert picker.pick(1, 10**6) == [fresh]


def test_an_image_larger_than_the_bound_goes_alone_and_one_that_does_not_fit_waits() -> None:
    source = Backlog()
    sizes = [10, 500, 10]
    items = [source.add("a", size) for size in sizes]
    picker = Picker(source, {}, "oldest")
    picks = []
    for _ in range(3):
        picks.append(picker.pick(10, 100))
        source.claim(picks[-1])
    assert picks == [[items[0]], [items[1]], [items[2]]]


@calm
@given(ORDERS)
def test_the_cost_of_a_pick_does_not_grow_with_what_waits(order: str) -> None:
    costs = set()
    for each in (100, 1000):
        source = backlog(a=each, b=each)
        Picker(source, {}, order).pick(20, 10**6)
        costs.add((source.asked, source.handed))
    assert len(costs) == 1 and max(handed for _, handed in costs) <= 20  # none is read in vain


@pytest.mark.parametrize("order", ["oldest", "newest", "mixed"])
def test_urgent_images_go_first_for_up_to_half_the_bytes(order: str) -> None:
    source = backlog(a=200, b=200)
    hurried = [source.add("a", 1, urgent=True) for _ in range(100)]
    picker = Picker(source, {}, order)
    picked: list[Item] = []
    for _ in range(20):
        picked += picker.pick(10, 10**6)
        source.claim(picked[-10:])
    assert [item.urgent for item in picked] == [True, False] * 100
    assert {item.arrival for item in picked if item.urgent} == {i.arrival for i in hurried}
    assert picker.pick(4, 10**6)  # the others go on


@calm
@given(
    st.lists(st.tuples(DEVICES, st.integers(1, 1000), st.booleans()), max_size=80),
    st.integers(1, 9),
    ORDERS,
)
def test_neither_urgent_images_nor_the_others_are_starved(
    arrivals: list[tuple[str, int, bool]], images: int, order: str
) -> None:
    """While both wait they share the bytes, but for one image; and nothing is lost or doubled."""
    source = Backlog()
    for device, size, urgent in arrivals:
        source.add(device, size, urgent)
    largest = max((item.size for item in source.waiting), default=0)
    picker = Picker(source, {}, order)
    everything = {item.arrival for item in source.waiting}
    seen: set[int] = set()
    shares = {True: 0, False: 0}
    while source.waiting:
        for item in picker.pick(images, 10**9):
            both = {other.urgent for other in source.waiting} == {True, False}
            if both:
                shares[item.urgent] += item.size
                assert -largest <= shares[True] - shares[False] <= largest
            assert item.arrival not in seen
            seen.add(item.arrival)
            source.claim([item])
    assert seen == everything


def test_urgent_images_are_shared_fairly_between_devices() -> None:
    source = Backlog()
    for _ in range(50):
        source.add("loud", 1, urgent=True)
    for _ in range(5):
        source.add("quiet", 1, urgent=True)
    devices = [item.name.device for item in Picker(source, {}, "oldest").pick(10, 10**6)]
    assert (devices.count("loud"), devices.count("quiet")) == (5, 5)


def test_urgent_images_have_saved_nothing_up_while_there_were_none() -> None:
    source = backlog(a=1000)
    picker = Picker(source, {}, "oldest")
    source.claim(picker.pick(500, 10**6))
    for _ in range(100):
        source.add("b", 1, urgent=True)
    assert sum(item.urgent for item in picker.pick(40, 10**6)) == 20


def test_without_a_look_those_that_waited_are_served_and_nobody_is_forgotten() -> None:
    source = backlog(a=6)
    picker = Picker(source, {}, "oldest")
    source.claim(picker.pick(2, 10**6))
    late = source.add("late", 1)
    hurried = source.add("b", 1, urgent=True)
    picked = picker.pick(4, 10**6, look=False)
    assert late not in picked and hurried not in picked and len(picked) == 4
    source.claim(picked)
    assert picker.pick(4, 10**6, look=False) == [hurried, late]  # nobody else has anything left


def test_the_catalog_answers_from_an_index_whatever_is_urgent(tmp_path: Path) -> None:
    """Picks from the real catalog look at no more rows for a backlog twenty times as long."""
    steps = []
    for number, count in enumerate((300, 6000)):
        with closing(Catalog(tmp_path / f"{number}.sqlite3")) as catalog:
            with sqlite.transaction(catalog._on.writer) as db:
                for at in range(count):
                    name = Name(AT, "ab"[at % 2], f"{at:016x}", "jpg")
                    meta = Metadata(f"{at:064x}", 10, "image/jpeg", urgent=at % 2 == 0)
                    insert(db, name, meta, WAITING, unknown=False)
            ticks: list[int] = []
            catalog._on.reader.set_progress_handler(lambda t=ticks: bool(t.append(1)), 10)
            picker = Picker(catalog.backlog, {}, "mixed")
            assert [item.urgent for item in picker.pick(40, 10**6)] == [True, False] * 20
            catalog._on.reader.set_progress_handler(None, 0)
            steps.append(len(ticks))
    assert steps[1] <= 1.2 * steps[0]


INTERVAL = 100  # images that one interval carries


def interval(source: Backlog, picker: Picker) -> list[Item]:
    """What leaves in one interval, a few at a time as a run picks."""
    picked: list[Item] = []
    while len(picked) < INTERVAL and (more := picker.pick(min(9, INTERVAL - len(picked)), 10**9)):
        source.claim(more)
        picked += more
    return picked


def test_a_flood_of_a_thousand_times_its_share_delays_nobody_for_two_intervals() -> None:
    source = backlog(flood=100 * INTERVAL)
    picker = Picker(source, {}, "mixed")
    for _ in range(3):
        interval(source, picker)
        for _ in range(50 * INTERVAL):
            source.add("flood", 1)
        quiet = source.add("quiet", 1)
        assert quiet in interval(source, picker) + interval(source, picker)
    oldest = min(item.arrival for item in source.waiting)
    interval(source, picker)
    assert min(item.arrival for item in source.waiting) > oldest  # the backlog moves all the same


def test_after_an_outage_fresh_pictures_and_the_backlog_both_move() -> None:
    source = backlog(a=20 * INTERVAL, b=20 * INTERVAL)
    picker = Picker(source, {}, "mixed")
    for _ in range(5):
        oldest = {d: source.oldest_of(d, 0, 1, urgent=False)[0].arrival for d in "ab"}
        fresh = [source.add(device, 1) for device in "ab" for _ in range(10)]
        picked = interval(source, picker)
        assert {item.arrival for item in fresh} <= {item.arrival for item in picked}
        for device in "ab":
            assert source.oldest_of(device, 0, 1, urgent=False)[0].arrival > oldest[device]
