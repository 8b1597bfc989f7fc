"""Which device a file is of, by its place below the folder that is read. Pure."""

from __future__ import annotations

import re

from headgate.settings.intake import DEVICE
from headgate.spool.image import names

_WILD = {"*": "[^/]*", "?": "[^/]"}


def device_of(rule: str, relative: str) -> str | None:
    """The device of the file at ``relative``; None if the rule says nothing of it.

    A rule is a device's name, a pattern with ``{device}`` (``*`` and ``?`` as a shell has them; one
    without a slash is for the file's name alone), or empty for the first sub-folder's name.
    """
    if not rule:
        first, _, rest = relative.partition("/")
        found = first if rest else ""
    elif DEVICE not in rule:
        found = rule
    else:
        parts = re.split(rf"({re.escape(DEVICE)}|[*?])", rule)
        pattern = "".join(_part(part) for part in parts)
        text = relative if "/" in rule else relative.rpartition("/")[2]
        match = re.fullmatch(pattern, text)
        found = match["device"] if match is not None else ""
    return found if names.DEVICE.fullmatch(found) else None


def _part(part: str) -> str:
    if part == DEVICE:
        return rf"(?P<device>{names.DEVICE.pattern.replace('}', '}?')})"
    return _WILD.get(part, re.escape(part))
