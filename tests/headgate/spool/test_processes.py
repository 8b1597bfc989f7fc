"""Several processes of one receiver on one spool."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.host.board import FOLDERS, Board
from headgate.monitor.collect import snapshot
from headgate.spool import recovery
from headgate.spool.disk import durable
from headgate.spool.disk.durable import Incoming
from headgate.spool.image.image import Metadata
from headgate.spool.image.names import Name
from headgate.spool.spool import Accepted, Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import Clock, images_below, open_spool, put, upload_all
from tests.support.wait import join


@pytest.fixture
def both(tmp_path: Path, clock: Clock) -> Iterator[tuple[Spool, Spool]]:
    board = Board.shared(2)
    spools = [open_spool(tmp_path, clock, board.of(number)) for number in range(2)]
    yield spools[0], spools[1]
    for spool in spools:
        spool.close()


def sound(spool: Spool) -> bool:
    return snapshot(spool).unaccounted == 0 and not list(verify.look(spool))


@pytest.mark.parametrize("more", [{}, {"key": "k"}], ids=["by-digest", "by-key"])
def test_of_many_at_once_in_both_one_is_new_and_the_others_wait_for_it(
    both: tuple[Spool, Spool], more: dict[str, str]
) -> None:
    everyone = threading.Barrier(16)
    accepted: list[Accepted] = []

    def send(spool: Spool) -> None:
        everyone.wait(60)
        accepted.append(put(spool, b"image", **more))

    for _ in range(5):
        threads = [threading.Thread(target=send, args=(both[n % 2],)) for n in range(16)]
        for thread in threads:
            thread.start()
        join(*threads)
    assert len(accepted) == 80
    assert sum(not one.duplicate for one in accepted) == 1
    assert len({one.receipt.id for one in accepted}) == 1
    assert len(images_below(both[0].path)) == 1
    assert sound(both[0])


def test_the_second_waits_for_the_outcome_of_the_first(both: tuple[Spool, Spool]) -> None:
    here, there = both
    began, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    real = here.catalog.minutes.enter

    def enter(*_args: object) -> None:
        here.catalog.minutes.enter = real  # type: ignore[method-assign]
        began.set()
        go_on.wait(60)
        raise RuntimeError("the first one fails")

    here.catalog.minutes.enter = enter  # type: ignore[method-assign]
    outcome: dict[str, object] = {}

    def first() -> None:
        try:
            put(here, b"image")
        except RuntimeError as error:
            outcome["first"] = str(error)

    def second() -> None:
        outcome["second"] = put(there, b"image").duplicate

    class Waiting:
        def __enter__(self) -> None:
            waiting.set()

        def __exit__(self, *_: object) -> None:
            pass

    there.board.waiting = Waiting()  # type: ignore[assignment]
    one = threading.Thread(target=first)
    two = threading.Thread(target=second)
    one.start()
    assert began.wait(60)
    two.start()
    assert waiting.wait(60)
    go_on.set()
    join(one, two)
    assert outcome == {"first": "the first one fails", "second": False}


def test_a_folder_is_not_forgotten_while_another_process_links_into_it(
    both: tuple[Spool, Spool], clock: Clock
) -> None:
    here, there = both
    linked: list[str] = []
    real = durable.publish

    def publish(*args: object) -> object:
        named = here.catalog.minutes.named()
        linked.extend(named)
        for _ in range(4):  # the other process goes on for minutes meanwhile
            clock.advance(minutes=1)
            put(there, clock().isoformat().encode())
        assert set(named) <= set(there.catalog.minutes.named())
        return real(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        real_of_both = durable.publish

        def once(*args: object) -> object:
            patch.setattr(durable, "publish", real_of_both)
            return publish(*args)

        patch.setattr(durable, "publish", once)
        put(here, b"slow")
    assert linked
    for _ in range(3):
        clock.advance(minutes=1)
        put(here, clock().isoformat().encode())
    assert not set(linked) & set(there.catalog.minutes.named())  # no one needs it any more
    assert sound(here)


def test_a_process_that_links_into_more_folders_than_it_can_mark_keeps_all_named(
    both: tuple[Spool, Spool], clock: Clock
) -> None:
    here, there = both
    folders = [f"2026-11-23/{1600 + number}" for number in range(12)]
    for folder in folders:
        here.catalog.minutes.enter(folder)
    for _ in range(4):
        clock.advance(minutes=1)
        put(there, clock().isoformat().encode())
    assert set(folders) <= set(there.catalog.minutes.named())
    for folder in folders:
        here.catalog.minutes.leave(folder)
    here.catalog.minutes.enter("2026-11-23/1700")
    assert -1 not in set(here.board.own(FOLDERS))


@pytest.mark.parametrize("at", ["before its row", "while it arrives"])
def test_what_a_killed_process_left_is_made_good_while_the_other_goes_on(
    both: tuple[Spool, Spool], at: str
) -> None:
    here, there = both
    kept = put(there, b"kept").receipt

    class Killed(BaseException):
        pass

    arriving = here.incoming()
    with pytest.MonkeyPatch.context() as patch:
        # As a kill leaves it: nothing is tidied up.
        patch.setattr(Incoming, "close", lambda _self: None)
        if at == "before its row":

            def add_all(_rows: object) -> None:
                raise Killed

            patch.setattr(there.catalog, "add_all", add_all)
            with pytest.raises(Killed):
                put(there, b"linked and not acknowledged")
        else:
            cut = there.incoming()
            cut.write(b"half of an image")
    put(here, b"of the other one")
    here.board.clear(1)
    recovered = here.recover_from(1)
    assert recovered.restored == (at == "before its row")
    assert recovered.cut_off == (at == "while it arrives")
    assert here.path.joinpath("tmp", arriving.path.name).exists()  # another's is left alone
    arriving.close()
    assert here.receipt(kept.id) == kept
    assert len(images_below(here.path)) == 2 + recovered.restored
    assert sound(here)
    assert set(here.board.all(FOLDERS)[1]) == {0}
    upload_all(here)
    assert sound(here)


def test_what_a_repair_restored_and_a_run_sent_meanwhile_is_not_restored_again(
    both: tuple[Spool, Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = both

    def add_all(_rows: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(there.catalog, "add_all", add_all)
    with pytest.raises(KeyboardInterrupt):
        put(there, b"linked and not acknowledged")
    real = recovery._metadata

    def read_late(path: Path, name: Name) -> Metadata | None:
        found = real(path, name)
        with here.hold_drain_lock("a repair", 0) as lock:
            assert verify.repair(here, Mover(here, lock), list(verify.look(here))) == []
        assert upload_all(here) == 1
        return found

    monkeypatch.setattr(recovery, "_metadata", read_late)
    assert here.recover_from(1).restored == 0
    assert here.catalog.totals().received.images == 1
    assert sound(here)


@pytest.mark.parametrize("since", ["nothing", "a run sent it"])
def test_what_another_process_is_about_to_add_itself_counts_once(
    both: tuple[Spool, Spool], since: str
) -> None:
    here, there = both
    real = here.catalog.add_all

    def add_all(rows: object) -> None:
        minutes = here.catalog.minutes
        there.board.own(FOLDERS)[0] = max(here.board.own(FOLDERS))
        assert minutes.marked_by(1)
        there.recover_from(1)  # finds the file of this one, which has no row yet
        if since == "a run sent it":
            upload_all(there)
        real(rows)  # type: ignore[arg-type]

    here.catalog.add_all = add_all  # type: ignore[method-assign,assignment]
    receipt = put(here, b"image").receipt
    here.catalog.add_all = real  # type: ignore[method-assign]
    assert here.receipt(receipt.id) is not None
    assert here.catalog.totals().received.images == 1
    assert sound(here)
