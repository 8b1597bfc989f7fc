"""The catalog against a dict: states, totals, picking, the folders it names, its file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool import sqlite
from headgate.spool.catalog.catalog import Catalog
from headgate.spool.catalog.schema import MIGRATIONS
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.image import names
from headgate.spool.image.image import Count, Item, Metadata, State, Totals
from headgate.spool.image.names import Name
from headgate.spool.query import Query
from tests.support.paths import ROOT
from tests.support.wait import join

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)
DEVICES = ("a", "b", "_10.0.0.9")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder) / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[Catalog]:
    opened = Catalog(path)
    yield opened
    opened.close()


def image(number: int, device: str = "a", **more: object) -> tuple[Name, Metadata]:
    sha256 = f"{number:064x}"
    meta = Metadata(sha256, 10 + number, "image/jpeg")
    name = names.make(AT + timedelta(seconds=number), device, sha256[::-1], "jpg")
    return name, replace(meta, **more)  # type: ignore[arg-type]


# -- against a model


@dataclass
class Row:
    """What the model knows of one image; the words of the states are the catalog's own business."""

    number: int
    device: str
    state: str = "waiting"  # sending, retry, aside
    due: int = 0
    attempts: int = 0
    unknown: bool = False


class Model:
    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.rows: dict[str, Row] = {}  # in order of arrival
        self.received = 0
        self.received_bytes = 0
        self.now = 0

    def item(self, ident: str) -> Item:
        found = self.catalog.get(ident)
        assert found is not None
        return found

    def chosen(self, which: int) -> str | None:
        known = list(self.rows)
        return known[which % len(known)] if known else None

    # -- what may happen

    def add(self, number: int, device: str) -> None:
        name, meta = image(number, device)
        if name.id not in self.rows:
            self.catalog.add(name, meta)
            self.rows[name.id] = Row(number, device)
            self.received += 1
            self.received_bytes += meta.size

    def restore(self, number: int, aside: bool, received: bool) -> None:
        name, meta = image(number, "b")
        state = State.SET_ASIDE if aside else State.WAITING
        new = self.catalog.restore(name, meta, state, unknown=True, received=received)
        assert new == (name.id not in self.rows)
        if new:
            self.rows[name.id] = Row(number, "b", "aside" if aside else "waiting", unknown=True)
            self.received += 1
            self.received_bytes += meta.size
            if not received:  # it was counted when its row was lost; the model was not
                self.catalog.minutes.enter(name.folder)
                self.catalog.minutes.leave(name.folder)
                known = self.catalog.minutes.named()[name.folder]
                self.catalog.minutes.recount(name.folder, known + Count(1, meta.size))

    def claim(self, which: int) -> None:
        if (ident := self.chosen(which)) is not None:
            row = self.rows[ident]
            self.catalog.claim([self.item(ident)])
            if row.state in ("waiting", "retry"):
                row.state, row.unknown = "sending", True

    def unclaim(self, which: int) -> None:
        if (ident := self.chosen(which)) is not None:
            row = self.rows[ident]
            self.catalog.unclaim([replace(self.item(ident), unknown=False)])
            if row.state == "sending":
                row.state, row.unknown = "waiting", False

    def defer(self, which: int, after: int) -> None:
        if (ident := self.chosen(which)) is not None:
            row = self.rows[ident]
            at = AT + timedelta(seconds=self.now + after)
            self.catalog.defer(self.item(ident), at, "it failed", unknown=False)
            row.state, row.due, row.unknown = "retry", self.now + after, False
            row.attempts += 1
            found = self.item(ident)
            assert (found.next_attempt_at, found.last_error) == (at, "it failed")

    def put_aside(self, which: int) -> None:
        if (ident := self.chosen(which)) is not None:
            self.catalog.put_aside(ident, "a bad file")
            self.rows[ident].state = "aside"
            assert self.item(ident).last_error == "a bad file"

    def put_back(self, which: int) -> None:
        if (ident := self.chosen(which)) is not None:
            self.catalog.put_back(ident)
            row = self.rows[ident]
            row.state, row.attempts, row.due, row.unknown = "waiting", 0, 0, True

    def reclaim(self) -> None:
        sending = [row for row in self.rows.values() if row.state == "sending"]
        assert self.catalog.reclaim() == len(sending)
        for row in sending:
            row.state, row.unknown = "waiting", True

    def due(self, passed: int) -> None:
        self.now += passed
        come = [r for r in self.rows.values() if r.state == "retry" and r.due <= self.now]
        assert self.catalog.due(AT + timedelta(seconds=self.now)) == len(come)
        for row in come:
            row.state = "waiting"

    def drop(self, which: int) -> None:
        if (ident := self.chosen(which)) is not None:
            self.catalog.drop([ident])
            del self.rows[ident]

    def settle(self, elsewhere: int) -> None:
        self.catalog.settle(Count(elsewhere, elsewhere), lambda _: {})
        self.received = len(self.rows) + elsewhere
        self.received_bytes = sum(10 + row.number for row in self.rows.values()) + elsewhere

    # -- what must hold

    def count(self, *states: str) -> Count:
        rows = [row for row in self.rows.values() if row.state in states]
        return Count(len(rows), sum(10 + row.number for row in rows))

    def check(self) -> None:
        expected = Totals(
            Count(self.received, self.received_bytes),
            self.count("waiting", "retry"),
            self.count("sending"),
            self.count("aside"),
        )
        assert self.catalog.totals() == expected == self.catalog.counted()
        items = self.catalog.after(0, 1000)
        assert [item.id for item in items] == list(self.rows)
        words = {"retry": "waiting", "aside": "set_aside"}
        for item, row in zip(items, self.rows.values(), strict=True):
            assert item.state == words.get(row.state, row.state)
            assert (item.size, item.attempts) == (10 + row.number, row.attempts)
            assert item.unknown == row.unknown
        ready = [item for item in items if self.rows[item.id].state == "waiting"]
        devices = sorted({item.name.device for item in ready})
        assert self.catalog.backlog.waiting_devices() == devices
        for device in devices:
            own = [item for item in ready if item.name.device == device]
            assert self.catalog.backlog.oldest_of(device, 0, 3) == own[:3]
            assert self.catalog.backlog.oldest_of(device, own[0].arrival, 99) == own[1:]
            assert self.catalog.backlog.newest_of(device, None, 3) == own[::-1][:3]
            assert self.catalog.backlog.newest_of(device, own[-1].arrival, 99) == own[-2::-1]
        waiting = [item for item in items if item.state is State.WAITING]
        assert self.catalog.backlog.oldest_waiting() == (waiting[0] if waiting else None)
        due = [row.due for row in self.rows.values() if row.state == "retry"]
        first = AT + timedelta(seconds=min(due)) if due else None
        assert self.catalog.next_due() == first
        for state in (State.WAITING, State.SENDING, State.SET_ASIDE):
            found = [item for item in items if item.state is state]
            assert self.catalog.in_state(state, 4) == found[::-1][:4]
        newest = sorted(items, key=lambda item: item.id, reverse=True)
        assert self.catalog.find(Query(limit=5)) == newest[:6]


