"""``headgate doctor``: check this machine for anything that could lose images."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from headgate.host.exit_codes import Exit
from headgate.settings.units import human_size
from headgate.spool import sqlite
from headgate.spool.errors import DiskError, LockHeld, SpoolElsewhere, SpoolUnsuitable
from headgate.spool.owner import opened
from uploader.cli import report
from uploader.cli.doctor import (
    accounts,
    clear_text,
    clock,
    collect,
    database,
    destination,
    disk,
    network,
    other_ways,
    people,
    schedule,
    shared_uplink,
)
from uploader.cli.doctor.destination import NotAsked
from uploader.cli.doctor.findings import Finding, Severity, loses, would_lose
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, print_json, print_text, styled
from uploader.s3.capability import Capability

_COLOURS = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.LOSES: "red"}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """With which code ``headgate check --machine`` ends, and whether this machine loses images."""

    exit: Exit
    loses: bool


@click.command(
    epilog=ending(
        "headgate doctor",
        "headgate doctor --json",
        exits=(Exit.OK, Exit.ERROR, Exit.USAGE),
        meaning={Exit.OK: "nothing would lose images", Exit.ERROR: "something would lose images"},
    )
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(context: Context, as_json: bool) -> None:
    """Find what would lose images on this machine.

    Checks users, disk, clock, schedule, receiver and bucket: each line says what is wrong, and the
    line below it how to fix it. Then come the alerts: it is the older name of headgate check
    --machine, but its exit code goes by this machine alone. Sends a small test object to the
    bucket, within the cap. Images may be lost now, at a power cut, or once the disk is full. Run it
    as root to check everything.
    """
    if check_machine(context, as_json=as_json).loses:
        raise SystemExit(Exit.ERROR)


def check_machine(context: Context, *, as_json: bool) -> _Outcome:
    """Look at this machine and at the alerts, and print both."""
    findings, seen = _look(context)
    lost = would_lose(findings)
    if as_json:
        machine = {"loses": lost, "findings": [asdict(finding) for finding in findings]}
        print_json((report.fields(seen) if seen is not None else {}) | machine)
    else:
        for finding in findings:
            _show(finding)
        print_text(_sum(findings))
        if seen is not None:
            print_text("")
            report.show(seen)
    wrong = Exit.OK if seen is None else report.exit_of(seen)
    return _Outcome(wrong or (Exit.ERROR if lost else Exit.OK), lost)


def _look(context: Context) -> tuple[list[Finding], report.Report | None]:
    settings = context.settings
    process = collect.serving(settings.spool.path)  # before root's sight is given up
    seen = collect.accounts(settings, process)
    findings = [
        *accounts.judge(seen),
        *database.judge(sqlite.VERSION, sqlite.unsafe(sqlite.VERSION)),
    ]
    endpoint, now = "", None
    try:
        with opened(settings) as spool:
            findings += database.judge_contents(collect.databases(spool))
            findings += disk.judge(collect.disk(spool))
            findings += network.judge(collect.receiver(spool, process))
            findings += people.judge(collect.people(spool))
            findings += other_ways.judge(collect.other_ways(settings))
            findings += schedule.judge(collect.schedule(spool))
            findings += shared_uplink.judge(
                collect.shared_uplink(settings),
                human_size(settings.uplink.floor),
                spool.uplink.site_timetable(),
            )
            there = collect.destination(spool, "headgate doctor")
            findings += destination.judge(there)
            endpoint = there.endpoint if isinstance(there, Capability) else ""
            offset = None if isinstance(there, NotAsked) else there.clock_offset_seconds
            findings += clock.judge(collect.clock(spool, offset))
            now = report.look(spool, notify=False)
    except SpoolElsewhere as error:
        mend = "mount its disk; or, if that is gone for good: headgate spool adopt"
        findings.append(loses("spool", str(error), mend))
    except (SpoolUnsuitable, DiskError, LockHeld) as error:
        findings.append(loses("spool", str(error), "systemctl restart headgate-receiver"))
    findings += clear_text.judge(settings, endpoint)
    return findings, now


def _show(finding: Finding) -> None:
    word = styled(f"{finding.level.value:<8}", fg=_COLOURS[finding.level])
    print_text(word, f" {finding.check:<12} {finding.sentence}")
    if finding.mend:
        print_text(f"{'':<21} -> {finding.mend}")


def _sum(findings: list[Finding]) -> str:
    bad = sum(1 for finding in findings if finding.level is Severity.LOSES)
    doubtful = sum(1 for finding in findings if finding.level is Severity.WARNING)
    said = f"{bad} would lose images" if bad else "nothing here would lose images"
    return f"\n{said}" + (f"; {doubtful} to check" if doubtful else "")
