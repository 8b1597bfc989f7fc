"""The lines that cron runs, and how they go into a tab and out again. Pure.

There are two: the run every interval, and the watch every minute. Foreign lines are never parsed: a
tab is bytes, ours are the lines that end in a mark, and every other byte stays what it is.
python-crontab renders our line and checks it; its own rendering of a whole tab would change foreign
ones (it strips blanks and moves variables).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from crontab import CronTab

from headgate.settings.units import counted, format_duration

MARKS: Mapping[str, str] = {"drain": "# headgate drain", "watch": "# headgate watch"}
"""End our lines, by their task. For cron they are part of the command, for the shell a comment."""
JOINED = " (the line before had no end)"
"""Ends our line, after its mark, where a newline was added before it, so that taking it out
restores the bytes."""
LONGEST = 998
"""Bytes of a command that cron takes (MAX_COMMAND, cron.h); it ignores a longer one in silence."""

_MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS = (1, 2, 3, 4, 6, 8, 12)
_SCHEDULES: Mapping[int, str] = {
    60: "* * * * *",
    **{60 * m: f"*/{m} * * * *" for m in _MINUTES[1:]},
    3600: "0 * * * *",
    **{3600 * h: f"0 */{h} * * *" for h in _HOURS[1:]},
    86400: "0 0 * * *",
}
_SHORTHANDS = {"@hourly": "0 * * * *", "@daily": "0 0 * * *"}  # as python-crontab renders them
_OURS = {
    task: re.compile(rb"[^#\n][^\n]*" + re.escape(mark.encode()) + rb"( \([a-z ]+\))?")
    for task, mark in MARKS.items()
}
_VARIABLE = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z_][^\s=]*)\s*=\s*(.*?)\s*""")


class CronError(Exception):
    """What was asked cannot be given to cron; the sentence says why and what can."""


@dataclass(frozen=True, slots=True)
class ScheduleFault:
    """How what starts the runs differs from the settings, and what to type, where the
    sentence does not say it. ``stopped``: nothing starts a run."""

    sentence: str
    fix: str = "headgate cron install"
    stopped: bool = False

    def __str__(self) -> str:
        return "; ".join(part for part in (self.sentence, self.fix) if part)


@dataclass(frozen=True, slots=True)
class CronEntry:
    """One crontab line: a task every ``interval_seconds``; ``user`` only in a file of
    /etc/cron.d."""

    interval_seconds: int
    headgate: str
    config: str
    user: str | None = None
    task: str = "drain"  # or "watch"
    setting: str = field(default="uplink.interval", compare=False)  # where the interval is from


def schedule(interval_seconds: int, setting: str = "uplink.interval") -> str:
    """The five fields of a run at this interval; CronError names the nearest two that exist.

    cron restarts its steps each hour and each day, so only what divides 60 minutes or 24 hours
    comes evenly.
    """
    if found := _SCHEDULES.get(interval_seconds):
        return found
    below = [seconds for seconds in _SCHEDULES if seconds < interval_seconds][-1:]
    above = [seconds for seconds in _SCHEDULES if seconds > interval_seconds][:1]
    nearest = " or ".join(format_duration(seconds) for seconds in below + above)
    raise CronError(
        f"cron cannot start a run every {format_duration(interval_seconds)}: it starts counting "
        "again "
        f"each hour and each day; set {setting} to {nearest}"
    )


def _argument(text: str, what: str) -> str:
    if not text.startswith("/"):
        raise CronError(f"{what} {text!r} must be an absolute path: cron has no working folder")
    # Crons differ in what a backslash before anything but % means; a line break would end the line.
    if not text.isprintable() or "\\" in text:
        raise CronError(f"{what} {text!r} has a character that cron cannot carry; rename it")
    return shlex.quote(text)


def command(line: CronEntry) -> str:
    """What the shell gets when cron runs the line."""
    headgate = _argument(line.headgate, "the command's path")
    config = _argument(line.config, "the settings file")
    return f"{headgate} --config {config} {line.task} --cron"


def make(line: CronEntry) -> str:
    """The line as a tab has it, without its newline; CronError when cron cannot carry it."""
    run = command(line)
    if line.user is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", line.user):
        raise CronError(f"{line.user!r} is not a user's name")
    tab = CronTab(tab="", user=False if line.user is not None else None)
    job = tab.new(command=run, comment=MARKS[line.task].removeprefix("# "), user=line.user)
    job.setall(schedule(line.interval_seconds, line.setting))
    made = str(job.render())
    if len(made.encode("utf-8", "surrogateescape")) > LONGEST:
        raise CronError(f"the line is longer than the {LONGEST} bytes that cron takes")
    return made