WHICH = st.integers(0, 20)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 20), st.sampled_from(DEVICES)),
    st.tuples(st.just("add"), st.integers(0, 20), st.sampled_from(DEVICES)),
    st.tuples(st.just("restore"), st.integers(0, 20), st.booleans(), st.booleans()),
    st.tuples(st.sampled_from(["claim", "unclaim", "put_aside", "put_back"]), WHICH),
    st.tuples(st.just("claim"), WHICH),
    st.tuples(st.just("defer"), WHICH, st.integers(-5, 50)),
    st.tuples(st.just("reclaim")),
    st.tuples(st.just("due"), st.integers(0, 40)),
    st.tuples(st.just("drop"), WHICH),
    st.tuples(st.just("settle"), st.integers(0, 5)),
)


@settings(deadline=None, max_examples=120)
@given(st.lists(OPERATIONS, max_size=30))
def test_rows_states_and_totals_are_what_was_done(operations: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        catalog = Catalog(Path(folder) / "catalog.sqlite3")
        model = Model(catalog)
        for word, *values in operations:
            getattr(model, str(word))(*values)
        model.check()
        assert catalog.damaged() == ""
        catalog.close()
        again = Catalog(Path(folder) / "catalog.sqlite3")
        model.catalog = again
        model.check()
        again.close()


def test_urgent_images_can_be_picked_by_themselves(catalog: Catalog) -> None:
    for number in range(6):
        catalog.add(*image(number, "ab"[number % 2], urgent=number in (1, 2, 3)))
    assert catalog.backlog.waiting_devices() == ["a", "b"]
    assert catalog.backlog.waiting_devices(urgent=True) == ["a", "b"]
    first, last = catalog.backlog.oldest_of("b", 0, 9, urgent=True)
    assert (first.urgent, last.urgent, first.arrival < last.arrival) == (True, True, True)
    assert catalog.backlog.newest_of("b", None, 9, urgent=True) == [last, first]
    assert len(catalog.backlog.oldest_of("b", 0, 9)) == 3
    catalog.claim(catalog.backlog.oldest_of("a", 0, 9, urgent=True))
    assert catalog.backlog.waiting_devices(urgent=True) == ["b"]


# -- identity


def test_the_first_with_a_digest_a_sequence_or_a_key_is_found(catalog: Catalog) -> None:
    same = "ab" * 32
    ids = []
    for number, more in enumerate(
        [{}, {}, {"sequence": 0}, {"sequence": 7}, {"key": "k"}, {"key": "k"}]
    ):
        name, meta = image(number, sha256=same, **more)
        catalog.add(name, meta)
        ids.append(name.id)

    def ident(item: Item | None) -> str:
        assert item is not None
        return item.id

    assert ident(catalog.by_digest("a", same, None)) == ids[0]
    assert ident(catalog.by_digest("a", same, 0)) == ids[2]
    assert ident(catalog.by_digest("a", same, 7)) == ids[3]
    assert ident(catalog.by_key("a", "k")) == ids[4]
    assert ident(catalog.by_sha256(same)) == ids[0]
    assert catalog.by_digest("b", same, None) is None
    assert catalog.by_digest("a", same, 8) is None
    assert catalog.by_key("b", "k") is None
    assert catalog.get("no such id") is None


def test_an_image_that_has_a_row_is_not_counted_again(catalog: Catalog) -> None:
    name, meta = image(1)
    catalog.add(name, meta)
    catalog.claim(catalog.after(0, 1))
    catalog.add(name, meta)
    assert not catalog.restore(name, meta, State.SET_ASIDE, received=True)
    assert catalog.totals() == Totals(Count(1, 11), Count(), Count(1, 11), Count())


def test_arrivals_are_never_numbered_twice(catalog: Catalog) -> None:
    catalog.add(*image(1))
    (first,) = catalog.after(0, 1)
    catalog.drop([first.id])
    catalog.add(*image(2))
    assert catalog.after(0, 1)[0].arrival > first.arrival


def test_what_was_served_is_remembered(catalog: Catalog, path: Path) -> None:
    catalog.backlog.credit({"a": 5, "b": 7})
    catalog.backlog.credit({"a": 2**40})
    other = Catalog(path)
    assert other.backlog.served() == {"a": 2**40, "b": 7}
    other.close()


# -- the folders it names


def folder(minute: int) -> str:
    return f"2026-11-23/{minute:04}"


def test_the_folder_being_filled_and_the_one_before_are_named(catalog: Catalog) -> None:
    for minute in (1, 2, 3, 4):
        catalog.minutes.enter(folder(minute))
        catalog.minutes.leave(folder(minute))
    assert set(catalog.minutes.named()) == {folder(3), folder(4)}


def test_a_folder_stays_named_while_an_accept_in_it_is_under_way(catalog: Catalog) -> None:
    catalog.minutes.enter(folder(1))
    catalog.minutes.enter(folder(1))
    for minute in (2, 3, 4):
        catalog.minutes.enter(folder(minute))
        catalog.minutes.leave(folder(minute))
    assert folder(1) in catalog.minutes.named()
    catalog.minutes.leave(folder(1))
    catalog.minutes.enter(folder(5))
    assert set(catalog.minutes.named()) == {folder(1), folder(4), folder(5)}
    catalog.minutes.leave(folder(1))
    catalog.minutes.enter(folder(6))
    assert set(catalog.minutes.named()) == {folder(5), folder(6)}


def test_a_folder_that_is_no_longer_named_is_named_again_before_it_is_used(
    catalog: Catalog,
) -> None:
    for minute in (1, 2, 3, 1):
        catalog.minutes.enter(folder(minute))
        catalog.minutes.leave(folder(minute))
    assert set(catalog.minutes.named()) == {folder(3), folder(1)}


def test_names_survive_the_loss_of_everything_after_them(path: Path, tmp_path: Path) -> None:
    """A FULL commit flushes the log, and with it all that was committed before."""
    catalog = Catalog(path)
    seen: list[str] = []
    catalog._on.writer.set_exec_trace(lambda _cursor, said, _values: not seen.append(said))
    catalog.minutes.enter(folder(1))
    catalog.minutes.enter(folder(1))
    catalog._on.writer.set_exec_trace(None)
    full = seen.index("PRAGMA synchronous = FULL")
    assert full < seen.index("COMMIT") < seen.index("PRAGMA synchronous = NORMAL")
    assert seen.count("COMMIT") == 1  # once a minute, not once an image
    catalog.close()


def test_a_folder_that_cannot_be_named_is_not_taken_for_named(catalog: Catalog, path: Path) -> None:
    blocker = sqlite.raw(path)
    blocker.execute("BEGIN IMMEDIATE")
    catalog._on.writer.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite.Error):
        catalog.minutes.enter(folder(1))
    blocker.execute("ROLLBACK")
    blocker.close()
    assert catalog.minutes.named() == {}
    assert catalog._on.writer.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL again
    catalog.minutes.enter(folder(1))
    catalog.minutes.leave(folder(1))
    assert set(catalog.minutes.named()) == {folder(1)}


