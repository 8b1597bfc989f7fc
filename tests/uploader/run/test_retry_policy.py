"""What a run does about a result: how long it waits, whom it blames, how many it starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.host.exit_codes import Exit
from headgate.spool.site.outcome import Outcome
from uploader.run import retry_policy
from uploader.s3.errors import RequestTarget, classify
from uploader.wire.errors import ErrorKind, SendError

CHANCE = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(0, 15), (1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (9, 3600), (10**6, 3600)],
)
def test_the_wait_doubles_up_to_an_hour(attempts: int, seconds: float) -> None:
    assert retry_policy.wait_before_retry(attempts, lambda: 0.5) == seconds


@given(st.integers(0, 10**6), CHANCE)
def test_the_wait_is_spread_from_half_to_one_and_a_half(attempts: int, chance: float) -> None:
    middle = min(3600, 15 * 2 ** min(attempts, 50))
    wait = retry_policy.wait_before_retry(attempts, lambda: chance)
    assert middle / 2 <= wait <= middle * 3 / 2
    assert wait == pytest.approx(middle / 2 + middle * chance)


@pytest.mark.parametrize(
    "code", ["SlowDown", "TooManyRequests", "RequestLimitExceeded", "ServiceUnavailable", "503"]
)
def test_a_throttle_slows_the_run_and_other_errors_do_not(code: str) -> None:
    bare = code.isdecimal()
    place = RequestTarget("north", "s3.example.net")
    assert classify("PUT", 503, "" if bare else code, place).slow_down
    assert not classify("PUT", 500, "InternalError", place).slow_down
    assert not classify("PUT", 403, "AccessDenied", place).slow_down


@pytest.mark.parametrize("offset", [None, 0.0, 59.0, -59.0])
def test_a_clock_that_is_right_enough_is_not_mentioned(offset: float | None) -> None:
    assert retry_policy.clock_warning(offset) == ""


@pytest.mark.parametrize(("offset", "words"), [(61.0, "behind"), (-600.0, "10 min ahead")])
def test_a_clock_that_is_wrong_is_told_before_s3_refuses(offset: float, words: str) -> None:
    assert words in retry_policy.clock_warning(offset)


FAILED, DOWN = (Outcome.FAILED, Exit.ERROR), (Outcome.UPLINK_DOWN, Exit.UPLINK_DOWN)
NOTHING = (Outcome.NOTHING_CONFIRMED, Exit.NOTHING_CONFIRMED)


@pytest.mark.parametrize(
    ("ending", "code", "counts", "called"),
    [
        # picked, attempts, confirmed, set aside
        ("", Exit.OK, (0, 0, 0, 0), (Outcome.NOTHING_TO_DO, Exit.OK)),
        ("", Exit.OK, (5, 5, 5, 0), (Outcome.DONE, Exit.OK)),
        ("", Exit.OK, (5, 9, 1, 0), (Outcome.DONE, Exit.OK)),
        ("", Exit.OK, (5, 5, 4, 1), (Outcome.DONE, Exit.SET_ASIDE)),
        ("", Exit.OK, (1, 0, 0, 1), (Outcome.DONE, Exit.SET_ASIDE)),  # its file cannot be read
        ("", Exit.OK, (1, 1, 0, 0), NOTHING),
        ("", Exit.OK, (5, 5, 0, 5), NOTHING),
        (Outcome.BATCH_SENT, Exit.OK, (5, 5, 0, 0), NOTHING),
        (Outcome.TIME_SPENT, Exit.OK, (5, 5, 0, 0), NOTHING),
        (Outcome.ALLOWANCE_SPENT, Exit.OK, (5, 5, 0, 0), NOTHING),
        (Outcome.ALLOWANCE_SPENT, Exit.OK, (5, 0, 0, 0), (Outcome.ALLOWANCE_SPENT, Exit.OK)),
        (Outcome.STOPPED, Exit.OK, (5, 5, 0, 0), (Outcome.STOPPED, Exit.NOTHING_CONFIRMED)),
        (Outcome.MADE_WAY, Exit.OK, (5, 5, 1, 0), (Outcome.MADE_WAY, Exit.OK)),
        (*FAILED, (5, 5, 0, 0), FAILED),
        (*DOWN, (5, 5, 0, 0), DOWN),
    ],
)
def test_a_run_that_tried_and_confirmed_nothing_is_called_so(
    ending: Outcome, code: Exit, counts: tuple[int, int, int, int], called: tuple[Outcome, Exit]
) -> None:
    picked, attempts, confirmed, aside = counts
    assert called == retry_policy.conclude(
        ending, code, picked=picked, attempts=attempts, confirmed=confirmed, set_aside=aside
    )


def test_what_is_said_of_objects_that_are_gone_names_the_first() -> None:
    assert retry_policy.gone_from_bucket([], []) == ""
    gone = retry_policy.gone_from_bucket(["k/a", "k/b"], [])
    assert "as k/a;" in gone and "set aside" in gone and "lost here" not in gone
    lost = retry_policy.gone_from_bucket([], ["k/c", "k/d", "k/e"])
    assert "as k/c:" in lost and "lost here" in lost and "set aside" not in lost
    assert "s3.check_copies" in gone and "s3.check_copies" in lost


def test_why_what_was_confirmed_is_not_shown() -> None:
    refused = SendError(ErrorKind.FATAL, "denied", "HEAD is refused.")
    assert retry_policy.not_shown(refused).endswith("HEAD is refused.")
    assert retry_policy.not_shown(None).endswith("it shows another ETag, and no SHA-256.")
