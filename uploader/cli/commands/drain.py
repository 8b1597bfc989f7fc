"""``headgate drain``: one run of the uploader."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from headgate.host import logs
from headgate.host.exit_codes import MEANING, Exit
from headgate.host.processes import end_with_parent
from headgate.host.progress import can_show
from headgate.monitor.checks import images
from headgate.monitor.textfile import leave_metrics
from headgate.settings.units import (
    UnitError,
    human_duration,
    human_size,
    parse_duration,
    parse_size,
)
from headgate.spool.errors import LockHeld
from headgate.spool.site.jobs import ALREADY_DONE, ALREADY_RUNNING
from headgate.spool.site.outcome import HELD_BACK, Outcome
from headgate.spool.site.runs import Run
from headgate.spool.site.triggers import KINDS
from headgate.spool.spool import Spool
from uploader.cli.doctor.findings import Finding, Severity, would_lose
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.verbosity import Verbosity
from uploader.run.bounds import RunRequest
from uploader.run.start import AlreadyDone, run

_TRIGGERS = [kind for kind in KINDS if kind != "cron"]
_LAST_SAID = "cron.said"
"""The site's memory of the outcome, and why, that cron's mail last told of."""
_WELL = ["well"]


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_duration(value)
    except UnitError as error:
        raise click.BadParameter(str(error)) from error


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int:
    try:
        return 0 if value is None else parse_size(value)
    except UnitError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    epilog=ending(
        "headgate drain",
        "headgate drain --until-empty",
        "headgate drain --max-time 10min --max-bytes 5GB",
        "headgate drain --dry-run  # what is waiting, and whether a run could work",
        exits=tuple(MEANING),
        meaning={
            Exit.OK: "nothing is waiting, or time or budget ran out with images still waiting"
        },
    )
)
@click.option(
    "--until-empty", is_flag=True, help="Continue until nothing is waiting, within the budget."
)
@click.option(
    "--max-time", callback=_duration, metavar="5min", help="Stop starting uploads after this long."
)
@click.option(
    "--max-bytes",
    callback=_size,
    metavar="500MB",
    help="Stop starting uploads after this many bytes.",
)
@click.option("--device", metavar="NAME", default="", help="Send only this device's images.")
@click.option("--cron", is_flag=True, help="Log to log.file; print only when the outcome changes.")
@click.option("--trigger", type=click.Choice(_TRIGGERS), default="hand", hidden=True)
@click.option("--sender", default="", hidden=True)
@click.option("--with-parent", type=int, default=0, hidden=True)
@click.option("--job", default="", hidden=True)
@click.option(
    "--strict", is_flag=True, help="Exit with 8 or 10 if images are still waiting at the end."
)
@click.option("--dry-run", is_flag=True, help="Print what a run would find, and send no image.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def command(
    context: Context,
    until_empty: bool,
    max_time: int | None,
    max_bytes: int,
    device: str,
    cron: bool,
    trigger: str,
    sender: str,
    with_parent: int,
    job: str,
    strict: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload waiting images within the cap, and move them to done/.

    A run ends when nothing is waiting, or shortly before the next one is due. Press Ctrl-C once to
    finish the uploads in progress and stop.
    """
    settings = context.settings
    if not settings.goes_to:
        fail("no bucket is set; set bucket under [s3], or HEADGATE_S3_BUCKET", Exit.USAGE)
    context.become_owner()
    if with_parent:
        end_with_parent(with_parent)  # the kernel forgets it where the user changes
    if dry_run:
        _rehearse(context, device, as_json, ask=not cron)
        return
    unattended = cron or bool(job)
    log_file = Path(settings.log.file) if unattended and settings.log.file else None
    # Opened again by each run, so that logrotate needs no signal.
    with log_to(log_file) as stream:
        by_hand = not cron and trigger == "hand"
        usual = logging.WARNING if by_hand else logging.INFO
        level = context.level(usual)  # the log of a run that no one watches is not made quiet
        logs.configure(stream, level=min(level, usual) if log_file else level)
        order = RunRequest(
            trigger="cron" if cron else trigger,
            until_empty=until_empty,
            max_seconds=max_time,
            max_bytes=max_bytes,
            show_progress=by_hand and not as_json and _may_show(context.verbosity),
            sender=sender,
            job=job,
            device=device,
        )
        with context.spool(probe=True, tells=True) as spool:
            if not job:  # a device may be enrolled after its message was written
                _check_device(spool, device)
            try:
                report = run(spool, order)
            except LockHeld as error:
                leave_metrics(spool)
                if as_json:
                    print_json({"outcome": ALREADY_RUNNING, "message": str(error)})
                elif not cron:
                    print_text(f"headgate: {error}; try again later", err=True)
                raise SystemExit(Exit.LOCKED) from error
            except AlreadyDone as served:
                print_json({"outcome": ALREADY_DONE, "message": str(served)})
                raise SystemExit(Exit.OK) from served
            leave_metrics(spool)
            totals = spool.catalog.totals()
            waiting = totals.waiting + totals.sending  # what a killed run was sending waits as well
            if as_json:
                print_json({name: getattr(report, name) for name in Run.__slots__})
            elif not cron or _is_news(spool, report):
                _tell(context, report, waiting.images)
    code = report.exit_code or 0
    if strict and code == Exit.OK and waiting.images:
        code = Exit.BUDGET_SPENT if report.outcome in HELD_BACK else Exit.STILL_WAITING
    raise SystemExit(code)


