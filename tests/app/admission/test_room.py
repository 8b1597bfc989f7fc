"""Small disks of their own: many uploads into little room, no inodes left, and all of it freed."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headgate.spool.disk.room import BLOCK, SPARE_BYTES, SPARE_INODES, on_disk
from tests.support.receiver import (
    FORM_TYPE,
    Answer,
    Receiver,
    await_processes,
    chunked,
    form,
    head,
    part,
    read_answer,
    running,
)
from tests.support.small_disk import FLOOR, SIZE, disk, free_bytes, image, leave_free
from tests.support.wait import join, wait_until

pytestmark = pytest.mark.root

READY_SECONDS = 30


def post_all(receiver: Receiver, numbers: range) -> list[Answer]:
    barrier = threading.Barrier(len(numbers))

    def post(number: int) -> Answer:
        barrier.wait(60)
        return receiver.post_raw(image(number))

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(post, numbers))


def is_checkpointed(receiver: Receiver) -> bool:
    """Whether the catalog holds all that is in its WAL: mxFrame and nBackfill of the WAL-index
    (sqlite.org/walformat.html)."""
    index = (receiver.spool / "state" / "catalog.sqlite3-shm").read_bytes()
    return index[16:20] == index[96:100]


@pytest.mark.parametrize("processes", [1, 2])
def test_fifty_posts_into_room_for_ten(own: Path, processes: int) -> None:
    with disk(own, 64) as point:
        settings = {"spool__keep_free": f"{FLOOR}B", "receiver__max_image": "250kB"}
        settings["receiver__processes"] = str(processes)
        with running(point, **settings) as receiver:
            await_processes(receiver, processes)
            for number in range(100, 130):  # its folders are there, and its files have grown
                assert receiver.post_raw(image(number)).status == 201
            # From here on its WAL is written from its start, within its size.
            wait_until(lambda: is_checkpointed(receiver), "its WAL is checkpointed")
            wanted = FLOOR + SPARE_BYTES + 11 * on_disk(SIZE) - 2 * BLOCK
            filler = leave_free(point, wanted)
            lowest, done = [free_bytes(point)], threading.Event()

            def watch() -> None:
                while not done.wait(0.001):
                    lowest.append(free_bytes(point))

            watching = threading.Thread(target=watch)
            watching.start()
            answers = post_all(receiver, range(1, 51))
            done.set()
            join(watching)
            assert sorted(answer.status for answer in answers) == [201] * 10 + [507] * 40
            for answer in answers:
                if answer.status == 507:
                    assert answer.code == "disk_full"
                    assert int(answer.headers["retry-after"]) > 0
            assert min(lowest) >= FLOOR
            assert len(receiver.images()) == 40
            assert receiver.half_received() == []
            # The disk never failed: nothing is latched, and it recovers alone.
            filler.unlink()
            receiver.await_ready()
            assert {answer.status for answer in post_all(receiver, range(51, 61))} == {201}
            assert not [event for event in receiver.events if event["level"] == "error"]


def test_no_inodes_left(own: Path) -> None:
    with disk(own, 16, "-N", "64") as point:
        settings = {"spool__keep_free": "0B", "receiver__max_image": "250kB"}
        with running(point, **settings) as receiver:
            taken = 0
            while (answer := receiver.post_raw(image(taken))).status == 201:
                taken += 1
            assert answer.code == "disk_full"
            assert taken > 0
            assert os.statvfs(point).f_favail >= SPARE_INODES - 1
            assert len(receiver.images()) == taken
            assert receiver.half_received() == []
            receiver.images()[0].unlink()  # as a run would, once it is in the bucket
            receiver.images()[0].unlink()
            receiver.await_ready()
            assert receiver.post_raw(image(1000)).status == 201


def test_an_upload_in_flight_is_promised_one_inode_and_no_second(own: Path) -> None:
    with disk(own, 16, "-N", "64") as point:
        with running(point, spool__keep_free="0B", receiver__max_image="250kB") as receiver:
            assert receiver.post_raw(image(0)).status == 201
            top = head("POST", "/images", image(1), Content_Type="image/jpeg")
            with receiver.connect() as connection:
                connection.sendall(top + image(1)[:70_000])
                wait_until(lambda: bool(receiver.half_received()), "the upload has begun")
                for number in range(os.statvfs(point).f_favail - SPARE_INODES - 1):
                    (point / f"filler-{number}").touch()
                assert os.statvfs(point).f_favail == SPARE_INODES + 1
                assert receiver.post_raw(image(2)).status == 201
                assert receiver.post_raw(image(3)).status == 507
                connection.sendall(image(1)[70_000:])
                answer = read_answer(connection)
                assert answer is not None
                assert answer.status == 201


def test_a_chunked_form_reserves_the_largest_image(own: Path) -> None:
    with disk(own, 32) as point:
        settings = {"spool__keep_free": "0B", "receiver__max_image": "4MB"}
        with running(point, **settings) as receiver:
            top = head("POST", "/images", Content_Type=FORM_TYPE, Transfer_Encoding="chunked")
            body = chunked(form(part("image", image(1), "a.jpg")))
            answer = receiver.send(top + body)
            assert answer is not None
            assert answer.status == 201
            leave_free(point, SPARE_BYTES + on_disk(3_000_000))
            answer = receiver.send(top + body)
            assert answer is not None
            assert (answer.status, answer.code) == (507, "disk_full")
            assert receiver.post_raw(image(2)).status == 201  # its length is known, and fits
