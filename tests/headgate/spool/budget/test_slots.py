"""The arithmetic of the budget, against what the promise says in so many words."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.spool.budget import slots as budget
from headgate.spool.budget.slots import HEADER_BYTES, RECORD_BYTES, DamagedSlots, Header

calm = settings(deadline=None)

RATES = st.integers(0, 10**10)
CHARGES = st.dictionaries(st.integers(0, 400), st.integers(0, 10**10), max_size=30)
U64 = st.integers(0, 2**64 - 1)
HEADERS = st.builds(
    Header,
    slots=st.integers(0, 2**32 - 1),
    sequence=U64,
    base=st.integers(-(2**63), 2**63 - 1),
    blocked_until=U64,
    boot=st.binary(min_size=16, max_size=16),
)
HEADER_PADDING = RECORD_PADDING = 4
"""Bytes after the checksum that mean nothing."""


@calm
@given(st.lists(st.integers(1, 10**10), max_size=40), CHARGES, st.integers(0, 400), RATES)
def test_grants_of_one_second_never_add_up_to_more_than_the_rate(
    wanted: list[int], charges: dict[int, int], slot: int, rate: int
) -> None:
    before = charges.get(slot, 0)
    granted = []
    for ask in wanted:
        size = budget.grant(ask, charges, slot, rate)
        assert 0 <= size <= ask
        assert size <= max(1, rate / 4)
        charges[slot] = charges.get(slot, 0) + size
        granted.append(size)
    assert sum(granted) == 0 or before + sum(granted) <= rate
    # What does not fit into one grant comes with the next: nothing is lost but to the cap.
    if granted and before < rate:
        assert granted[0] == min(wanted[0], max(1, rate // 4), rate - before)


@calm
@given(CHARGES, st.integers(0, 400), RATES)
def test_room_is_what_the_second_has_left(charges: dict[int, int], slot: int, rate: int) -> None:
    left = rate - sum(charged for at, charged in charges.items() if at == slot)
    assert budget.room(charges, slot, rate) == (left if left > 0 else 0)


@calm
@given(CHARGES, st.integers(0, 400), st.integers(1, 100))
def test_used_is_the_interval_that_ends_now(
    charges: dict[int, int], slot: int, interval: int
) -> None:
    seconds = range(slot - interval + 1, slot + 1)
    assert len(seconds) == interval
    assert budget.used(charges, slot, interval) == sum(charges.get(at, 0) for at in seconds)


@calm
@given(CHARGES, st.integers(0, 500))
def test_a_run_starts_a_whole_second_after_the_last_second_that_was_charged(
    charges: dict[int, int], blocked_until: int
) -> None:
    first = budget.first_slot(charges, blocked_until)
    assert first >= blocked_until
    for slot, charged in charges.items():
        if charged:
            ended, starts = slot + 1, first
            assert starts - ended >= 1
    last = max((slot for slot, charged in charges.items() if charged), default=None)
    assert first == max(blocked_until, 0 if last is None else last + 2)


@calm
@given(HEADERS)
def test_a_header_reads_back(header: Header) -> None:
    data = header.encode()
    assert len(data) == HEADER_BYTES
    assert Header.decode(data) == header


@calm
@given(HEADERS, st.data())
def test_no_changed_byte_of_a_header_goes_unseen(header: Header, data: st.DataObject) -> None:
    encoded = bytearray(header.encode())
    at = data.draw(st.integers(0, HEADER_BYTES - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    if at >= HEADER_BYTES - HEADER_PADDING:
        assert Header.decode(bytes(encoded)) == header
    else:
        with pytest.raises(DamagedSlots):
            Header.decode(bytes(encoded))


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES + 1])
def test_a_header_of_another_length_is_damaged(size: int) -> None:
    whole = Header(62, 1, 0, 0, bytes(16)).encode() + b"\0"
    with pytest.raises(DamagedSlots):
        Header.decode(whole[:size])


def ring(slots: int, charges: dict[int, int]) -> bytearray:
    """A ring as the ledger leaves it, put together by hand."""
    records = [budget.encode_record(index, 0, 0) for index in range(slots)]
    for slot, charged in charges.items():
        records[slot % slots] = budget.encode_record(slot, charged, charged + 7)
    return bytearray(b"".join(records))


RINGS = st.integers(1, 40).flatmap(
    lambda slots: st.tuples(
        st.just(slots),
        st.dictionaries(st.integers(0, slots - 1), st.integers(1, 10**12), max_size=slots).map(
            lambda by_index: {
                index + slots * (charged % 5): charged for index, charged in by_index.items()
            }
        ),
    )
)


@calm
@given(RINGS)
def test_a_ring_reads_back(made: tuple[int, dict[int, int]]) -> None:
    slots, charges = made
    assert budget.decode_ring(budget.encode_ring(charges, slots), slots) == charges
    assert budget.decode_ring(bytes(ring(slots, charges)), slots) == charges


@calm
@given(RINGS, st.data())
def test_no_changed_byte_of_a_ring_reads_as_another_charge(
    made: tuple[int, dict[int, int]], data: st.DataObject
) -> None:
    slots, charges = made
    encoded = ring(slots, charges)
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    if at % RECORD_BYTES >= RECORD_BYTES - RECORD_PADDING:
        assert budget.decode_ring(bytes(encoded), slots) == charges
    else:
        with pytest.raises(DamagedSlots):
            budget.decode_ring(bytes(encoded), slots)


@calm
@given(RINGS, st.data())
def test_a_record_that_was_wiped_or_stands_elsewhere_is_damaged(
    made: tuple[int, dict[int, int]], data: st.DataObject
) -> None:
    slots, charges = made
    encoded = ring(slots, charges)
    index = data.draw(st.integers(0, slots - 1))
    place = slice(index * RECORD_BYTES, (index + 1) * RECORD_BYTES)
    wiped = bytes(RECORD_BYTES)
    misplaced = budget.encode_record(index + slots + 1, 1, 1)
    for record in (wiped, misplaced) if slots > 1 else (wiped,):
        encoded[place] = record
        with pytest.raises(DamagedSlots):
            budget.decode_ring(bytes(encoded), slots)


def test_a_ring_of_another_length_is_damaged() -> None:
    whole = bytes(ring(4, {3: 7}))
    for data in (whole[:-1], whole + b"\0", whole + whole, b""):
        with pytest.raises(DamagedSlots):
            budget.decode_ring(data, 4)


def test_the_parts_at_their_bounds() -> None:
    assert [budget.other_part(rate) for rate in (100, 1000, 100_000, 2_560_000)] == [
        25, 250, 1000, 10_000
    ]  # fmt: skip
    assert budget.room({1: 500}, 1, 300) == 0
    assert budget.grant(100, {1: 500}, 1, 300) == 0
    assert budget.grant(10, {}, 0, 3) == 1


@pytest.mark.parametrize(("at", "value"), [(8, 1), (8, 3), (0, 0), (0, 255)])
def test_a_header_of_another_kind_is_refused_whatever_its_checksum(at: int, value: int) -> None:
    header = Header(slots=62, sequence=1, base=0, blocked_until=0, boot=bytes(16)).encode()
    data = bytearray(header)
    assert data[:12] == b"HEADGATE" + bytes([2, 0, 0, 0])
    data[at] = value
    data[-8:-4] = zlib.crc32(data[:-8]).to_bytes(4, "little")
    with pytest.raises(DamagedSlots):
        Header.decode(bytes(data))
