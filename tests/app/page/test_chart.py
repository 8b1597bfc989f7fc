"""The last day as curves: to scale, against the cap, whatever happened."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.page.chart import HEIGHT, WIDTH, curves
from headgate.spool.catalog.traffic import Flow
from headgate.spool.image.image import Count

NOW = datetime(2026, 11, 23, 16, 5, tzinfo=UTC)
START = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
CAP = 2_400_000_000


def step(number: int, came: int, went: int = 0, sent: int = 0) -> Flow:
    at = START + timedelta(minutes=10 * number)
    return Flow(at, 10, Count(1, came), Count(1, went), sent)


def test_nothing_happened() -> None:
    drawn = curves((), NOW, CAP)
    assert (drawn.came, drawn.went) == ("", "")
    assert (drawn.came_bytes, drawn.went_peak) == (0, 0)
    assert drawn.cap_y is not None and 0 < drawn.cap_y < HEIGHT


def test_a_rate_is_drawn_at_its_height_and_holds_until_the_next() -> None:
    drawn = curves([step(n, 5_000_000_000, 10 * CAP) for n in range(72, 78)], NOW, CAP)
    assert drawn.came_peak == 500_000_000
    assert drawn.went_peak == CAP
    assert drawn.cap_y == round(HEIGHT * (1 - CAP / drawn.top), 1)
    x = WIDTH * (720 - 5) / 1440
    assert f"H{x:.1f}V{drawn.cap_y:.1f}" in drawn.went
    assert f"H{x + WIDTH / 24:.1f}V{HEIGHT:.1f}" in drawn.went
    assert drawn.came.endswith(f"V{HEIGHT}H0Z")


def test_a_cap_far_above_is_said_and_not_drawn() -> None:
    assert curves([step(3, 1000)], NOW, CAP).cap_y is None
    assert curves([step(3, 1000)], NOW, 0).cap_y is None


def test_the_step_that_runs_counts_for_the_minutes_that_passed() -> None:
    assert curves([step(144, 1000)], NOW, 0).came_peak == 1000 / 5


def test_what_left_on_the_wire_counts_where_it_is_known() -> None:
    assert curves([step(3, 0, 100, 130)], NOW, 0).went_bytes == 130
    assert curves([step(3, 0, 100)], NOW, 0).went_bytes == 100


@given(
    st.lists(st.tuples(st.integers(-5, 144), st.integers(0, 10**13), st.integers(0, 10**13))),
    st.floats(0, 1e12),
)
def test_every_curve_stays_inside(found: list[tuple[int, int, int]], cap: float) -> None:
    drawn = curves([step(*one) for one in found], NOW, cap)
    for path in (drawn.came, drawn.went):
        for letter, number in re.findall(r"([HV])(-?[\d.]+)", path):
            assert 0 <= float(number) <= (WIDTH if letter == "H" else HEIGHT)
    assert drawn.cap_y is None or 0 <= drawn.cap_y <= HEIGHT
