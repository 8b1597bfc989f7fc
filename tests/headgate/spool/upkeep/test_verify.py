"""verify says every disagreement, and --repair mends it from the files alone."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool import recovery, sqlite
from headgate.spool.catalog.device_stats import ClockReading
from headgate.spool.disk import xattrs
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.image.image import Count, Metadata, Receipt, Sent, State
from headgate.spool.image.names import Name
from headgate.spool.query import Query
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover, Presence
from headgate.spool.upkeep.verify import Disagreement, DisagreementKind
from tests.support.damage import lose
from tests.support.spooling import Clock, Crash, images_below, open_spool, put


class Site:
    """One image in each state."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self.waiting, self.done, self.aside, self.pruned = (
            put(spool, f"image {number}".encode(), device=f"cam-{number}").receipt
            for number in range(4)
        )
        with spool.hold_drain_lock("a test", 0) as lock:
            mover = Mover(spool, lock)
            items = {item.id: item for item in spool.catalog.after(0, 10)}
            gone = items[self.pruned.id]
            mover.finish([(gone, Sent("b", "k/gone", "e"))], clock())
            mover.prune(clock(), need=10**6)
            mover.finish([(items[self.done.id], Sent("b", "k/done", "e"))], clock())
            mover.set_aside(items[self.aside.id], "torn", clock())


@pytest.fixture
def site(spool: Spool, clock: Clock) -> Site:
    return Site(spool, clock)


def found_in(spool: Spool, *, deep: bool = True) -> list[Disagreement]:
    return verify.disagreements(spool, deep=deep, sleep=lambda _: None)


def kinds(spool: Spool) -> set[DisagreementKind]:
    return {trouble.kind for trouble in found_in(spool)}


def mend(spool: Spool) -> list[Disagreement]:
    with spool.hold_drain_lock("a test", 0) as lock:
        return verify.repair(spool, Mover(spool, lock), found_in(spool))


def test_a_healthy_spool_agrees_in_every_state(spool: Spool, site: Site) -> None:
    assert found_in(spool) == []
    facts = snapshot(spool)
    assert facts.received.images == 4
    assert (facts.waiting.images, facts.set_aside.images) == (1, 1)
    assert (facts.uploaded_local.images, facts.uploaded_pruned.images) == (1, 1)
    assert facts.unaccounted == 0


def path_of(spool: Spool, receipt: Receipt, top: str) -> Path:
    name = receipt.name
    known = {
        "new": spool.files.in_new(name),
        "done": spool.files.in_done(name),
        "aside": spool.files.in_aside(name),
    }
    return known[top]


def move_file(spool: Spool, receipt: Receipt, source: str, target: str) -> None:
    to = path_of(spool, receipt, target)
    to.parent.mkdir(parents=True, exist_ok=True)
    path_of(spool, receipt, source).rename(to)


def _edit(spool: Spool, statement: str) -> None:
    db = sqlite.raw(spool.files.state / "catalog.sqlite3")
    db.execute(statement)
    db.close()


def _copy_to_new(spool: Spool, site: Site) -> None:
    target = path_of(spool, site.done, "new")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path_of(spool, site.done, "done"), target)


def _unproved(spool: Spool, site: Site) -> None:
    move_file(spool, site.waiting, "new", "done")


def _proved(spool: Spool, site: Site) -> None:
    move_file(spool, site.waiting, "new", "done")
    xattrs.set_attribute(
        path_of(spool, site.waiting, "done"),
        xattrs.SENT_ATTRIBUTE,
        b'{"bucket":"b","key":"k/x","etag":"e"}',
    )