def test_a_named_folder_counts_its_arrivals_and_a_recount_mends_the_sum(catalog: Catalog) -> None:
    name, meta = image(0)
    catalog.minutes.enter(name.folder)
    catalog.add(name, meta)
    catalog.minutes.leave(name.folder)
    assert catalog.minutes.named() == {name.folder: Count(1, 10)}
    for _ in range(2):
        catalog.minutes.recount(name.folder, Count(3, 50))
        assert catalog.totals().received == Count(3, 50)
    catalog.minutes.recount("2026-11-23/2359", Count(9, 9))  # not named: not its business
    assert catalog.totals().received == Count(3, 50)


def test_a_folder_entered_again_knows_what_arrived_in_it_before(catalog: Catalog) -> None:
    (alive, meta), (gone, _) = image(0), image(1)
    catalog.add(alive, meta)
    catalog.minutes.enter(alive.folder, lambda: {gone.id: 500, alive.id: meta.size})
    assert catalog.minutes.named() == {alive.folder: Count(2, 500 + meta.size)}


# -- the file


def rows_in(database: Path) -> int:
    connection = sqlite.raw(database)
    try:
        return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])
    finally:
        connection.close()


def test_a_checkpoint_moves_the_log_into_the_database_and_nothing_else_does(
    catalog: Catalog, path: Path, tmp_path: Path
) -> None:
    for number in range(1500):  # more pages than SQLite would leave in the log by itself
        catalog.add(*image(number))
    without_log = tmp_path / "copy.sqlite3"
    shutil.copy(path, without_log)
    assert rows_in_or_none(without_log) == 0
    catalog.checkpoint()
    shutil.copy(path, without_log)
    assert rows_in(without_log) == 1500


