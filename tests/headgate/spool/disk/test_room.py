"""Whether an image would be taken now: one rule, by a table of disks and receivers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.spool.disk.room import (
    SPARE_BYTES,
    SPARE_INODES,
    FreeSpace,
    Receiving,
    admission,
    on_disk,
)

MB = 1_000_000
ROOMY = FreeSpace(10**12, 10**9, 10**6)


@given(
    wanted=st.integers(0, 10**9),
    free=st.integers(0, 10**10),
    floor=st.integers(0, 10**9),
    promised=st.integers(0, 10**9),
)
def test_there_is_room_if_the_floor_stays_free_after_everybody(
    wanted: int, free: int, floor: int, promised: int
) -> None:
    blocks = (wanted + 4095) // 4096 + 1
    left = free - floor - 4 * 1024 * 1024 - promised - blocks * 4096
    found = admission(wanted, FreeSpace(free, floor, 10**6), Receiving(promised, 1))
    assert found.accepting == (left >= 0)
    assert found.code == ("" if left >= 0 else "disk_full")
    assert found.missing_bytes == max(0, -left)


def test_with_what_it_calls_needed_an_image_is_taken_and_with_a_byte_less_it_is_not() -> None:
    needed = admission(20 * MB, FreeSpace(0, 6 * MB, 10**6)).needed_bytes
    assert admission(20 * MB, FreeSpace(needed, 6 * MB, 10**6)).accepting
    assert not admission(20 * MB, FreeSpace(needed - 1, 6 * MB, 10**6)).accepting


def test_inodes_are_room_too() -> None:
    disk = FreeSpace(10**9, 0, SPARE_INODES + 5)
    assert admission(1, disk, Receiving(0, 4)).accepting
    short = admission(1, disk, Receiving(0, 5))
    assert (short.code, short.missing_inodes, short.missing_bytes) == ("disk_full", 1, 0)
    assert "inodes" in short.sentence


def test_what_closes_the_receiver_counts_before_the_room() -> None:
    full = FreeSpace(0, 0, 0)
    for receiving, code in (
        (Receiving(stopping=True, trouble="EIO"), "stopping"),
        (Receiving(trouble="Input/output error"), "disk_trouble"),
        (Receiving(trouble="No space left on device", trouble_is_full=True), "disk_full"),
        (Receiving(intake_wait_seconds=3), "disk_full"),
    ):
        found = admission(1, full, receiving)
        assert (found.accepting, found.code) == (False, code)
        assert found.sentence


def test_what_all_may_send_counts_last() -> None:
    found = admission(1, ROOMY, Receiving(intake_wait_seconds=3))
    assert (found.code, found.retry_after) == ("intake_spent", 3)
    assert admission(1, ROOMY).accepting


def test_the_sentence_has_the_numbers_it_was_decided_by() -> None:
    sentence = admission(20 * MB, FreeSpace(30 * MB, 12 * MB, 10**6), Receiving(2 * MB, 1)).sentence
    for number in ("30.0 MB", "20.0 MB", "12.0 MB", "2.0 MB", "38.2 MB"):
        assert number in sentence, sentence


def test_an_image_takes_whole_blocks_and_one_for_its_metadata() -> None:
    assert on_disk(1) == 8192
    assert on_disk(4097) == 12288
    assert SPARE_BYTES == 4 * 1024 * 1024
