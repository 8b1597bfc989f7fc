"""One thread does it for all who wait: no item is left out, done early, or done twice."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, closing
from pathlib import Path
from unittest import mock

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.disk import durable
from headgate.spool.disk.group_commit import GroupCommit
from headgate.spool.errors import DiskError
from tests.support.spooling import open_spool, put
from tests.support.wait import join, wait_until


class Batches:
    """What was done together; each batch waits to be let go."""

    def __init__(self) -> None:
        self.done: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.fail = False

    def __call__(self, items: list[int]) -> None:
        self.done.append(list(items))
        self.begun.release()
        assert self.go.acquire(timeout=60)
        if self.fail:
            raise OSError("the disk")


def ask(together: GroupCommit[int], item: int, answers: dict[int, str]) -> threading.Thread:
    def run() -> None:
        try:
            together.add(item)
            answers[item] = "done"
        except OSError as error:
            answers[item] = str(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_alone_it_is_done_at_once() -> None:
    done: list[list[int]] = []
    together = GroupCommit[int](lambda items: done.append(list(items)))
    together.add(1)
    together.add(2)
    assert done == [[1], [2]]


def test_those_that_come_meanwhile_are_the_next_batch_and_an_error_is_its_own() -> None:
    batches, answers = Batches(), dict[int, str]()
    together = GroupCommit[int](batches)
    threads = [ask(together, 0, answers)]
    assert batches.begun.acquire(timeout=60)
    threads += [ask(together, item, answers) for item in (1, 2, 3)]
    wait_until(lambda: len(together._waiting) == 3, "three wait")
    assert answers == {}, "nobody is told before the batch is done"
    batches.go.release()
    assert batches.begun.acquire(timeout=60)
    threads += [ask(together, 4, answers)]
    wait_until(lambda: len(together._waiting) == 1, "one waits")
    batches.fail = True
    batches.go.release()
    assert batches.begun.acquire(timeout=60)
    batches.fail = False
    batches.go.release()
    for thread in threads:
        join(thread)
    assert [sorted(batch) for batch in batches.done] == [[0], [1, 2, 3], [4]]
    assert answers == {0: "done", 4: "done"} | dict.fromkeys((1, 2, 3), "the disk")


def test_each_image_is_linked_before_the_flush_that_it_is_acknowledged_by(tmp_path: Path) -> None:
    flushes: list[set[str]] = []
    real = durable.commit
    acked: list[str] = []
    with closing(open_spool(tmp_path)) as spool:

        def commit(folder: int, waiting: AbstractContextManager[None]) -> None:
            linked = {path.name for path in (spool.path / "new").rglob("*.jpg")}
            real(folder, waiting)
            flushes.append(linked)

        with mock.patch.object(durable, "commit", commit):

            def send(number: int) -> None:
                for turn in range(5):
                    receipt = put(spool, b"%d %d" % (number, turn), f"cam-{number}").receipt
                    assert any(f"{receipt.id}.jpg" in linked for linked in flushes)
                    acked.append(receipt.id)

            threads = [threading.Thread(target=send, args=(n,), daemon=True) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        assert len(acked) == 40
        assert snapshot(spool).received.images == 40
        assert snapshot(spool).unaccounted == 0
        assert {item.id for item in spool.catalog.after(0, 100)} == set(acked)


def test_a_flush_that_fails_acknowledges_none_of_its_batch(tmp_path: Path) -> None:
    with closing(open_spool(tmp_path)) as spool:
        trouble = DiskError(OSError(5, "Input/output error"), "flushing")
        with mock.patch.object(durable, "commit", side_effect=trouble):
            with pytest.raises(DiskError):
                put(spool, b"1")
        assert snapshot(spool).received.images == 0
        assert put(spool, b"2").receipt.id