def test_the_last_that_closes_leaves_no_log(path: Path) -> None:
    catalog = Catalog(path)
    catalog.add(*image(1))
    catalog.checkpoint()
    catalog.add(*image(2))
    catalog.close()
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.stem}.queue"}
    assert rows_in(path) == 2


def rows_in_or_none(database: Path) -> int:
    """None of them, also where the tables themselves are still in the log."""
    try:
        return rows_in(database)
    except sqlite.Error:
        return 0


def test_a_checkpoint_does_not_wait_for_a_reader_or_a_writer(catalog: Catalog, path: Path) -> None:
    catalog.add(*image(1))
    reader = sqlite.raw(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM images").fetchall()
    writer = sqlite.raw(path)
    writer.execute("BEGIN IMMEDIATE")
    catalog._on.writer.execute("PRAGMA busy_timeout = 3600000").fetchall()
    done = threading.Thread(target=catalog.checkpoint, daemon=True)
    done.start()
    join(done)  # a wait would be an hour's
    for connection in (reader, writer):
        connection.execute("ROLLBACK")
        connection.close()


def test_a_catalog_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    Catalog(path).close()
    newer = sqlite.raw(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()
    with pytest.raises(SpoolUnsuitable, match=r"schema 99.*upgrade"):
        Catalog(path)
    assert path.read_bytes() == before


def test_damage_is_told(catalog: Catalog, path: Path) -> None:
    for number in range(300):
        catalog.add(*image(number))
    catalog.checkpoint()
    (page,) = catalog._on.reader.execute(
        "SELECT max(pageno) FROM dbstat WHERE name = 'images' AND pagetype = 'leaf'"
    ).fetchone()
    catalog.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    damaged = Catalog(path)
    assert damaged.damaged() != ""
    damaged.close()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(sqlite.Damaged):
        Catalog(path)


def test_opening_waits_for_whoever_writes_a_fresh_file_first(path: Path) -> None:
    """SQLite itself does not wait when it is to change the journal's mode."""
    first = sqlite.raw(path)
    first.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, first.execute, ["ROLLBACK"])
    release.start()
    Catalog(path).close()
    join(release)
    first.close()


def test_tables_that_another_program_makes_meanwhile_are_not_made_again(path: Path) -> None:
    first = sqlite.raw(path)
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("BEGIN IMMEDIATE")
    first.execute(MIGRATIONS[0])
    first.execute("PRAGMA user_version = 1")
    release = threading.Timer(0.3, first.execute, ["COMMIT"])
    release.start()
    Catalog(path).close()  # it saw none of that, and waited to make them itself
    join(release)
    assert first.execute("SELECT count(*) FROM totals").fetchone() == (6,)
    first.close()


def test_a_retry_is_due_at_its_time_and_not_before(catalog: Catalog) -> None:
    catalog.add(*image(1))
    (item,) = catalog.after(0, 1)
    at = AT + timedelta(seconds=10)
    catalog.defer(item, at, "it failed", unknown=True)
    assert catalog.due(at - timedelta(seconds=1)) == 0
    assert catalog.backlog.waiting_devices() == []
    assert catalog.due(at) == 1
    assert catalog.backlog.waiting_devices() == ["a"]


FIRST = """
import os, sys
from pathlib import Path
from headgate.spool.catalog.catalog import Catalog
begin, started = os.pipe()
children = []
for number in range(8):
    child = os.fork()
    if not child:
        os.close(started)
        os.read(begin, 1)
        try:
            Catalog(Path(sys.argv[1])).close()
        except BaseException as error:
            print(number, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(started)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_programs_that_open_a_fresh_catalog_at_once_make_its_tables_once(path: Path) -> None:
    for number in range(6):
        fresh = path.with_name(f"{number}.sqlite3")
        ran = subprocess.run(
            [sys.executable, "-c", FIRST, fresh], cwd=ROOT, capture_output=True, text=True
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
        connection = sqlite.raw(fresh)
        assert connection.execute("SELECT count(*) FROM totals").fetchone() == (6,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        connection.close()
