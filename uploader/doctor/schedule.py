"""What starts the runs, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spool.units import format_duration, human_duration
from uploader.doctor.findings import Finding, loses, ok, warning


@dataclass(frozen=True, slots=True)
class Schedule:
    """Cron's tab or systemd's timer, and the run that it started last."""

    by_timer: bool
    faults: Sequence[str]  # as uploader.cron.tabs.check says them
    starter_runs: bool  # a cron daemon, or the timer
    interval_seconds: int
    last_run_seconds: float | None  # since it began; None: none yet
    last_outcome: str
    last_failed: bool


_FULL = "images wait until the disk is full"


def judge(seen: Schedule) -> Iterator[Finding]:
    """Without runs everything waits, and what comes when the disk is full is refused."""
    for fault in seen.faults:
        text, found, mend = fault.rpartition("; ")
        text, mend = (text, mend) if found else (mend, "headgate cron install")
        if text.startswith("cron starts no run"):
            yield loses("schedule", f"{text}: {_FULL}", mend)
        else:
            yield warning("schedule", text, mend)
    if not seen.starter_runs:
        what = "headgate-drain.timer does not run" if seen.by_timer else "no cron runs here"
        mend = "systemctl enable --now headgate-drain.timer" if seen.by_timer else (
            "systemctl enable --now cron (or: service cron start)"
        )  # fmt: skip
        yield loses("schedule", f"{what}: {_FULL}", mend)
    yield from _last(seen)


def _last(seen: Schedule) -> Iterator[Finding]:
    every, age = format_duration(seen.interval_seconds), seen.last_run_seconds
    who = "the timer" if seen.by_timer else "cron"
    if age is None:
        if not seen.faults and seen.starter_runs:
            yield warning(
                "runs", f"none has started yet; {who} starts one every {every}", "headgate drain"
            )
        return
    ago = human_duration(age)
    if age > 2 * seen.interval_seconds + 60:
        yield loses(
            "runs",
            f"the last one began {ago} ago, and one is due every {every}: {_FULL}",
            "headgate drain, and see what it says",
        )
    elif seen.last_failed:
        yield warning(
            "runs", f"the last one failed {ago} ago: {seen.last_outcome}", "headgate drain"
        )
    else:
        yield ok("runs", f"the last one began {ago} ago ({seen.last_outcome}); every {every}")