BREAKS: dict[DisagreementKind, list[Callable[[Spool, Site], object]]] = {
    DisagreementKind.UNKNOWN: [
        lambda spool, site: _edit(spool, "DELETE FROM images WHERE state = 0")
    ],
    DisagreementKind.MISPLACED: [
        lambda spool, site: move_file(spool, site.waiting, "new", "aside"),
        lambda spool, site: move_file(spool, site.aside, "aside", "new"),
        lambda spool, site: move_file(spool, site.done, "done", "new"),
    ],
    DisagreementKind.TWICE: [_copy_to_new],
    DisagreementKind.UNPROVED: [_unproved],
    DisagreementKind.NO_RECEIPT: [_proved],
    DisagreementKind.PRUNED: [lambda spool, site: path_of(spool, site.done, "done").unlink()],
    DisagreementKind.LOCAL: [
        lambda spool, site: spool.receipts.mark_pruned(site.done.name.day, [site.done.id])
    ],
    DisagreementKind.TOTALS: [
        lambda spool, site: _edit(spool, "UPDATE totals SET images = images - 1 WHERE state = -1"),
        lambda spool, site: _edit(spool, "UPDATE totals SET bytes = 0 WHERE state = 0"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [(kind, each) for kind, breaks in BREAKS.items() for each in breaks],
    ids=[f"{kind.name}-{n}" for kind, breaks in BREAKS.items() for n, _ in enumerate(breaks)],
)
def test_each_disagreement_is_said_and_mended(
    spool: Spool, site: Site, kind: DisagreementKind, break_it: Callable[[Spool, Site], object]
) -> None:
    break_it(spool, site)
    assert kind in kinds(spool)
    assert mend(spool) == []
    assert found_in(spool) == []
    places = images_below(spool.path)
    for receipt in (site.waiting, site.done, site.aside, site.pruned):
        now = spool.receipt(receipt.id)
        assert now is not None
        assert len(places.get(receipt.id, [])) == int(now.local)
    assert snapshot(spool).unaccounted == 0


def test_an_unproved_file_in_done_is_asked_for_before_it_is_sent(spool: Spool, site: Site) -> None:
    _unproved(spool, site)
    mend(spool)
    item = spool.catalog.get(site.waiting.id)
    assert item is not None
    assert (item.state, item.unknown) == (State.WAITING, True)
    assert images_below(spool.path)[item.id] == ["new"]


def test_a_proved_copy_is_kept_and_the_other_goes(spool: Spool, site: Site) -> None:
    _copy_to_new(spool, site)
    mend(spool)
    assert images_below(spool.path)[site.done.id] == ["done"]


def test_two_copies_that_differ_are_left_for_a_person(spool: Spool, site: Site) -> None:
    _copy_to_new(spool, site)
    path_of(spool, site.done, "new").write_bytes(b"somebody's own")
    (left,) = mend(spool)
    assert left.kind is DisagreementKind.TWICE
    assert images_below(spool.path)[site.done.id] == ["new", "done"]


@pytest.mark.parametrize("where", ["new", "aside"])
def test_a_lost_image_keeps_its_line_until_a_person_discards_it(
    spool: Spool, site: Site, where: str
) -> None:
    image = site.waiting if where == "new" else site.aside
    path_of(spool, image, where).unlink()
    for _ in range(3):  # however often it is mended
        (left,) = mend(spool)
        assert (left.kind, left.what) == (DisagreementKind.LOST, image.id)
        facts = snapshot(spool)
        assert (facts.received.images, facts.lost, facts.unaccounted) == (
            4, Count(1, image.size), 0,
        )  # fmt: skip
        receipt = spool.receipt(image.id)
        assert receipt is not None and receipt == spool.receipt(image.sha256)
        assert (receipt.state, receipt.local, receipt.safe_to_erase) == (State.LOST, False, False)
    spool.site.gone.discarded(image.id, spool.now(), "ann", "it was a test")
    assert found_in(spool) == []
    facts = snapshot(spool)
    assert (facts.received.images, facts.discarded.images, facts.unaccounted) == (4, 1, 0)
    receipt = spool.receipt(image.id)
    assert receipt is not None and receipt.state is State.DISCARDED
    assert "by ann" in receipt.reason and "it was a test" in receipt.reason


def test_what_a_repair_cannot_account_for_gets_a_line_and_is_never_forgotten(
    spool: Spool, site: Site
) -> None:
    _edit(spool, "UPDATE totals SET images = images + 2, bytes = bytes + 20 WHERE state = -1")
    (left,) = mend(spool)
    assert left.kind is DisagreementKind.LOST and left.what.startswith("unaccounted-")
    facts = snapshot(spool)
    assert (facts.received.images, facts.lost, facts.unaccounted) == (6, Count(2, 20), 0)
    assert [trouble.what for trouble in found_in(spool)] == [left.what]
    spool.site.gone.discarded(left.what, spool.now(), "ann", "an old copy of the catalog")
    assert found_in(spool) == []


def test_a_lost_image_that_is_put_back_counts_once(spool: Spool, site: Site) -> None:
    path = path_of(spool, site.waiting, "new")
    kept = spool.path / "kept"
    path.rename(kept)
    mend(spool)
    kept.rename(path)
    mend(spool)
    assert found_in(spool) == []
    facts = snapshot(spool)
    assert (facts.received.images, facts.waiting.images, facts.lost.images) == (4, 1, 0)
    assert facts.unaccounted == 0


@pytest.mark.parametrize(
    "then, state",
    [
        ("nothing", State.WAITING),
        ("sent", State.UPLOADED),
        ("sent and pruned", State.UPLOADED),
        ("set aside", State.SET_ASIDE),
        ("discarded", State.DISCARDED),
    ],
)
def test_an_image_counts_once_that_a_repair_finds_before_its_receiver_writes_its_row(
    spool: Spool, then: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows = spool.catalog.add_all

    def be_late(arrived: Iterable[tuple[Name, Metadata, ClockReading | None]]) -> None:
        [(name, meta, reading)] = arrived
        with (
            closing(Spool(spool.settings, spool.now)) as other,
            other.hold_drain_lock("a run", 0) as lock,
        ):
            mover = Mover(other, lock)
            assert verify.repair(other, mover, found_in(other)) == []
            item = other.catalog.get(name.id)
            assert item is not None
            if then.startswith("sent"):
                mover.finish([(item, Sent("b", "k", "e"))], other.now())
            if then == "sent and pruned":
                mover.prune(other.now(), need=10**6)
            if then in ("set aside", "discarded"):
                mover.set_aside(item, "torn", other.now())
            if then == "discarded":
                other.site.gone.ask(item, other.now(), "ann", "a test")
                mover.discard()
        write_rows([(name, meta, reading)])

    monkeypatch.setattr(spool.catalog, "add_all", be_late)
    image = put(spool, b"image").receipt.id
    monkeypatch.undo()
    assert found_in(spool) == []
    receipt = spool.receipt(image)
    assert receipt is not None and receipt.state is state
    facts = snapshot(spool)
    assert (facts.received.images, facts.unaccounted, mend(spool)) == (1, 0, [])


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("what", ["finish", "lose", "discard", "reopen"])
def test_an_image_counts_once_where_a_run_was_killed_between_its_row_and_its_other_line(
    spool: Spool, site: Site, what: str, nth: int
) -> None:
    """The row goes last, so that something counts the image at every instant; a repair that comes
    before the next run must not count it by both."""
    _kill_before(spool, site, what, nth)
    assert [trouble for trouble in mend(spool) if trouble.name is None] == []
    with spool.hold_drain_lock("the next run", 0) as lock:
        mover = Mover(spool, lock)
        mover.reconcile(spool.now())
        for item in spool.catalog.after(0, 10):
            mover.locate(item, spool.now())
    assert [trouble for trouble in mend(spool) if trouble.name is None] == []
    assert snapshot(spool).received.images == 4


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("what", ["finish", "lose", "discard", "reopen"])
def test_a_start_counts_an_image_that_a_killed_run_left_between_two_lines(
    spool: Spool, site: Site, what: str, nth: int
) -> None:
    _kill_before(spool, site, what, nth)
    spool.recover()
    with spool.hold_drain_lock("the next run", 0) as lock:
        mover = Mover(spool, lock)
        mover.reconcile(spool.now())
        for item in spool.catalog.after(0, 10):
            mover.locate(item, spool.now())
    facts = snapshot(spool)
    assert (facts.received.images, facts.unaccounted) == (4, 0)


def test_a_start_adds_no_row_of_an_image_that_was_restored_and_sent_meanwhile(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(spool, b"image").receipt.id
    _edit(spool, "DELETE FROM images")
    read = recovery._metadata

    def be_late(path: Path, name: Name) -> Metadata | None:
        meta = read(path, name)
        mend(spool)
        with spool.hold_drain_lock("a run", 0) as lock:
            item = spool.catalog.get(image)
            assert item is not None
            Mover(spool, lock).finish([(item, Sent("b", "k", "e"))], spool.now())
        return meta

    monkeypatch.setattr(recovery, "_metadata", be_late)
    assert spool.recover().restored == 0
    assert spool.catalog.get(image) is None
    assert found_in(spool) == []


def _kill_before(spool: Spool, site: Site, what: str, nth: int) -> None:
    """A run is killed before the nth of its writes to catalog, receipts and the list of the gone,
    if it makes so many."""
    writes = 0

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            nonlocal writes
            writes += 1
            if writes == nth:
                raise Crash
            return write(*args, **more)

        return call

    items = {item.id: item for item in spool.catalog.after(0, 10)}
    spool.site.gone.ask(items[site.aside.id], spool.now(), "ann", "a test")
    if what != "discard":
        spool.site.gone.returned(site.aside.id)
    with spool.hold_drain_lock("a run", 0) as lock, pytest.MonkeyPatch.context() as patch:
        mover = Mover(spool, lock)
        for where, name in (
            (spool.catalog, "drop"), (spool.catalog, "finished"), (spool.catalog, "reopen"),
            (spool.receipts, "add"), (spool.receipts, "withdraw"),
            (spool.site.gone, "lose"), (spool.site.gone, "discarded"),
        ):  # fmt: skip
            patch.setattr(where, name, counted(getattr(where, name)))
        with contextlib.suppress(Crash):
            if what == "finish":
                mover.finish([(items[site.waiting.id], Sent("b", "k", "e"))], spool.now())
            elif what == "lose":
                path_of(spool, site.waiting, "new").unlink()
                mover.lose(items[site.waiting.id], spool.now())
            elif what == "discard":
                mover.discard()
            else:
                mover.prune(spool.now(), need=10**6, look=lambda _: {site.done.id: Presence.GONE})
    assert writes == min(nth, 2)


def test_a_start_beside_a_run_and_a_repair_counts_each_image_once(spool: Spool, site: Site) -> None:
    """The named folders are counted again with the totals: otherwise the next start would correct
    by them what the repair has corrected already."""
    _edit(spool, "UPDATE minutes SET images = images - 1, bytes = bytes - 7")
    _edit(spool, "UPDATE totals SET images = images - 1, bytes = bytes - 7 WHERE state = -1")
    mend(spool)
    spool.recover()
    assert snapshot(spool).received.images == 4
    assert mend(spool) == []


def test_restored_rows_are_remembered_only_while_their_accept_may_be_under_way(
    spool: Spool, clock: Clock
) -> None:
    def remembered() -> int:
        with closing(sqlite.raw(spool.files.state / "catalog.sqlite3")) as db:
            return int(db.execute("SELECT count(*) FROM restored").fetchone()[0])

    image = put(spool, b"image").receipt.id
    _edit(spool, "DELETE FROM images")
    mend(spool)
    assert remembered() == 1
    for minute in range(3):
        clock.advance(minutes=1)
        put(spool, b"%d" % minute)
    assert remembered() == 0
    _edit(spool, f"DELETE FROM images WHERE id = '{image}'")
    mend(spool)
    assert remembered() == 0
    assert found_in(spool) == []


def test_changed_bytes_are_found_by_their_size_and_by_reading(spool: Spool, site: Site) -> None:
    path = path_of(spool, site.waiting, "new")
    path.write_bytes(b"image X")
    assert [trouble.kind for trouble in found_in(spool, deep=False)] == []
    assert [trouble.kind for trouble in found_in(spool)] == [DisagreementKind.CHANGED]
    path.write_bytes(b"longer than it was")
    assert [trouble.kind for trouble in found_in(spool, deep=False)] == [DisagreementKind.CHANGED]


def test_foreign_files_are_named_and_left_alone(spool: Spool, site: Site) -> None:
    strange = [
        spool.files.new / "notes.txt",
        spool.files.new / site.waiting.name.folder / "thumbs.db",
        spool.files.done / "2026-11-23" / "holiday",
        spool.files.aside / "x",
    ]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not ours")
    found = found_in(spool)
    assert {spool.path / trouble.what for trouble in found} == set(strange)
    assert {trouble.kind for trouble in found} == {DisagreementKind.FOREIGN}
    mend(spool)
    assert all(path.exists() for path in strange)


def test_what_is_only_on_its_way_is_no_disagreement(spool: Spool, site: Site) -> None:
    _edit(spool, "UPDATE images SET state = 3 WHERE state = 0")

    def arrive(_seconds: float) -> None:
        _edit(spool, f"UPDATE images SET state = 0 WHERE id = '{site.waiting.id}'")

    assert verify.disagreements(spool, sleep=arrive) == []


@pytest.mark.parametrize("lost", ["catalog", "catalog and receipts", "state"])
def test_the_catalog_is_rebuilt_from_the_files_alone(
    tmp_path: Path, clock: Clock, lost: str
) -> None:
    spool = open_spool(tmp_path, clock)
    site = Site(spool, clock)
    before = {r.id: r for r in spool.images(None, 10)}
    spool.close()
    state = spool.files.state
    for path in state.glob("catalog*"):
        path.unlink()
    if lost != "catalog":
        shutil.rmtree(state / "receipts")
    if lost == "state":
        shutil.rmtree(state)
    spool = open_spool(tmp_path, clock)
    assert mend(spool) == []
    assert found_in(spool) == []
    after = {r.id: r for r in spool.images(None, 10)}
    for receipt in (site.waiting, site.done, site.aside):
        was, now = before[receipt.id], after[receipt.id]
        assert (now.state, now.sha256, now.size, now.key, now.reason) == (
            was.state, was.sha256, was.size, was.key, was.reason,
        )  # fmt: skip
    assert (site.pruned.id in after) == (lost == "catalog")
    assert snapshot(spool).unaccounted == 0
    spool.close()


def test_a_copy_that_lost_its_attributes_is_sent_all_the_same(tmp_path: Path, clock: Clock) -> None:
    spool = open_spool(tmp_path, clock)
    site = Site(spool, clock)
    spool.close()
    copy = tmp_path / "elsewhere" / "var" / "spool"
    shutil.copytree(spool.path, copy, copy_function=shutil.copyfile)
    for path in (copy / "state").glob("catalog*"):
        path.unlink()
    shutil.rmtree(copy / "state" / "receipts")
    moved = open_spool(tmp_path / "elsewhere", clock)
    assert mend(moved) == []
    for receipt in (site.waiting, site.done):
        item = moved.catalog.get(receipt.id)
        assert item is not None
        assert (item.state, item.unknown, item.sha256) == (State.WAITING, True, receipt.sha256)
    assert snapshot(moved).unaccounted == 0
    moved.close()


def test_a_damaged_catalog_is_set_aside_and_made_anew(tmp_path: Path, clock: Clock) -> None:
    spool = open_spool(tmp_path, clock)
    site = Site(spool, clock)
    spool.close()
    path = spool.files.state / "catalog.sqlite3"
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(os.urandom(20_000))
    with pytest.raises(SpoolUnsuitable, match="verify --repair"):
        open_spool(tmp_path, clock)
    (note,), lost = verify.repair_databases(spool.files.state, alone=True)
    assert "rebuilt" in note and lost == []
    spool = open_spool(tmp_path, clock)
    assert mend(spool) == []
    assert spool.receipt(site.waiting.id) is not None
    assert verify.repair_databases(spool.files.state, alone=True) == ([], [])
    spool.close()


# -- databases that lost a page of a commit


def put_one(root: Path, clock: Clock, made: list[Receipt], *, finish: bool = False) -> None:
    with closing(open_spool(root, clock)) as spool:
        made.append(put(spool, f"image {len(made)}".encode()).receipt)
        if finish:
            with spool.hold_drain_lock("a test", 0) as lock:
                item = spool.catalog.get(made[-1].id)
                assert item is not None
                Mover(spool, lock).finish([(item, Sent("b", "k/x", "e"))], clock())


@pytest.mark.parametrize(
    "trees",
    [("images_by_digest",), ("sqlite_autoindex_images_1",), ("images",)],
    ids=["an-index", "the-ids", "the-rows"],
)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside-the-receiver"])
def test_a_catalog_that_lost_a_page_is_told_and_mended(
    tmp_path: Path, clock: Clock, trees: tuple[str, ...], alone: bool
) -> None:
    made: list[Receipt] = []
    put_one(tmp_path, clock, made)
    path = open_path(tmp_path) / "catalog.sqlite3"
    lose(path, lambda: put_one(tmp_path, clock, made), *trees)
    with closing(open_spool(tmp_path, clock)) as spool:
        assert kinds(spool) == {DisagreementKind.DAMAGED}
        assert mend(spool) == found_in(spool)  # nothing is decided by such a catalog
    (note,), lost = verify.repair_databases(path.parent, alone=alone)
    assert "indexes were made again" in note and lost == []
    with closing(open_spool(tmp_path, clock)) as spool:
        assert mend(spool) == []
        assert found_in(spool) == []
        for receipt in made:
            assert spool.receipt(receipt.id) is not None
        assert snapshot(spool).received.images == 2


def test_an_index_with_as_many_rows_that_are_others_is_told(tmp_path: Path, clock: Clock) -> None:
    """A lost change, not a lost row: counting finds nothing."""
    put_one(tmp_path, clock, [])
    path = open_path(tmp_path) / "catalog.sqlite3"

    def defer() -> None:
        with closing(open_spool(tmp_path, clock)) as spool:
            clock.advance(hours=1)
            spool.catalog.defer(
                spool.catalog.find(Query(limit=1))[0], clock(), "it failed", unknown=False
            )

    defer()
    lose(path, defer, "images_retry")
    with closing(open_spool(tmp_path, clock)) as spool:
        assert kinds(spool) == {DisagreementKind.DAMAGED}
    (note,), _ = verify.repair_databases(path.parent, alone=False)
    assert "indexes were made again" in note
    with closing(open_spool(tmp_path, clock)) as spool:
        assert found_in(spool) == []


def test_a_catalog_with_an_image_twice_is_made_anew_only_alone(
    tmp_path: Path, clock: Clock
) -> None:
    """Its index of ids had lost a row, and the image was entered again."""
    made: list[Receipt] = []
    put_one(tmp_path, clock, made)
    path = open_path(tmp_path) / "catalog.sqlite3"
    lose(path, lambda: put_one(tmp_path, clock, made), "sqlite_autoindex_images_1")
    with closing(sqlite.raw(path)) as db:
        columns = "id, ext, device, sha256, size"
        db.execute(f"INSERT INTO images ({columns}) SELECT {columns} FROM images WHERE arrival = 2")
    (note,), _ = verify.repair_databases(path.parent, alone=False)
    assert "stop the receiver" in note
    (note,), _ = verify.repair_databases(path.parent, alone=True)
    assert "rebuilt" in note
    with closing(open_spool(tmp_path, clock)) as spool:
        assert mend(spool) == []
        assert found_in(spool) == [] and snapshot(spool).received.images == 2


def open_path(root: Path) -> Path:
    with closing(open_spool(root)) as spool:
        return spool.files.state


@pytest.mark.parametrize("trees", [("images_by_digest",), ("images",)], ids=["index", "rows"])
def test_receipts_that_lost_a_page_are_mended_and_what_is_lost_is_told(
    tmp_path: Path, clock: Clock, trees: tuple[str, ...]
) -> None:
    made: list[Receipt] = []
    put_one(tmp_path, clock, made, finish=True)
    state = open_path(tmp_path)
    path = state / "receipts" / "2026-11-23.sqlite3"
    lose(path, lambda: put_one(tmp_path, clock, made, finish=True), *trees)
    with closing(open_spool(tmp_path, clock)) as spool:
        assert Disagreement(DisagreementKind.DAMAGED, path.name) in [
            Disagreement(found.kind, found.what) for found in found_in(spool)
        ]
        assert path.name in {found.what for found in mend(spool)}  # it is left alone
    damaged = path.read_bytes()
    (note,), lost = verify.repair_databases(state, alone=False)
    kept = path.with_name("damaged-2026-11-23.sqlite3")
    assert kept.name in note and len(kept.read_bytes()) == len(damaged)
    assert [found.kind for found in lost] == (
        [DisagreementKind.LOST] if trees == ("images",) else []
    )
    with closing(open_spool(tmp_path, clock)) as spool:
        assert mend(spool) == []  # the copy in done/ carries the proof
        assert found_in(spool) == []
        for receipt in made:
            found = spool.receipt(receipt.id)
            assert found is not None and found.state is State.UPLOADED
    assert verify.repair_databases(state, alone=True) == ([], [])


def test_a_site_that_lost_a_page_keeps_every_row_that_is_left(tmp_path: Path, clock: Clock) -> None:
    with closing(open_spool(tmp_path, clock)) as spool:
        (first,) = spool.site.devices.add(["cam-1"], clock())
        path = spool.files.state / "site.sqlite3"
    tokens = [first]

    def enrol() -> None:
        with closing(open_spool(tmp_path, clock)) as spool:
            tokens.extend(spool.site.devices.add(["cam-2"], clock()))

    lose(path, enrol, "tokens_by_device")
    with closing(open_spool(tmp_path, clock)) as spool:
        assert kinds(spool) == {DisagreementKind.DAMAGED}
    (note,), lost = verify.repair_databases(path.parent, alone=False)
    assert "site.sqlite3 was damaged" in note and lost == []
    with closing(open_spool(tmp_path, clock)) as spool:
        assert found_in(spool) == []
        assert all(spool.site.devices.authenticate(token.secret, clock()) for token in tokens)
        spool.site.devices.revoke(["cam-2"], clock())
        assert spool.site.devices.authenticate(tokens[1].secret, clock()) is None


def test_a_site_that_cannot_be_mended_stays_as_it_is(tmp_path: Path, clock: Clock) -> None:
    path = open_path(tmp_path) / "site.sqlite3"
    path.write_bytes(b"no database at all" * 1000)
    before = path.read_bytes()
    (note,), _ = verify.repair_databases(path.parent, alone=True)
    assert "restore it from a backup" in note
    assert path.read_bytes() == before
    assert not path.with_name("damaged-site.sqlite3").exists()
    with pytest.raises(SpoolUnsuitable, match=r"site\.sqlite3 is damaged .* from a backup"):
        open_spool(tmp_path, clock)