def parse(text: str, *, with_user: bool) -> CronEntry | None:
    """The line that ``make`` made this of; None if it did not, or if the line was changed since."""
    fields = 2 if text.startswith("@") else 6
    text = text.removesuffix(JOINED)
    task = next((task for task, mark in MARKS.items() if text.endswith(mark)), "drain")
    words = text.removesuffix(MARKS[task]).split(" ", fields)
    if len(words) <= fields and with_user:
        return None
    head = " ".join(words[: fields - 1])
    user = words[fields - 1] if with_user else None
    rest = " ".join(words[fields if with_user else fields - 1 :])
    try:
        arguments = shlex.split(rest.replace("\\%", "%"))
    except ValueError:
        return None
    seconds = {fields: seconds for seconds, fields in _SCHEDULES.items()}.get(
        _SHORTHANDS.get(head, head)
    )
    if seconds is None or len(arguments) != 5 or arguments[1::2] != ["--config", task]:
        return None
    if arguments[4] != "--cron":
        return None
    return CronEntry(seconds, arguments[0], arguments[2], user, task)


def _is_ours(line: bytes) -> bool:
    return any(pattern.fullmatch(line) for pattern in _OURS.values())


def find(tab: bytes, task: str = "") -> tuple[str, ...]:
    """Our lines in a tab, or those of one task, without their newlines."""
    ours = _OURS[task].fullmatch if task else _is_ours
    lines = (line for line in tab.split(b"\n") if ours(line))
    return tuple(line.decode("utf-8", "surrogateescape") for line in lines)


def put(tab: bytes, made: str) -> bytes:
    """The tab with this as its only line of ours for its task: where it was, or at the end."""
    text = made.encode("utf-8", "surrogateescape")
    ours = next(pattern for pattern in _OURS.values() if pattern.fullmatch(text))
    lines = tab.split(b"\n")
    places = [place for place, line in enumerate(lines) if ours.fullmatch(line)]
    if not places:
        if tab and not tab.endswith(b"\n"):
            return tab + b"\n" + text + JOINED.encode() + b"\n"
        return tab + text + b"\n"
    first = places[0]
    if lines[first].endswith(JOINED.encode()):
        text += JOINED.encode()
    lines[first] = text
    for place in reversed(places[1:]):
        del lines[place]
    return b"\n".join(lines)


def take_out(tab: bytes) -> bytes:
    """The tab without our lines, every other byte as it is."""
    kept: list[bytes] = []
    joined = False
    lines = tab.split(b"\n")
    for place, line in enumerate(lines):
        if not _is_ours(line):
            kept.append(line)
        elif line.endswith(JOINED.encode()) and not lines[-1]:
            joined = all(_is_ours(after) for after in lines[place:-1])
    restored = b"\n".join(kept)
    return restored[:-1] if joined else restored


def variables(tab: bytes) -> dict[str, str]:
    """The environment that the tab's own lines give our line (crontab(5)); later ones win."""
    found: dict[str, str] = {}
    for line in tab.split(b"\n"):
        if _is_ours(line):
            break
        match = _VARIABLE.fullmatch(line.decode("utf-8", "surrogateescape"))
        if match and not line.lstrip().startswith(b"#"):
            found[_unquoted(match[1])] = _unquoted(match[2])
    return found


def has_jobs(tab: bytes) -> bool:
    """Whether anything in it would run: not so comments, blank lines and variables."""
    for line in tab.split(b"\n"):
        text = line.decode("utf-8", "surrogateescape").strip()
        if text and not text.startswith("#") and not _VARIABLE.fullmatch(text):
            return True
    return False


def _unquoted(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def compare(tab: bytes, wanted: CronEntry) -> list[ScheduleFault]:
    """How the tab differs from the settings; empty when it says what they say."""
    ours, what = find(tab, wanted.task), "runs" if wanted.task == "drain" else "watches"
    if not ours and wanted.task == "watch":
        return [
            ScheduleFault("alerts are not checked between runs: headgate watch is not in the tab")
        ]
    if not ours:
        why = "cron starts no run: there is no line of Headgate in the tab"
        return [ScheduleFault(why, stopped=True)]
    if len(ours) > 1:
        return [
            ScheduleFault(
                f"cron has {counted(len(ours), 'line')} of Headgate, so {what} start twice"
            )
        ]
    line = parse(ours[0], with_user=wanted.user is not None)
    if line is None:
        return [ScheduleFault(f"the line of Headgate in the tab was changed by hand: {ours[0]}")]
    faults = []
    if line.interval_seconds != wanted.interval_seconds and wanted.task == "watch":
        every = format_duration(line.interval_seconds)
        faults.append(f"cron watches every {every}, not every minute")
    elif line.interval_seconds != wanted.interval_seconds:
        faults.append(
            f"cron starts a run every {format_duration(line.interval_seconds)}, but "
            f"{wanted.setting} is {format_duration(wanted.interval_seconds)}"
        )
    if line.config != wanted.config:
        faults.append(f"cron's {what} read {line.config}, not {wanted.config}")
    if line.headgate != wanted.headgate:
        faults.append(f"cron runs {line.headgate}, not {wanted.headgate}")
    if line.user != wanted.user:
        faults.append(f"cron's {what} are {line.user}'s, not {wanted.user}'s")
    return [ScheduleFault(fault) for fault in faults]
