"""Deletion by age waits when the wall clock cannot be trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.host.clock import Seen, suspicious_until

HOUR, DAY = 3600.0, 86400.0
NOON = 1_795_435_200.0
LAST = Seen(NOON, 10 * HOUR, "boot-1")


def later(wall: float, uptime: float, boot: str = "boot-1") -> Seen:
    """Seen so many seconds of wall clock and of uptime after ``LAST``."""
    return Seen(LAST.wall + wall, (LAST.uptime if boot == "boot-1" else 0) + uptime, boot)


def test_a_first_look_suspects_nothing() -> None:
    assert suspicious_until(None, LAST, 0.0) == 0.0


@pytest.mark.parametrize(
    ("wall", "uptime"),
    [
        (0, 0),
        (300, 300),
        (300 + DAY, 300),
        (300 - DAY, 300),
        (10 * DAY, 10 * DAY),
        (HOUR, 2 * HOUR),
    ],
)
def test_a_clock_that_went_as_it_should_or_was_set_by_a_day_at_most(
    wall: float, uptime: float
) -> None:
    assert suspicious_until(LAST, later(wall, uptime), 0.0) == 0.0


@pytest.mark.parametrize("jump", [DAY + 1, 365 * DAY, -DAY - 1, -NOON])
def test_after_a_jump_a_day_of_uptime_has_to_pass(jump: float) -> None:
    now = later(300 + jump, 300)
    assert suspicious_until(LAST, now, 0.0) == now.uptime + DAY


def test_being_switched_off_explains_a_step_forward() -> None:
    assert suspicious_until(LAST, later(30 * DAY, 60, "boot-2"), 0.0) == 0.0


def test_nothing_explains_a_step_backward() -> None:
    now = later(-2 * DAY, 60, "boot-2")
    assert suspicious_until(LAST, now, 0.0) == now.uptime + DAY


@given(st.floats(0, 30 * DAY), st.floats(0, 30 * DAY))
def test_a_wait_goes_on_as_it_was_within_a_boot(passed: float, until: float) -> None:
    assert suspicious_until(LAST, later(passed, passed), until) == until


@given(st.floats(0, 30 * DAY), st.floats(0, 60))
def test_a_wait_that_was_not_over_goes_on_in_full_in_the_next_boot(off: float, up: float) -> None:
    not_over, over = LAST.uptime + 1, LAST.uptime
    assert suspicious_until(LAST, later(off, up, "boot-2"), not_over) == DAY
    assert suspicious_until(LAST, later(off, up, "boot-2"), over) == 0.0


@given(st.lists(st.tuples(st.floats(-5 * DAY, 5 * DAY), st.floats(1, 2 * HOUR)), max_size=20))
def test_a_day_of_uptime_always_lies_between_a_jump_and_trust(
    steps: list[tuple[float, float]],
) -> None:
    last, until, jumped_at = LAST, 0.0, None
    for jump, passed in steps:
        now = Seen(last.wall + passed + jump, last.uptime + passed, "boot-1")
        until = suspicious_until(last, now, until)
        if abs(jump) > DAY + 1:
            jumped_at = now.uptime
        if jumped_at is not None and now.uptime < jumped_at + DAY:
            assert until > now.uptime
        last = now
