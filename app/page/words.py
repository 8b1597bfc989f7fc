"""How the pages word times, ages and addresses; the zone is this machine's, and named."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from headgate.settings.units import human_duration


def ago(now: datetime) -> Callable[[datetime], str]:
    """Ages at this instant, in one unit."""

    def say(at: datetime) -> str:
        seconds = (now - at).total_seconds()
        if -60 < seconds < 1:
            return "just now"
        return f"{coarse(seconds)} ago"

    return say


def coarse(seconds: float) -> str:
    """A span in its largest unit alone."""
    return " ".join(human_duration(seconds).split(" ")[:2])


def utc(at: datetime) -> str:
    """An instant as people read it, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: datetime) -> str:
    """An instant as people read it, in this machine's zone, with the zone's name."""
    return at.astimezone().strftime("%a %d %b %H:%M:%S %Z")


def short_clock(at: datetime) -> str:
    """An instant in this machine's zone without weekday and zone, for where the zone is named
    elsewhere."""
    return at.astimezone().strftime("%d %b %H:%M:%S")


def minute_clock(at: datetime) -> str:
    """An instant to the minute, with the zone, for what is not known more precisely."""
    return at.astimezone().strftime("%a %d %b %H:%M %Z")


def zone(at: datetime) -> str:
    """The name of this machine's zone at that time."""
    return at.astimezone().strftime("%Z")


def typed(command: str, *words: str) -> str:
    """A command to be copied into a shell, in which each of the words stays one."""
    return f"{command} {shlex.join(words)}"


def path(*parts: str) -> str:
    """An address below /, each part escaped."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def address(base: str, asked: Mapping[str, str], **changes: str | int) -> str:
    """``base`` with what was asked for and these changes; what is empty is left out."""
    wanted = {name: str(value) for name, value in {**asked, **changes}.items() if value != ""}
    return f"{base}?{urlencode(wanted)}" if wanted else base
