"""When there will be room, by what runs did lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from spool.facts import Run
from spool.forecast import drained_per_second, wait_for_room

NOW = datetime(2026, 11, 23, 16, 4, tzinfo=UTC)


def run(minutes_ago: float, size: int) -> Run:
    return Run(f"{minutes_ago}", NOW - timedelta(minutes=minutes_ago), bytes=size)


def test_pauses_between_runs_count() -> None:
    assert drained_per_second([run(5, 3000), run(10, 3000)], NOW, 300) == 10.0


def test_what_was_long_ago_says_nothing() -> None:
    assert drained_per_second([run(31, 10**9)], NOW, 300) == 0.0
    assert drained_per_second([], NOW, 300) == 0.0


@pytest.mark.parametrize(
    ("missing", "chance", "expected"),
    [
        (1000, 0.5, 100),
        (1000, 0.0, 75),
        (1000, 1.0, 125),
        (0, 0.5, 5),  # soon, and not at once
        (10**9, 0.5, 3600),  # nobody waits for days on a guess
    ],
)
def test_the_wait_is_bounded_and_spread(missing: int, chance: float, expected: int) -> None:
    assert wait_for_room(missing, [run(10, 6000)], NOW, 300, chance) == expected


def test_nothing_to_go_by() -> None:
    assert wait_for_room(1000, [run(10, 0)], NOW, 300, 0.5) is None
