"""Who is to blame for a refusal, from histories of results alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.spool.image.image import Item, State
from headgate.spool.image.names import make
from uploader.run.breaker import LIMIT, Breaker
from uploader.wire.errors import ErrorKind, SendError

AT = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


def image(number: int, refusals: int = 0) -> Item:
    name = make(AT + timedelta(seconds=number), "cam-1", "ab" * 32, "jpg")
    return Item(name, "ab" * 32, 1, State.WAITING, refusals=refusals, last_error="as before")


def refusal(kind: ErrorKind = ErrorKind.PERMANENT) -> SendError:
    return SendError(kind, "InvalidRequest", "It was refused.", refusal=True)


def test_a_refusal_between_confirmations_twice_is_the_images_own() -> None:
    breaker = Breaker()
    bad = image(0)
    assert not breaker.refused(bad, refusal(), 0, 1).ends
    cleared = breaker.confirmed(image(1), 2)
    assert (cleared.guilty, cleared.release) == ((), True)
    assert not breaker.refused(replace(bad, refusals=1), refusal(), 2, 3).ends
    cleared = breaker.confirmed(image(2), 4)
    assert [suspect.item.id for suspect in cleared.guilty] == [bad.id]


def test_one_that_began_before_the_refusal_says_nothing_of_it() -> None:
    breaker = Breaker()
    breaker.confirmed(image(9), 0)
    breaker.refused(image(0, refusals=1), refusal(), 1, 2)
    assert breaker.confirmed(image(1), 1).guilty == ()
    assert breaker.careful
    assert len(breaker.confirmed(image(2), 3).guilty) == 1
    assert not breaker.careful


def test_several_with_nothing_confirmed_between_them_end_the_run() -> None:
    breaker = Breaker()
    ends = [breaker.refused(image(n), refusal(), n + 0.5, n + 1).ends for n in range(LIMIT)]
    assert ends == [False] * (LIMIT - 1) + [True]


def test_those_under_way_at_the_first_refusal_count_as_one() -> None:
    breaker = Breaker()
    breaker.confirmed(image(99), 0)
    for n in range(20):
        assert not breaker.refused(image(n), refusal(), 1, 2 + n).ends
    assert not breaker.refused(image(20), refusal(), 30, 31).ends
    assert breaker.refused(image(21), refusal(), 32, 33).ends


def test_after_a_run_that_ended_so_one_is_enough() -> None:
    breaker = Breaker([image(n, refusals=1) for n in range(LIMIT)])
    assert breaker.refused(image(9), refusal(), 0, 1).ends


def test_a_fatal_answer_ends_the_run_at_once_unless_others_were_confirmed_meanwhile() -> None:
    breaker = Breaker()
    assert breaker.refused(image(0), refusal(ErrorKind.FATAL), 0, 1).ends
    breaker.confirmed(image(1), 2)
    assert not breaker.refused(image(0, refusals=1), refusal(ErrorKind.FATAL), 2, 3).ends
    assert breaker.refused(image(2), refusal(ErrorKind.FATAL), 3.5, 4).ends


def test_what_an_earlier_run_could_not_settle_is_settled_by_the_next_confirmation() -> None:
    earlier = Breaker()
    earlier.confirmed(image(1), 1)
    held = earlier.refused(image(0, refusals=1), refusal(), 1, 2)
    later = Breaker([image(0, refusals=held.refusals)])
    (suspect,) = later.confirmed(image(2), 3).guilty
    assert suspect.error.message == "as before"


@pytest.mark.parametrize("kind", [ErrorKind.FATAL, ErrorKind.TRANSIENT])
def test_other_kinds_are_not_remembered_as_suspects(kind: ErrorKind) -> None:
    earlier = Breaker()
    earlier.confirmed(image(1), 1)
    held = earlier.refused(image(0, refusals=1), refusal(kind), 1, 2)
    assert Breaker([image(0, refusals=held.refusals)]).confirmed(image(2), 3).guilty == ()


def test_a_suspect_that_is_confirmed_is_none() -> None:
    breaker = Breaker([image(0, refusals=2)])
    assert breaker.confirmed(image(0, refusals=2), 1).guilty == ()


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 60))
def test_a_bucket_that_refuses_everything_from_some_moment_on_blames_no_image(
    order: list[int], moment: int
) -> None:
    """Results may come in any order: those that began before the moment are confirmed late."""
    breaker = Breaker()
    refusals: dict[int, int] = {}
    for now, number in enumerate(order):
        late = now + 1 - number  # when its attempt began
        if now < moment or late < moment:
            assert breaker.confirmed(image(1000 + now), late).guilty == ()
        else:
            held = breaker.refused(image(number, refusals.get(number, 0)), refusal(), late, now)
            refusals[number] = held.refusals
            if held.ends:
                break
