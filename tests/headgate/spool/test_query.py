"""Searches: every image is found by what is asked of it, wherever it is, and fast."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.spool import sqlite
from headgate.spool.image.image import Receipt, State
from headgate.spool.query import After, By, Query, where
from headgate.spool.receipts import schema
from headgate.spool.spool import Spool
from headgate.spool.upkeep import search_indexes
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, open_spool, put, upload_all

NUMBERS = 24
EVERY = frozenset(State)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    """Images of three devices on three days, uploaded, set aside, lost, discarded and waiting; they
    were taken in the reverse of the order in which they arrived."""
    clock = Clock()
    spool = open_spool(tmp_path_factory.mktemp("spool"), clock)
    first = clock.at
    for number in range(NUMBERS):
        taken = first + timedelta(days=-1, minutes=-number)
        put(
            spool,
            f"image {number}".encode(),
            f"cam-{number % 3}",
            sequence=number // 3 if number % 2 else None,
            captured_at=taken.isoformat() if number % 4 else "",
            tags={"site": "north" if number % 5 else "south"}
            | ({"night": ""} if number > 8 else {})
            | ({'who "is"': "é\\"} if number % 3 else {}),
        )
        if number == 11:
            upload_all(spool)
        clock.advance(hours=3)
    waiting = spool.catalog.after(0, 100)
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        for item in waiting[:4]:
            mover.set_aside(item, "a test", clock())
        spool.site.gone.ask(waiting[0], clock(), "a test", "a test")
        mover.discard()
        spool.files.in_aside(waiting[1].name).unlink()
        mover.lose(waiting[1], clock())
    yield spool
    spool.close()


def every(spool: Spool) -> list[Receipt]:
    return list(spool.find(Query(limit=1000, states=EVERY)).receipts)


def pages(spool: Spool, query: Query) -> list[str]:
    """The ids of all pages, one after the other."""
    found: list[str] = []
    while True:
        page = spool.find(query)
        found += [one.id for one in page.receipts]
        assert len(page.receipts) <= query.limit
        if not page.more:
            return found
        last = page.receipts[-1]
        query = replace(query, after=After(page.cursor, last.captured_at))


def wanted(receipt: Receipt, query: Query) -> bool:
    """Whether an image is one of those that are asked for, said once more and slowly."""
    at = receipt.received_at if query.by is By.ARRIVAL else receipt.captured_at
    return (
        at is not None
        and query.device in ("", receipt.device)
        and receipt.state in query.states
        and (query.since is None or at >= query.since)
        and (query.until is None or at < query.until)
        and (
            query.sequences is None
            or (
                receipt.sequence is not None
                and query.sequences[0] <= receipt.sequence <= query.sequences[1]
            )
        )
        and all(
            name in receipt.tags and value in (None, receipt.tags[name])
            for name, value in query.tags
        )
    )


MIDDLE = datetime.fromisoformat("2026-11-25T01:04:00.000014Z")
BOUNDS: list[dict[str, Any]] = [
    {},
    {"since": MIDDLE},
    {"until": MIDDLE},
    {"since": MIDDLE - timedelta(days=2), "until": MIDDLE + timedelta(hours=9)},
]
WISHES: list[dict[str, Any]] = [
    {},
    {"device": "cam-1"},
    {"device": "cam-9"},
    {"sequences": (2, 5)},
    {"device": "cam-2", "sequences": (2, 5)},
    {"tags": (("site", "north"),)},
    {"tags": (("site", "south"), ("late", None)), "device": "cam-1"},
    {"tags": (('who "is"', "é\\"),)},
    {"tags": (("night", ""), ("site", None))},
    {"states": frozenset({State.WAITING})},
    {"states": frozenset({State.SET_ASIDE, State.LOST, State.DISCARDED}), "device": "cam-1"},
    {"states": frozenset({State.UPLOADED})},
]


@pytest.mark.parametrize("wish", WISHES, ids=lambda wish: "-".join(wish) or "all")
def test_a_search_finds_what_is_asked_for_in_order_and_page_by_page(
    full: Spool, wish: dict[str, Any]
) -> None:
    known = every(full)
    assert len(known) == NUMBERS
    taken = sorted(one.captured_at for one in known if one.captured_at)
    exact = {"since": taken[3], "until": taken[9]}  # the first is wanted, the last is too late
    for bounds in (*BOUNDS, exact):
        for by in By:
            for oldest_first in (False, True):
                asked: dict[str, Any] = {"states": EVERY, "by": by, "oldest_first": oldest_first}
                query = Query(**(asked | bounds | wish))
                there = [one for one in known if wanted(one, query)]
                there.sort(key=query.order, reverse=not oldest_first)
                ids = [one.id for one in there]
                for limit in (1, 2, 5, 100):
                    assert pages(full, replace(query, limit=limit)) == ids, (query, limit)


def test_what_the_device_said_stays_when_its_image_is_uploaded(full: Spool) -> None:
    for state in (State.WAITING, State.UPLOADED):
        found = full.find(Query(device="cam-1", states=frozenset({state}))).receipts
        assert {one.tags["site"] for one in found} <= {"north", "south"}
        assert any(one.captured_at for one in found)


def test_a_time_without_a_zone_is_local_time(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        for number, said in enumerate(("2026:11:23 16:04:05", "2026-11-23T16:04:05", "20261123")):
            put(spool, str(number).encode(), captured_at=said)
        found = [one.captured_at for one in spool.find(Query(oldest_first=True)).receipts]
    local = datetime.fromisoformat("2026-11-23T16:04:05").astimezone()
    assert found[:2] == [local, local]
    assert found[2] is not None


# -- its cost does not grow with what is not asked for


def plan(spool: Spool, day: str, query: Query) -> str:
    """How SQLite looks in a day of receipts."""
    condition, values = where(query)

    def explain(db: sqlite.Connection) -> list[Any]:
        return db.execute(
            f"EXPLAIN QUERY PLAN {schema.SELECT} WHERE {condition}", values
        ).fetchall()

    rows = spool.receipts._read(day, explain) or []
    return "; ".join(row[3] for row in rows if "places" not in row[3])


AFTER = After("20261123T160405.123456Z_cam-1_0123456789abcdef", MIDDLE)
SINCE = {"since": MIDDLE - timedelta(days=3), "until": MIDDLE}


@pytest.mark.parametrize(
    ("wish", "index"),
    [
        ({}, "SEARCH images USING INDEX sqlite_autoindex_images_1 (id<?)"),
        (SINCE, "SEARCH images USING INDEX sqlite_autoindex_images_1 (id>? AND id<?)"),
        ({"device": "a"}, "SEARCH images USING INDEX images_by_device (device=? AND id<?)"),
        (
            {"device": "a"} | SINCE,
            "SEARCH images USING INDEX images_by_device (device=? AND id>? AND id<?)",
        ),
        (
            {"device": "a", "sequences": (3, 9)},
            "SEARCH images USING INDEX images_by_sequence "
            "(device=? AND sequence>? AND sequence<?); USE TEMP B-TREE FOR ORDER BY",
        ),
        (
            {"by": By.CAPTURE} | SINCE,
            "SEARCH images USING INDEX images_by_capture (captured>? AND captured<?)",
        ),
        (
            {"tags": (("a", None),)},
            "SEARCH images USING INDEX images_with_tags (id<?); "
            "SCAN json_each EXISTS VIRTUAL TABLE INDEX 1:",
        ),
        (
            {"tags": (("a", None),), "device": "a"},
            "SEARCH images USING INDEX images_by_device (device=? AND id<?); "
            "SCAN json_each EXISTS VIRTUAL TABLE INDEX 1:",
        ),
        (
            {"by": By.CAPTURE, "device": "a"},
            "SEARCH images USING INDEX images_by_capture (captured>? AND captured<?)",
        ),
    ],
)
def test_a_search_steps_through_an_index(full: Spool, wish: dict[str, Any], index: str) -> None:
    found = plan(full, full.receipts.days()[0], Query(after=AFTER, **wish))
    assert found.replace("; USE TEMP B-TREE FOR LAST TERM OF ORDER BY", "") == index


def test_days_that_cannot_hold_any_are_not_opened(
    full: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    look = full.receipts._look

    def noted(day: str, *told: Any) -> Any:
        asked.append(day)
        return look(day, *told)

    monkeypatch.setattr(full.receipts, "_look", noted)
    first, *_, last = days = full.receipts.days()
    assert len(days) == 3
    full.find(Query(until=datetime.fromisoformat(f"{days[1]}T00:00:00Z")))
    full.find(Query(since=datetime.fromisoformat(f"{last}T00:00:00Z")))
    assert asked == [first, last]
    full.find(Query(limit=1, states=frozenset({State.UPLOADED})))  # has enough before the first
    assert asked[2:] == [last, days[1]]


def test_a_day_of_an_older_version_is_searched_and_becomes_fast(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        put(spool, b"one", tags={"site": "north"})
        upload_all(spool)
        (day,) = spool.receipts.days()

    indexes = ("images_by_device", "images_by_sequence", "images_by_capture")
    with closing(sqlite.raw(spool.receipts.path(day))) as db:
        for index in indexes:
            db.execute(f"DROP INDEX {index}")
    with closing(open_spool(tmp_path)) as spool:
        query = Query(device="cam-1")
        assert len(spool.find(query).receipts) == 1
        assert "images_by_device" not in plan(spool, day, query)
        assert [search_indexes.add_to_one_day(spool) for _ in range(3)] == [day, "", ""]
        assert "images_by_device" in plan(spool, day, query)
        assert len(spool.find(query).receipts) == 1


def test_ids_are_those_of_sha256(full: Spool) -> None:
    """The order of ids is what pages rely on: it is that of arrival."""
    arrived = [f"image {number}" for number in range(NUMBERS)]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in arrived]
    assert [one.sha256 for one in reversed(every(full))] == digests
