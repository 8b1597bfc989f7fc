"""The line that cron runs, and how it goes into a tab and out again. Pure.

Foreign lines are never parsed: a tab is bytes, ours is the line that ends in ``MARK``, and every
other byte stays what it is. python-crontab renders our line and checks it; its own rendering of a
whole tab would change foreign ones (it strips blanks and moves variables).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from crontab import CronTab

from spool.units import format_duration

MARK = "# headgate drain"
"""Ends our line. For cron it is part of the command, and a comment to the shell that runs it."""
JOINED = f"{MARK} (the line before had no end)"
"""Ends our line where a newline was added before it, so that taking it out restores the bytes."""
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
_OURS = re.compile(rb"[^#\n][^\n]*" + re.escape(MARK.encode()) + rb"( \([a-z ]+\))?")
_VARIABLE = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z_][^\s=]*)\s*=\s*(.*?)\s*""")


class CronError(Exception):
    """What was asked cannot be given to cron; the sentence says why and what can."""


@dataclass(frozen=True, slots=True)
class Line:
    """A run every ``interval_seconds``; ``user`` only in a file of /etc/cron.d."""

    interval_seconds: int
    headgate: str
    config: str
    user: str | None = None


def schedule(interval_seconds: int) -> str:
    """The five fields of a run every so many seconds; CronError names the nearest two that exist.

    cron restarts its steps each hour and each day, so only what divides 60 minutes or 24 hours
    comes evenly.
    """
    if found := _SCHEDULES.get(interval_seconds):
        return found
    below = [seconds for seconds in _SCHEDULES if seconds < interval_seconds][-1:]
    above = [seconds for seconds in _SCHEDULES if seconds > interval_seconds][:1]
    nearest = " or ".join(format_duration(seconds) for seconds in below + above)
    raise CronError(
        f"cron cannot start a run every {format_duration(interval_seconds)}: it counts anew "
        f"each hour and each day; set uplink.interval to {nearest}"
    )


def _argument(text: str, what: str) -> str:
    if not text.startswith("/"):
        raise CronError(f"{what} {text!r} must be an absolute path: cron has no working folder")
    # Crons differ in what a backslash before anything but % means; a line break would end the line.
    if not text.isprintable() or "\\" in text:
        raise CronError(f"{what} {text!r} has a character that cron cannot carry; rename it")
    return shlex.quote(text)


def command(line: Line) -> str:
    """What the shell gets when cron runs the line."""
    headgate = _argument(line.headgate, "the command's path")
    return f"{headgate} --config {_argument(line.config, 'the settings file')} drain --cron"


def make(line: Line) -> str:
    """The line as a tab has it, without its newline; CronError when cron cannot carry it."""
    run = command(line)
    if line.user is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*\$?", line.user):
        raise CronError(f"{line.user!r} is not a user's name")
    tab = CronTab(tab="", user=False if line.user is not None else None)
    job = tab.new(command=run, comment=MARK.removeprefix("# "), user=line.user)
    job.setall(schedule(line.interval_seconds))
    made = str(job.render())
    if len(made.encode("utf-8", "surrogateescape")) > LONGEST:
        raise CronError(f"the line is longer than the {LONGEST} bytes that cron takes")
    return made


def parse(text: str, *, with_user: bool) -> Line | None:
    """The line that ``make`` made this of; None if it did not, or somebody changed it since."""
    fields = 2 if text.startswith("@") else 6
    words = text.removesuffix(JOINED.removeprefix(MARK)).removesuffix(MARK).split(" ", fields)
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
    if seconds is None or len(arguments) != 5 or arguments[1::2] != ["--config", "drain"]:
        return None
    if arguments[4] != "--cron":
        return None
    return Line(seconds, arguments[0], arguments[2], user)


def find(tab: bytes) -> tuple[str, ...]:
    """Our lines in a tab, without their newlines."""
    lines = (line for line in tab.split(b"\n") if _OURS.fullmatch(line))
    return tuple(line.decode("utf-8", "surrogateescape") for line in lines)


def put(tab: bytes, made: str) -> bytes:
    """The tab with this as its only line of ours: where ours was, or at the end."""
    text = made.encode("utf-8", "surrogateescape")
    lines = tab.split(b"\n")
    places = [place for place, line in enumerate(lines) if _OURS.fullmatch(line)]
    if not places:
        if tab and not tab.endswith(b"\n"):
            return tab + b"\n" + text.removesuffix(MARK.encode()) + JOINED.encode() + b"\n"
        return tab + text + b"\n"
    first = places[0]
    if lines[first].endswith(JOINED.encode()):
        text = text.removesuffix(MARK.encode()) + JOINED.encode()
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
        if not _OURS.fullmatch(line):
            kept.append(line)
        elif line.endswith(JOINED.encode()) and place == len(lines) - 2 and not lines[-1]:
            joined = True
    restored = b"\n".join(kept)
    return restored[:-1] if joined else restored


def variables(tab: bytes) -> dict[str, str]:
    """The environment that the tab's own lines give our line (crontab(5)); later ones win."""
    found: dict[str, str] = {}
    for line in tab.split(b"\n"):
        if _OURS.fullmatch(line):
            break
        match = _VARIABLE.fullmatch(line.decode("utf-8", "surrogateescape"))
        if match and not line.lstrip().startswith(b"#"):
            found[_unquoted(match[1])] = _unquoted(match[2])
    return found


def _unquoted(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def compare(tab: bytes, wanted: Line) -> list[str]:
    """How the tab differs from the settings; empty when it says what they say."""
    mend = "headgate cron install"
    ours = find(tab)
    if not ours:
        return [f"cron starts no run: there is no line of Headgate in the tab; {mend}"]
    if len(ours) > 1:
        return [f"cron has {len(ours)} lines of Headgate, so runs start twice; {mend}"]
    line = parse(ours[0], with_user=wanted.user is not None)
    if line is None:
        return [f"the line of Headgate in the tab was changed by hand: {ours[0]}; {mend}"]
    faults = []
    if line.interval_seconds != wanted.interval_seconds:
        faults.append(
            f"cron starts a run every {format_duration(line.interval_seconds)}, but "
            f"uplink.interval is {format_duration(wanted.interval_seconds)}; {mend}"
        )
    if line.config != wanted.config:
        faults.append(f"cron's runs read {line.config}, not {wanted.config}; {mend}")
    if line.headgate != wanted.headgate:
        faults.append(f"cron runs {line.headgate}, not {wanted.headgate}; {mend}")
    if line.user != wanted.user:
        faults.append(f"cron's runs are {line.user}'s, not {wanted.user}'s; {mend}")
    return faults
