"""What each device has sent, against sets of numbers and lists of readings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.spool import sqlite
from headgate.spool.catalog import corrections, device_stats
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.device_stats import Arrivals, ClockReading
from headgate.spool.catalog.schema import MIGRATIONS
from headgate.spool.image import names
from headgate.spool.image.image import Metadata, State
from headgate.spool.image.names import Name

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        opened = Catalog(Path(folder) / "catalog.sqlite3")
        yield opened
        opened.close()


def image(number: int, device: str = "cam", seq: int | None = None) -> tuple[Name, Metadata]:
    sha256 = f"{number:064x}"
    meta = Metadata(sha256, 10, "image/jpeg", sequence=seq)
    return names.make(AT + timedelta(seconds=number), device, sha256[::-1], "jpg"), meta


def send(catalog: Catalog, *sequence: int, clock: ClockReading | None = None) -> None:
    for number in sequence:
        first = catalog.arrivals_of("cam")
        catalog.add(*image(0 if first is None else first.images, seq=number), clock)


def missing(catalog: Catalog) -> list[int]:
    found = catalog.gaps("cam", 10_000)
    assert found is not None
    told = [number for first, last in found.gaps for number in range(first, last + 1)]
    assert found.missing == len(told)
    return told


def memory() -> sqlite.Connection:
    db = sqlite.raw(":memory:")
    db.execute(device_stats.TABLES + device_stats.LAST_IMAGE + corrections.TABLES)
    return db


@given(st.permutations(range(10, 40)).flatmap(lambda all: st.lists(st.sampled_from(all))))
def test_gaps_are_what_a_set_says_they_are(numbers: list[int]) -> None:
    db = memory()
    seen: set[int] = set()
    for number in numbers:
        device_stats.repeat(db, "cam", AT, number, None)
        seen.add(number)
        found = device_stats.gaps(db, "cam", 100)
        assert found is not None
        assert (found.first, found.last) == (min(seen), max(seen))
        absent = sorted(set(range(min(seen), max(seen))) - seen)
        runs = [list(run) for _, run in groupby(enumerate(absent), lambda pair: pair[1] - pair[0])]
        assert found.gaps == tuple((run[0][1], run[-1][1]) for run in runs)
        assert found.missing == len(absent)
    db.close()


def test_no_number_no_gaps(catalog: Catalog) -> None:
    assert catalog.gaps("cam", 10) is None
    catalog.add(*image(1))
    assert catalog.gaps("cam", 10) is None
    assert catalog.arrivals_of("nobody") is None


def test_what_is_sent_again_closes_its_gap(catalog: Catalog) -> None:
    send(catalog, 7, 8, 12)
    assert missing(catalog) == [9, 10, 11]
    send(catalog, 10)
    assert missing(catalog) == [9, 11]
    catalog.repeated("cam", AT, 11, None)
    assert missing(catalog) == [9]


@pytest.mark.parametrize("restart", [0, 1])
def test_a_camera_that_counts_from_the_start_again_misses_nothing(
    catalog: Catalog, restart: int
) -> None:
    send(catalog, 500, 502, restart, restart + 1)
    assert missing(catalog) == []


def test_a_number_that_another_image_had_begins_a_new_series(catalog: Catalog) -> None:
    send(catalog, 1, 2, 3, 9, 2, 4)
    assert missing(catalog) == [3]


def test_a_number_that_comes_again_with_its_own_image_begins_none(catalog: Catalog) -> None:
    send(catalog, 1, 3)
    catalog.repeated("cam", AT, 1, None)
    assert missing(catalog) == [2]


def test_a_leap_begins_a_new_series_and_a_long_gap_does_not(catalog: Catalog) -> None:
    send(catalog, 10, 10 + device_stats.LEAP)
    assert len(missing(catalog)) == device_stats.LEAP - 1
    send(catalog, 10 + 2 * device_stats.LEAP + 1)
    assert missing(catalog) == []


def test_a_leap_back_begins_a_new_series(catalog: Catalog) -> None:
    first = 3 * device_stats.LEAP
    send(catalog, first, first + 1, 5, 7)
    assert missing(catalog) == [6]


@pytest.mark.parametrize("unit", [1, 1000, 1_000_000])
def test_a_number_that_is_the_time_tells_of_no_gaps(catalog: Catalog, unit: int) -> None:
    times = [int((AT + timedelta(seconds=60 * minute)).timestamp()) * unit for minute in range(5)]
    send(catalog, *times)
    assert catalog.gaps("cam", 10) is None
    catalog.repeated("cam", AT, times[0], None)
    assert catalog.gaps("cam", 10) is None


def test_the_newest_first_is_no_restart(catalog: Catalog) -> None:
    send(catalog, 3, 2, 1, 0)
    found = catalog.gaps("cam", 10)
    assert found is not None
    assert (found.first, found.last, found.missing) == (0, 3, 0)


def test_hostile_numbers_keep_to_a_bounded_table() -> None:
    db = memory()
    for number in range(0, 2 * (device_stats.RANGES_MAX + 50), 2):
        device_stats.repeat(db, "cam", AT, 100 + number, None)
    assert db.execute("SELECT count(*) FROM sequences").fetchone() == (device_stats.RANGES_MAX,)
    found = device_stats.gaps(db, "cam", 3)
    assert found is not None
    assert found.missing == device_stats.RANGES_MAX - 1  # the oldest were forgotten
    assert len(found.gaps) == 3
    db.close()


def test_devices_do_not_mix(catalog: Catalog) -> None:
    catalog.add(*image(1, "a", 1))
    catalog.add(*image(2, "b", 3))
    catalog.add(*image(3, "a", 2))
    gaps_of_a = catalog.gaps("a", 10)
    assert gaps_of_a is not None
    assert gaps_of_a.missing == 0
    assert [(one.device, one.images, one.bytes) for one in catalog.arrivals()] == [
        ("a", 2, 20),
        ("b", 1, 10),
    ]


def test_a_lost_row_that_is_found_again_counts_and_begins_no_series(catalog: Catalog) -> None:
    send(catalog, 1, 3)
    catalog.restore(*image(50, seq=3), State.WAITING)
    assert missing(catalog) == [2]
    found = catalog.arrivals_of("cam")
    assert found is not None
    assert found.images == 3


def offset(catalog: Catalog) -> float | None:
    found = catalog.arrivals_of("cam")
    assert found is not None
    return found.clock_offset_seconds


def test_of_late_readings_the_one_furthest_ahead_counts_for_an_hour(catalog: Catalog) -> None:
    for seconds, reading, expected in [
        (0, -90.0, -90.0),
        (10, -300.0, -90.0),  # this image waited in the camera
        (20, -61.0, -61.0),
        (3000, -400.0, -61.0),
        (3700, -200.0, -200.0),  # the clock was set, or drifts
    ]:
        at = AT + timedelta(seconds=seconds)
        catalog.repeated("cam", at, None, ClockReading(reading, exact=False))
        assert offset(catalog) == expected


def test_an_exact_reading_counts_over_a_late_one(catalog: Catalog) -> None:
    catalog.repeated("cam", AT, None, ClockReading(5.0, exact=True))
    catalog.repeated("cam", AT, None, ClockReading(100.0, exact=False))
    assert offset(catalog) == 5.0
    catalog.repeated("cam", AT, None, ClockReading(-2.0, exact=True))
    assert offset(catalog) == -2.0


@pytest.mark.parametrize(
    ("seconds", "off"), [(None, False), (59.0, False), (-59.0, False), (60.0, True), (-61.0, True)]
)
def test_a_clock_is_off_from_a_minute(seconds: float | None, off: bool) -> None:
    assert Arrivals("cam", AT, AT, 1, 1, seconds).clock_is_off is off


def test_a_catalog_of_the_first_schema_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite3"
    old = sqlite.raw(path)
    old.execute(MIGRATIONS[0])
    old.execute("PRAGMA user_version = 1")
    name, meta = image(1)
    old.execute(
        "INSERT INTO images (id, ext, device, sha256, size) VALUES (?, 'jpg', 'cam', ?, 10)",
        (name.id, bytes.fromhex(meta.sha256)),
    )
    old.close()
    catalog = Catalog(path)
    item = catalog.get(name.id)
    assert item is not None
    assert item.urgent is False
    send(catalog, 5, 6)
    assert missing(catalog) == []
    catalog.close()