def _tell(context: Context, report: Run, waiting: int) -> None:
    """What came of the run; what failed also where little is said."""
    if report.exit_code:
        print_text(_summary(report, waiting))
    else:
        context.say(_summary(report, waiting))


def _may_show(verbosity: Verbosity) -> bool:
    """Whether to show the progress: with log lines only on a terminal, where it makes room."""
    if verbosity is Verbosity.VERBOSE:
        return can_show(sys.stderr)
    return verbosity is Verbosity.NORMAL


_DISK_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


@contextmanager
def log_to(path: Path | None) -> Iterator[TextIO]:
    """The log of a run started by cron, or stderr. A path that cannot be written ends it; a disk
    that is full, or fails, does not: images leave without a log."""
    if path is None:
        yield sys.stderr
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed below, whatever it says)
    except OSError as error:
        if error.errno not in _DISK_FAILS:
            fail(f"cannot write the log {path}: {error.strerror}; correct log.file", Exit.USAGE)
        yield sys.stderr
        return
    try:
        yield file
    finally:
        with suppress(OSError):  # what could not be written is tried once more
            file.close()


def _summary(report: Run, waiting: int) -> str:
    parts = [report.outcome, f"{report.images} uploaded ({human_size(report.bytes)})"]
    if waiting:
        parts.append(f"{waiting} still waiting")
    if report.set_aside:
        parts.append(f"{report.set_aside} set aside: headgate list --state set_aside")
    if report.message:
        parts.append(report.message)
    if report.ended_at and report.images:
        parts.append(f"in {human_duration((report.ended_at - report.started_at).total_seconds())}")
    return "headgate drain: " + "; ".join(parts)


def _is_news(spool: Spool, report: Run) -> bool:
    """Whether cron's mail should tell of it: only when the outcome is another than last time. A
    run that found nothing due, while what was tried before is not confirmed, changes nothing."""
    if report.exit_code == Exit.OK and not report.success:
        return False
    before = spool.site.get(_LAST_SAID) or _WELL
    if report.outcome is Outcome.NOTHING_CONFIRMED:
        if before[0] == Outcome.FAILED:
            return False  # which says more; the two may take turns while the trouble is the same
        word = [report.outcome.value]  # its message counts, and would be news each time
    elif report.exit_code != Exit.OK:
        word = [report.outcome.value, report.message]
    else:
        word = _WELL
    spool.site.put(_LAST_SAID, word)
    return bool(word != before)


def _check_device(spool: Spool, device: str) -> None:
    """End the command if no such device is known: a wrong name looks like nothing to do."""
    if device and not spool.knows_device(device):
        fail(f"no device {device!r} is known; headgate device list shows their names", Exit.USAGE)


def _destination(spool: Spool) -> Iterator[Finding]:
    """What doctor would say of the place where images go."""
    from uploader.cli.doctor import collect, destination  # a run does not pay for them

    return destination.judge(collect.destination(spool, "headgate drain --dry-run"))


def _rehearse(context: Context, device: str, as_json: bool, *, ask: bool) -> None:
    """Say what a run would find, the destination included; exit code 1 if it could send nothing.

    Cron's own trial does not ask there: its line may be installed before the uplink works.
    """
    settings = context.settings
    with context.spool(probe=True) as spool:
        _check_device(spool, device)
        totals = spool.catalog.totals()
        waits = spool.catalog.backlog.waiting(device) if device else totals.waiting
        cap = spool.uplink.cap()
        spool.probe()
        found = list(_destination(spool)) if ask else []
    trouble = [one for one in found if one.level is not Severity.OK]
    stopped = would_lose(found)
    if as_json:
        print_json(
            {
                "waiting_images": waits.images,
                "waiting_bytes": waits.bytes,
                "rate": cap.rate,
                "paused": cap.is_pause,
                "spool": str(settings.spool.path),
                "bucket": settings.goes_to,
                "could_send": not stopped,
                "troubles": [one.sentence for one in trouble],
            }
        )
    else:
        for one in trouble:
            print_text(f"{one.sentence}; to fix: {one.mend}")
        where = f"from {settings.spool.path} to {settings.goes_to}"
        if stopped:
            print_text(f"could not send {images(waits)} {where}")
        elif cap.limit is not None and cap.is_pause:
            print_text(f"would send nothing: uploads are paused {cap.limit.words}")
        else:
            print_text(f"would send {images(waits)} {where} at up to {human_size(cap.rate)}/s")
    if stopped:
        raise SystemExit(Exit.ERROR)
