"""Receipts: one file a day, counted as they are, found in every way they are asked for."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool import sqlite
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.image import names
from headgate.spool.image.image import Count, Item, Receipt, Remarks, Sent, State
from headgate.spool.image.names import Name
from headgate.spool.query import Query
from headgate.spool.receipts import quiet
from headgate.spool.receipts import receipts as receipts_module
from headgate.spool.receipts.receipts import Receipts

NOON = datetime(2026, 11, 23, 12, 0, 0, 5, UTC)
UPLOADED = datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)

Finished = tuple[Name, Item | Receipt, Sent, datetime]


@pytest.fixture
def receipts(tmp_path: Path) -> Iterator[Receipts]:
    opened = Receipts(tmp_path)
    yield opened
    opened.close()


def finished(
    content: str,
    at: datetime = NOON,
    device: str = "cam",
    *,
    key: str = "",
    sequence: int | None = None,
    to: str = "site/cam/2026/11/23/",
) -> Finished:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    name = names.make(at, device, sha256, "jpg")
    item = Item(name, sha256, len(content), State.SENDING, 1, key, sequence)
    return name, item, Sent("photos", to + name.file, '"etag"', "sum", "v7"), UPLOADED


def raises(error: Exception) -> Callable[..., NoReturn]:
    def always(*_: object, **__: object) -> NoReturn:
        raise error

    return always


def expected(entry: Finished, local: bool = True) -> Receipt:
    name, item, sent, uploaded_at = entry
    assert isinstance(item, Item)
    return Receipt(
        id=name.id,
        sha256=item.sha256,
        size=item.size,
        device=name.device,
        received_at=name.received_at,
        state=State.UPLOADED,
        local=local,
        media_type="image/jpeg",
        key_given=item.key,
        sequence=item.sequence,
        bucket=sent.bucket,
        key=sent.key,
        etag=sent.etag,
        version_id=sent.version_id,
        uploaded_at=uploaded_at,
    )


def test_a_receipt_says_all_that_is_known_and_that_the_image_may_be_erased(
    receipts: Receipts,
) -> None:
    entry = finished("image", key="k", sequence=2**63 - 1)
    receipts.add([entry])
    found = receipts.get(entry[0].id)
    assert found == expected(entry) and found is not None
    assert found.safe_to_erase and found.name == entry[0]


def test_what_was_remarked_about_an_image_stays_in_its_receipt(receipts: Receipts) -> None:
    name, item, sent, uploaded_at = finished("image")
    remarks = Remarks(("captured_at could not be read: soon",), complete=False)
    receipts.add([(name, replace(item, remarks=remarks), sent, uploaded_at)])
    found = receipts.get(name.id)
    assert found is not None
    assert found.remarks == remarks
    assert found.warnings == remarks.warnings


@pytest.mark.parametrize("to", ["", "a/", "a b/ü/", "flat-", "site=n/date=2026-11-23/"])
def test_keys_of_every_layout_come_back(receipts: Receipts, to: str) -> None:
    entry = finished("image", to=to)
    receipts.add([entry])
    assert receipts.get(entry[0].id) == expected(entry)


def test_what_was_written_once_stays(receipts: Receipts) -> None:
    entry = finished("image")
    receipts.add([entry, finished("other")])
    name, item, _, _ = entry
    later = (name, item, Sent("elsewhere", "k", "e"), UPLOADED + timedelta(days=1))
    receipts.add([later, finished("third")])
    assert receipts.get(name.id) == expected(entry)
    assert receipts.day_totals(name.day) == Count(3, 15)


def test_a_receipt_can_be_written_from_a_receipt(receipts: Receipts, tmp_path: Path) -> None:
    entry = finished("image", key="k", sequence=3)
    receipts.add([(entry[0], expected(entry), entry[2], entry[3])])
    assert receipts.get(entry[0].id) == expected(entry)


def test_it_is_on_disk_when_add_returns(receipts: Receipts, tmp_path: Path) -> None:
    entry = finished("image")
    receipts.add([entry])
    with closing(sqlite.raw(receipts.path("2026-11-23"), read_only=True)) as db:
        assert db.execute("SELECT count(*) FROM images").fetchone() == (1,)
    connection = receipts._connection("2026-11-23", create=False)
    assert connection is not None
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_batch_is_kept_whole_or_not_at_all(receipts: Receipts) -> None:
    bad = (finished("b")[0], replace(finished("b")[1], size=2**70), finished("b")[2], UPLOADED)  # type: ignore[type-var]
    with pytest.raises(OverflowError):
        receipts.add([finished("a"), bad])
    assert receipts.day_totals("2026-11-23") == Count()


# -- finding


def test_images_are_found_by_id_by_bytes_by_device_and_by_key(receipts: Receipts) -> None:
    days = ["2026-11-22", "2026-11-23", "2026-11-24"]
    one = finished("same", device="a", key="k1")
    other = finished("same", device="b", sequence=7, at=NOON + timedelta(seconds=1))
    receipts.add([one, other])
    sha256 = one[1].sha256
    assert receipts.by_sha256(sha256, days) == expected(other)  # the newest
    assert receipts.by_digest("a", sha256, None, days) == expected(one)
    assert receipts.by_digest("b", sha256, 7, days) == expected(other)
    assert receipts.by_digest("b", sha256, None, days) is None
    assert receipts.by_digest("b", sha256, 8, days) is None
    assert receipts.by_key("a", "k1", days) == expected(one)
    assert receipts.by_key("b", "k1", days) is None
    assert receipts.by_sha256(sha256, ["2026-11-22"]) is None
    assert receipts.by_sha256("0" * 64, days) is None
    for nonsense in ("", "x", one[0].file, "../" + one[0].id, "9" * 64):
        assert receipts.get(nonsense) is None


def test_two_digests_that_begin_alike_stay_apart(receipts: Receipts) -> None:
    entry = finished("image")
    receipts.add([entry])
    alike = entry[1].sha256[:16] + "0" * 48
    assert receipts.by_sha256(alike, ["2026-11-23"]) is None
    assert receipts.by_digest("cam", alike, None, ["2026-11-23"]) is None


def test_the_latest_are_the_newest_arrivals_over_all_days(receipts: Receipts) -> None:
    entries = [finished(str(n), NOON + timedelta(hours=7 * n)) for n in range(12)]
    receipts.add(entries[::-1])  # uploaded the other way round
    newest = [entry[0].id for entry in entries[::-1]]
    for limit in (0, 1, 3, 4, 5, 12, 20):
        found = receipts.find(Query(limit=limit))
        assert [one.id for one in found] == newest[: limit + 1]


def test_a_minute_folders_images_are_those_of_that_minute(receipts: Receipts) -> None:
    start = datetime(2026, 11, 23, 12, 4, tzinfo=UTC)
    steps = (-1, 0, 1, 59_999_999, 60_000_000)  # microseconds
    entries = [finished(str(n) * 3, start + timedelta(microseconds=n)) for n in steps]
    receipts.add(entries)
    assert receipts.in_folder("2026-11-23/1204") == {
        entry[0].id: entry[1].size for entry in entries[1:4]
    }
    assert receipts.in_folder("2026-11-25/1204") == {}


def test_more_than_a_page_comes_in_order_and_once(receipts: Receipts) -> None:
    entries = [finished(str(n), NOON + timedelta(microseconds=n)) for n in range(2100)]
    receipts.add(entries[::-1])
    ids = [entry[0].id for entry in entries]
    assert [found.id for found in receipts.local("2026-11-23")] == ids
    receipts.mark_pruned("2026-11-23", ids[::2])
    assert [found.id for found in receipts.local("2026-11-23")] == ids[1::2]


def test_pages_can_be_read_while_their_images_are_pruned(receipts: Receipts) -> None:
    receipts.add(finished(str(n), NOON + timedelta(microseconds=n)) for n in range(1500))
    batch: list[str] = []
    for number, seen in enumerate(receipts.local("2026-11-23"), 1):
        batch.append(seen.id)
        if number % 250 == 0:
            receipts.mark_pruned("2026-11-23", batch)
            batch.clear()
    assert receipts.totals()[0] == Count()
    assert receipts.totals()[1].images == 1500


# -- days


def test_there_is_one_file_for_each_day_of_arrival(receipts: Receipts, tmp_path: Path) -> None:
    receipts.add([finished("a"), finished("b", NOON + timedelta(days=1))])
    for foreign in ("2026-13-01.sqlite3", "notes.sqlite3", "2026-11-30.txt"):
        (tmp_path / foreign).touch()
    assert receipts.days() == ["2026-11-23", "2026-11-24"]
    assert receipts.path("2026-11-23") == tmp_path / "2026-11-23.sqlite3"


def test_a_day_is_dropped_whole(receipts: Receipts) -> None:
    days = [NOON + timedelta(days=n) for n in range(3)]
    entries = [finished(str(at), at) for at in days]
    receipts.add(entries)
    receipts.forget("2026-11-24")
    for path in receipts.path("2026-11-24").parent.glob("2026-11-24*"):
        path.unlink()
    assert receipts.get(entries[1][0].id) is None
    assert receipts.days() == ["2026-11-23", "2026-11-25"]
    assert receipts.totals()[0].images == 2
    receipts.add([entries[1]])  # and may come again
    assert receipts.totals()[0].images == 3


def test_each_file_of_a_day_has_a_name_of_its_own(receipts: Receipts) -> None:
    first, second = finished("a"), finished("b", NOON - timedelta(hours=1))
    receipts.add([first])
    receipts.add([second])
    assert receipts.generation("2026-11-23") == first[0].id
    assert receipts.stands(first[0].id) and not receipts.stands(second[0].id)
    receipts.path("2026-11-23").unlink()
    assert not receipts.stands(first[0].id)
    receipts.add([second])
    assert receipts.stands(second[0].id) and not receipts.stands(first[0].id)
    assert not receipts.stands("2026-11-23") and not receipts.stands("2026-11-24")


def test_looking_into_a_day_without_a_file_makes_none(receipts: Receipts, tmp_path: Path) -> None:
    receipts.mark_pruned("2026-11-23", ["x"])
    receipts.mark_local("2026-11-23", ["x"])
    assert receipts.damaged("2026-11-23") == ""
    assert receipts.counted("2026-11-23") == (Count(), Count())
    assert list(receipts.local("2026-11-23")) == []
    assert list(tmp_path.iterdir()) == []


def test_many_days_are_read_with_few_files_open(receipts: Receipts) -> None:
    entries = [finished(str(n), NOON + timedelta(days=n)) for n in range(12)]
    receipts.add(entries)
    for _ in range(2):
        assert [receipts.get(entry[0].id) for entry in entries] == [expected(e) for e in entries]
    assert len(receipts._open) <= 4


def test_damage_is_told_and_a_newer_file_is_refused(receipts: Receipts) -> None:
    receipts.add([finished("a")])
    receipts.forget("2026-11-23")
    assert receipts.damaged("2026-11-23") == ""
    receipts.forget("2026-11-23")
    newer = sqlite.raw(receipts.path("2026-11-23"))
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(SpoolUnsuitable, match="newer Headgate"):
        receipts.totals()
    receipts.path("2026-11-23").write_bytes(b"SQLite format 3\0" + b"?" * 9000)
    assert receipts.damaged("2026-11-23")


# -- counts


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "prune", "back"]),
            st.sets(st.integers(0, 15), min_size=1, max_size=6),
        ),
        max_size=12,
    )
)
def test_the_totals_are_the_rows_whatever_was_done(
    operations: list[tuple[str, set[int]]],
) -> None:
    entries = [finished("x" * n, NOON + timedelta(hours=6 * n)) for n in range(16)]
    model: dict[int, bool] = {}  # number -> local
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as root:
        receipts = Receipts(Path(root))
        for word, numbers in operations:
            for number in sorted(numbers):
                name = entries[number][0]
                if word == "prune":
                    receipts.mark_pruned(name.day, [name.id])
                elif word == "back":
                    receipts.mark_local(name.day, [name.id])
                if word != "add" and number in model:
                    model[number] = word == "back"
            if word == "add":
                receipts.add([entries[number] for number in numbers])
                model = dict.fromkeys(numbers, True) | model
        for state, found in ((True, receipts.totals()[0]), (False, receipts.totals()[1])):
            numbers = {number for number, local in model.items() if local is state}
            assert found == Count(len(numbers), sum(numbers))
        for day in receipts.days():
            here = {number for number in model if entries[number][0].day == day}
            gone = {number for number in here if not model[number]}
            assert receipts.counted(day) == (
                Count(len(here - gone), sum(here - gone)),
                Count(len(gone), sum(gone)),
            )
            assert receipts.day_totals(day) == Count(len(here), sum(here))
            assert {r.id for r in receipts.local(day)} == {
                entries[number][0].id for number in here - gone
            }
        receipts.close()


def test_totals_open_no_file_of_a_day_that_stays_as_it_is(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "_QUIET_NS", -(10**12))
    monkeypatch.setattr(receipts_module, "read_quiet", raises(quiet.NotQuiet()))
    receipts.add([finished(str(n), NOON + timedelta(days=n)) for n in range(12)])
    with closing(Receipts(tmp_path)) as reader:
        opened: list[str] = []
        connection = reader._connection

        def counted(day: str, *, create: bool) -> sqlite.Connection | None:
            opened.append(day)
            return connection(day, create=create)

        monkeypatch.setattr(reader, "_connection", counted)
        first = reader.totals()
        assert first[0].images == 12 and len(opened) == 12
        reader.totals()  # closing a file that nobody else has open empties its log
        opened.clear()
        assert reader.totals() == first
        assert opened == []
        receipts.add([finished("more", NOON + timedelta(days=3))])  # as another program would
        entry = finished("5", NOON + timedelta(days=5))
        receipts.mark_pruned(entry[0].day, [entry[0].id])
        local, pruned = reader.totals()
        assert (local.images, pruned.images) == (12, 1)
        # Those that changed, and two that the writer closed to open these.
        assert {"2026-11-26", "2026-11-28"} <= set(opened) and len(opened) <= 4
        receipts.forget("2026-11-24")
        for path in tmp_path.glob("2026-11-24*"):
            path.unlink()
        assert reader.totals()[0].images == 11


def test_a_file_that_was_just_written_is_read_again(receipts: Receipts, tmp_path: Path) -> None:
    receipts.add([finished("a")])
    assert receipts.totals()[0].images == 1
    assert receipts._known == {}  # the next write may have the same time stamp


def test_pruned_images_are_drawn_from_all_days_and_no_others(receipts: Receipts) -> None:
    assert receipts.some_pruned(10, random.Random(3).random) == []
    pruned, days = set(), (0, 1, 5)
    for day in days:
        at = NOON + timedelta(days=day)
        made = [finished(f"{day}-{number}", at) for number in range(40)]
        receipts.add(made)
        ids = [name.id for name, *_ in made[:10]]
        receipts.mark_pruned(names.day_of_id(ids[0]) or "", ids)
        pruned |= set(ids)
    drawn = [one.id for one in receipts.some_pruned(600, random.Random(3).random)]
    assert len(drawn) == len(set(drawn)) and set(drawn) <= pruned
    assert {names.day_of_id(one) for one in drawn} == {names.day_of_id(one) for one in pruned}
    assert len(drawn) == 30  # each of them has a chance
    assert len(receipts.some_pruned(4, random.Random(3).random)) <= 4


# -- days that no program writes are read without their locks and logs


def long_ago(path: Path) -> None:
    """As if the file had been written last a day ago."""
    at = time.time_ns() - 86400 * 10**9
    os.utime(path, ns=(at, at))


def images_in(db: sqlite.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM images").fetchone()[0])


def test_a_search_reads_days_that_no_program_writes_without_opening_them(
    receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [finished(str(n), NOON + timedelta(days=n)) for n in range(8)]
    receipts.add(entries)
    receipts.mark_pruned(entries[2][0].day, [entries[2][0].id])
    receipts.close()
    for path in tmp_path.iterdir():
        long_ago(path)
    there = sorted(path.name for path in tmp_path.iterdir())
    with closing(Receipts(tmp_path)) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(reader, "_connection", raises(AssertionError("it was opened")))
            assert len(reader.find(Query(limit=20))) == 8
            item = entries[0][1]
            assert reader.by_sha256(item.sha256, reader.days()) == expected(entries[0])
            assert reader.totals()[1].images == 1
            assert entries[2][0].day not in reader.days_with_copies()
            assert reader.written_lately() == []
        assert sorted(path.name for path in tmp_path.iterdir()) == there  # no logs
        receipts.add([finished("new")])
        assert len(reader.find(Query(limit=20))) == 9
        assert reader.written_lately() == [entries[0][0].day]


def test_a_day_that_may_be_written_is_opened_as_usual(receipts: Receipts, tmp_path: Path) -> None:
    entry = finished("one")
    path = receipts.path(entry[0].day)
    with pytest.raises(quiet.NotQuiet):  # there is none
        quiet.read_quiet(str(path), images_in)
    receipts.add([entry])
    receipts.close()
    with pytest.raises(quiet.NotQuiet):  # a moment ago
        quiet.read_quiet(str(path), images_in)
    long_ago(path)
    assert quiet.read_quiet(str(path), images_in) == 1

    def meanwhile(db: sqlite.Connection) -> int:
        receipts.add([finished("two")])
        return images_in(db)

    with pytest.raises(quiet.NotQuiet):
        quiet.read_quiet(str(path), meanwhile)
    assert receipts.day_totals(entry[0].day).images == 2
    for one in (path, path.with_name(f"{path.name}-wal")):
        long_ago(one)
    with pytest.raises(quiet.NotQuiet):  # there may be more in its log
        quiet.read_quiet(str(path), images_in)
    receipts.close()
    with closing(sqlite.raw(path)) as db:
        db.execute("PRAGMA user_version = 1")
    long_ago(path)
    with pytest.raises(quiet.NotQuiet):  # it has columns yet to come
        quiet.read_quiet(str(path), images_in)
    path.write_bytes(b"no database" * 1000)
    long_ago(path)
    with pytest.raises(quiet.NotQuiet):  # the usual way says what is wrong
        quiet.read_quiet(str(path), images_in)
