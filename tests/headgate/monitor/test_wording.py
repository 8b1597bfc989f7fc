"""A forecast in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from headgate.monitor.forecast import Doubt, Estimate, Forecast
from headgate.monitor.wording import backlog, disk
from headgate.spool.image.image import Count
from headgate.spool.site.runs import Proof
from tests.support.page import NONE, NOW, facts

HOUR = timedelta(hours=1)


def estimate(at: float, earliest: float, latest: float | None) -> Estimate:
    return Estimate(
        NOW + at * HOUR, NOW + earliest * HOUR, None if latest is None else NOW + latest * HOUR
    )


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (Forecast(), ""),
        (Forecast(doubt=Doubt.NO_RUN), "no scheduled run has started lately."),
        (Forecast(doubt=Doubt.NEVER_CONFIRMED), "no image has been confirmed yet."),
        (
            Forecast(doubt=Doubt.NOTHING_CONFIRMED, received_per_second=1e6),
            "Unknown when it will be empty: no image was confirmed for 2 h, although runs tried.",
        ),
        (Forecast(doubt=Doubt.UPLINK_DOWN), "the uplink is down."),
        (Forecast(doubt=Doubt.RUNS_FAIL), "the last run failed."),
        (Forecast(received_per_second=1e6), "Nothing goes out now, and 1.0 MB/s come in."),
        (
            Forecast(received_per_second=2e6, carried_per_second=1e6),
            "not empty within two weeks: 2.0 MB/s come in, 1.0 MB/s go out.",
        ),
        (
            Forecast(empty=estimate(2, 1.5, 3)),
            "Empty in about 2 h, at 18:04 UTC; between 17:34 UTC and 19:04 UTC.",
        ),
        (Forecast(empty=estimate(2, 2, 2)), "Empty in about 2 h, at 18:04 UTC."),
        (Forecast(empty=estimate(2, 1, None)), "17:04 UTC at the earliest, and perhaps never."),
        (Forecast(empty=estimate(30, 30, 30)), "at Tue 24 Nov 22:04 UTC."),
        (Forecast(empty=estimate(0.001, 0, 1)), "Empty within a minute."),
    ],
)
def test_the_backlog_says_when_and_how_sure(forecast: Forecast, words: str) -> None:
    said = backlog(facts(forecast=forecast, proof=Proof(None, NOW - 2 * HOUR, 5)))
    assert (words in said) if words else (said == "")


def test_without_a_backlog_nothing_is_foretold() -> None:
    assert backlog(facts(waiting=NONE)) == "Nothing is waiting."
    assert backlog(facts(waiting=NONE, sending=Count(1, 1))) == ""


def test_the_disk_says_when_and_how_sure() -> None:
    assert disk(facts()) == ""
    assert disk(facts(forecast=Forecast(carried_per_second=1.0))).startswith("At this rate it is")
    said = disk(facts(forecast=Forecast(full=estimate(5, 4, None))))
    assert said.startswith("Full in about 5 h, at 21:04 UTC; 20:04 UTC at the earliest")
    both = Forecast(full=estimate(5, 4, None), inodes=estimate(2, 2, 2))
    assert disk(facts(forecast=both)).startswith("Out of inodes in about 2 h, at 18:04 UTC; each")
    later = Forecast(full=estimate(1, 1, 1), inodes=estimate(2, 2, 2))
    assert disk(facts(forecast=later)).startswith("Full in about 1 h")
