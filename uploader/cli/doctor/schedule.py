"""What starts the runs, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headgate.monitor.rules import BY_CODE, RUN_LATE
from headgate.settings.units import format_duration, human_duration
from uploader.cli.cron.entry import ScheduleFault
from uploader.cli.doctor.findings import Finding, loses, ok, warning


@dataclass(frozen=True, slots=True)
class Schedule:
    """Cron's tab or systemd's timer, and the run that it started last."""

    by_timer: bool
    faults: Sequence[ScheduleFault]
    starter_runs: bool  # a cron daemon, or the timer
    interval_seconds: int
    last_run_seconds: float | None  # since it ended; 0: one is at work; None: none yet
    last_outcome: str
    last_failed: bool
    queue: Queue | None = None  # where a job queue starts the runs
    triggers: tuple[str, ...] = ()  # which are set up or ever fired, and when they last did
    in_vain_seconds: float = 0.0  # how long runs have tried and confirmed nothing


@dataclass(frozen=True, slots=True)
class Queue:
    """The job queue, whose messages start the runs; cron starts fallback runs."""

    every_seconds: int
    installed: bool  # the extra that the worker needs
    quiet_seconds: float | None  # since a message came, or is expected to; None: not yet expected
    last_by: str  # who sent the last one


_FULL = "images wait until the disk is full"


def judge(seen: Schedule) -> Iterator[Finding]:
    """Judge what starts the runs: without runs everything waits, and what comes when the disk is
    full is refused."""
    for fault in seen.faults:
        if fault.stopped:
            yield loses("schedule", f"{fault.sentence}: {_FULL}", fault.fix)
        else:
            yield warning("schedule", fault.sentence, fault.fix or "headgate cron install")
    if not seen.starter_runs:
        what = "headgate-drain.timer does not run" if seen.by_timer else "no cron runs here"
        mend = "systemctl enable --now headgate-drain.timer" if seen.by_timer else (
            "systemctl enable --now cron (or: service cron start)"
        )  # fmt: skip
        yield loses("schedule", f"{what}: {_FULL}", mend)
    yield from _last(seen)
    if seen.triggers:
        yield ok("triggers", "; ".join(seen.triggers))
    if seen.queue is not None:
        yield _queue(seen.queue, format_duration(seen.interval_seconds))


def _queue(seen: Queue, floor: str) -> Finding:
    """Nothing is lost without it: cron's fallback runs continue."""
    every, quiet = format_duration(seen.every_seconds), seen.quiet_seconds
    if not seen.installed:
        return warning(
            "queue",
            "the worker's packages are not installed; only cron's fallback runs start, every "
            f"{floor}",
            "make install EXTRAS=queue",
        )
    if quiet is None or quiet <= RUN_LATE.seconds(seen.every_seconds):
        ago = "" if quiet is None else f", the last {human_duration(max(0.0, quiet))} ago"
        by = f" ({seen.last_by})" if seen.last_by else ""
        return ok("queue", f"a message is due every {every}{ago}{by}")
    return warning(
        "queue",
        BY_CODE["queue-silent"].sentence.format(
            quiet=human_duration(quiet),
            every=human_duration(seen.every_seconds),
            floor=f" Cron starts a fallback run every {floor}.",
        ),
        "systemctl status headgate-worker",
    )


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
    if age > RUN_LATE.seconds(seen.interval_seconds):
        yield loses(
            "runs",
            BY_CODE["no-run"].sentence.format(
                quiet=ago, every=human_duration(seen.interval_seconds)
            ),
            "headgate drain, and read its output",
        )
    elif seen.in_vain_seconds:
        yield loses(
            "runs",
            f"no image they tried was confirmed for {human_duration(seen.in_vain_seconds)}"
            f" ({seen.last_outcome}): {_FULL}",
            "headgate config check",
        )
    elif seen.last_failed:
        yield warning(
            "runs",
            f"the last one did not succeed, {ago} ago: {seen.last_outcome}",
            "headgate drain",
        )
    else:
        yield ok("runs", f"the last one was {ago} ago ({seen.last_outcome}); every {every}")
