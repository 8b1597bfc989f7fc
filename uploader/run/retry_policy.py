"""What a run does about the result of an attempt. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headgate.host.clock import CLOCK_OFF_SECONDS, SIGNED_ALL_THE_SAME
from headgate.host.exit_codes import Exit
from headgate.settings.units import counted, human_size
from headgate.spool.site.outcome import CUT_SHORT, Outcome
from uploader.s3.errors import skew_words
from uploader.wire.errors import SendError

FIRST_WAIT_SECONDS = 15.0
LONGEST_WAIT_SECONDS = 3600.0
DOWN_IN_A_ROW = 3
"""Attempts in a row that reached nothing, after which the uplink counts as down."""
BROKEN = frozenset({"timeout", "connection-lost"})
"""Codes of a connection that broke or stalled: fewer of them may fare better."""
OF_THE_FILE = frozenset(
    {"changed", "file-changed", "file-unreadable", "not-a-file", "file-gone", "no-room"}
)
"""Codes of trouble with an image's own file, which tell nothing of the bucket."""
NOT_HELD = (
    "The bucket confirmed an image and does not hold it: what is sent there is lost, so nothing of "
    "it counts as sent. Run `headgate config check`, and use another server."
)


def wait_before_retry(attempts: int, random: Callable[[], float]) -> float:
    """Seconds: doubling from 15 s to an hour, times 0.5 to 1.5 so that images do not return in
    step (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015)."""
    wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(attempts, 20))
    return float(wait * (0.5 + random()))


def gone_from_bucket(gone: Sequence[str], lost: Sequence[str]) -> str:
    """What is said of objects that were confirmed and are no longer there, by their keys: ``gone``,
    with copies here, and ``lost``, whose copies were pruned. Nothing if there are none."""
    sentences = []
    if gone:
        sentences.append(
            f"{_were(gone)} confirmed once cannot be found in the bucket any more, as {gone[0]}; "
            "the copies here were set aside, and their receipts no longer say that the images are "
            "safe to erase. See who removes objects, then send them again with `headgate retry "
            "--all`."
        )
    if lost:
        sentences.append(
            f"{_were(lost)} confirmed, and whose copies here were pruned since, cannot be found in "
            f"the bucket any more, as {lost[0]}: they are lost here, and their receipts no longer "
            "say that the images are safe to erase. See who removes objects, and whether a camera "
            "or a backup has them; `headgate verify` names them. Only a sample is looked at each "
            "day, so there may be more."
        )
    if sentences:
        sentences.append(
            "If something takes images out on purpose, set s3.check_copies to off and discard "
            "these."
        )
    return " ".join(sentences)


def _were(keys: Sequence[str]) -> str:
    return counted(len(keys), "image", ("that was", "that were"))


def larger_than_a_day(size: int, daily: int) -> str:
    """Why an image is set aside that a whole day's allowance does not cover."""
    return (
        f"It has {human_size(size)}, and uplink.daily lets {human_size(daily)} leave on one day, "
        "so it cannot be sent. Raise uplink.daily, then headgate retry."
    )


def not_shown(error: SendError | None) -> str:
    """Why a run ends where what was confirmed cannot be seen."""
    why = error.message if error is not None else "it shows another ETag, and no SHA-256."
    return f"The bucket confirmed an image and does not show it, so nothing counts as sent: {why}"


def clock_warning(offset_seconds: float | None) -> str:
    """A sentence when S3's clock and ours differ noticeably, long before S3 minds; else empty."""
    if offset_seconds is None or abs(offset_seconds) < CLOCK_OFF_SECONDS:
        return ""
    return (
        f"This machine's clock {skew_words(offset_seconds)}; set it (timedatectl set-ntp true). "
        f"{SIGNED_ALL_THE_SAME}"
    )


def conclude(
    ending: Outcome, code: Exit, *, picked: int, attempts: int, confirmed: int, set_aside: int
) -> tuple[Outcome, Exit]:
    """What a run is called, and its exit code. ``ending``: why it picked no more, if it did not
    simply come to the end of what was due.

    A run that tried and confirmed nothing is called so whatever ended it, unless it ended with an
    error of its own or was stopped; then at least its exit code says so.
    """
    outcome = ending or (Outcome.DONE if picked else Outcome.NOTHING_TO_DO)
    if code is not Exit.OK:
        return outcome, code
    if attempts and not confirmed:
        called = outcome if outcome in CUT_SHORT else Outcome.NOTHING_CONFIRMED
        return called, Exit.NOTHING_CONFIRMED
    return outcome, Exit.SET_ASIDE if set_aside else Exit.OK
