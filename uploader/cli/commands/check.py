"""``headgate check``: what is wrong now, the most serious first; ``watch`` and ``alert list`` are
older names of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import click

from headgate.actions import controls, site_day
from headgate.host import logs
from headgate.host.exit_codes import Exit
from headgate.monitor.grouping import worst
from headgate.monitor.rules import Level
from headgate.shared.connection import SharedTrouble
from headgate.spool.errors import DiskError, SpoolElsewhere, SpoolUnsuitable
from headgate.spool.owner import opened
from headgate.spool.site.users import UserTrouble
from headgate.spool.spool import Spool
from uploader.cli.commands.drain import log_to
from uploader.cli.help_epilog import ending
from uploader.cli.main import Context, fail, print_json, print_text
from uploader.cli.report import Report, exit_of, fields, look, show

EXITS = (Exit.OK, Exit.ERROR, Exit.USAGE, Exit.SET_ASIDE, Exit.UPLINK_DOWN)
MEANING: Mapping[Exit, str] = {
    Exit.OK: "nothing is wrong",
    Exit.ERROR: "something is wrong, or another error",
    Exit.SET_ASIDE: "images are set aside, and nothing else is wrong",
}
_NAGIOS = {Level.OK: (0, "OK"), Level.NOTE: (0, "OK"), Level.WARN: (1, "WARNING"),
           Level.BAD: (2, "CRITICAL")}  # fmt: skip
SETTLED_A_MINUTE = 1000
"""Images whose state is announced again, those first of which it was not for the longest."""
_UNKNOWN = 3
"""A plugin's exit code for "cannot say" (https://www.monitoring-plugins.org/doc/guidelines.html)"""


@click.command(
    epilog=ending(
        "headgate check",
        "headgate check --json | jq -r '.groups[].title'",
        "headgate check --notify  # and send what is due; --cron does it silently",
        "headgate check --nagios  # for Nagios, Icinga, Checkmk: one line, exit codes 0 to 3",
        exits=EXITS,
        meaning=MEANING,
    )
)
@click.option("--notify", is_flag=True, help="Send the messages that are due.")
@click.option("--cron", is_flag=True, help="As --notify, printing nothing; start requested drains.")
@click.option("--machine", is_flag=True, help="Also check this machine, as headgate doctor does.")
@click.option("--nagios", is_flag=True, help="Print one line for Nagios; its exit codes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    context: Context, notify: bool, cron: bool, machine: bool, nagios: bool, as_json: bool
) -> None:
    """Check now what is wrong, the most serious first.

    Exit code 5 if the uplink is down, 1 if something else is wrong, 3 if the only alert is that
    images were set aside. Without --notify nothing is sent. The older names answer the same:
    headgate watch (check --notify), alert list (check), doctor (check --machine).
    """
    if nagios and (cron or as_json or machine):
        fail("use --nagios without --cron, --json and --machine", Exit.USAGE)
    if machine and (cron or notify):
        fail("use --machine without --notify and --cron", Exit.USAGE)
    if nagios:
        raise SystemExit(_for_nagios(context, notify=notify))
    if machine:
        from uploader.cli.commands.doctor import check_machine  # cron's look does not pay for it

        raise SystemExit(check_machine(context, as_json=as_json).exit)
    raise SystemExit(check(context, notify=notify or cron, cron=cron, as_json=as_json))


def check(context: Context, *, notify: bool, cron: bool = False, as_json: bool = False) -> Exit:
    """Look, print the report, and say with which code the command ends."""
    context.become_owner()
    with context.spool(tells=notify) as spool:
        with _log(context, cron):
            if notify:
                controls.notice_settings(spool)
                if not controls.exchange(spool):
                    site_day.tell(spool)
            report = look(spool, notify=notify, risk=str(spool.risk() or ""))
            if notify and context.settings.uplink.shared:
                _tell_the_others(spool, report)
        if cron and notify and spool.site.jobs.queued():
            from uploader.queue import pending_jobs as jobs  # a look does not pay for a run

            with log_to(_log_file(context, cron)) as stream:
                logs.configure(stream, level=logging.INFO)
                jobs.carry_out(spool)
    if as_json:
        print_json(fields(report))
    elif not cron:
        show(report)
    return Exit.OK if cron else exit_of(report)


def _tell_the_others(spool: Spool, report: Report) -> None:
    """Publish this gateway's report to those of its site, and what became of its images. That Redis
    is away is an alert of the lease's; what this look is for goes on."""
    settings = spool.settings
    from headgate.monitor import fleet, fleet_reports  # where an uplink is shared alone

    wrong = report.groups
    own = fleet.of_snapshot(
        report.facts,
        settings.uplink.gateway,
        version("headgate"),
        worst(wrong),
        wrong[0].title if wrong else "",
    )
    try:
        with closing(fleet_reports.Reports(settings.uplink.shared, settings.site.name)) as told:
            told.publish(own)
        if spool.elsewhere is not None:
            spool.elsewhere.settle(spool.receipt, SETTLED_A_MINUTE)
    except SharedTrouble as trouble:
        logs.get().warning("fleet.unreported", reason=str(trouble))


def _log_file(context: Context, cron: bool) -> Path | None:
    return Path(context.settings.log.file) if cron and context.settings.log.file else None


@contextmanager
def _log(context: Context, cron: bool) -> Iterator[TextIO | None]:
    """Cron's look logs to the log file, one by hand only errors."""
    log_file = _log_file(context, cron)
    with log_to(log_file) as stream:
        usual = logging.INFO if cron else logging.ERROR
        level = usual if log_file else context.level(usual)
        logs.configure(stream, level=level, late=True)
        yield stream


def _for_nagios(context: Context, *, notify: bool) -> int:
    """One line, and its exit code: a spool that cannot be opened is critical, since then nothing
    is received."""
    try:
        settings = context.settings
    except SystemExit:
        print_text("HEADGATE UNKNOWN - the settings cannot be read: headgate config check")
        return _UNKNOWN
    try:
        with opened(settings) as spool, _log(context, cron=False):
            report = look(spool, notify=notify)
    except (SpoolElsewhere, SpoolUnsuitable, DiskError, UserTrouble) as error:
        print_text(f"HEADGATE CRITICAL - {_one_line(str(error))}")
        return _NAGIOS[Level.BAD][0]
    code, word = _NAGIOS[worst(report.groups)]
    said = "; ".join(group.title for group in report.groups) or "nothing is wrong"
    facts = report.facts
    numbers = {
        "waiting": facts.waiting.images,
        "set_aside": facts.set_aside.images,
        "unaccounted": facts.unaccounted,
        "free_bytes": facts.free_bytes,
    }
    perfdata = " ".join(f"{name}={number}" for name, number in numbers.items())
    print_text(f"HEADGATE {word} - {_one_line(said)} | {perfdata}")
    return code


def _one_line(text: str) -> str:
    """Without what separates a plugin's text from its numbers and lines."""
    return " ".join(text.replace("|", "/").split())
