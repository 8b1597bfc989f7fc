"""Folders from which pictures are taken, as ``intake.folders`` and ``headgate import`` name them.
Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from headgate.settings.units import UnitError

DEVICE = "{device}"
_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class IntakeFolder:
    """A folder, and which device its pictures are of: ``rule`` is a device's name, a pattern with
    ``{device}`` in it, or empty for the first sub-folder's name."""

    path: Path
    rule: str = ""


def check_rule(rule: str) -> str:
    """The rule, if it is one; UnitError otherwise."""
    is_pattern = rule.count(DEVICE) == 1 and rule.isprintable()
    if rule and not is_pattern and not _RULE.fullmatch(rule):
        raise UnitError(f"{rule!r} is neither a device's name nor a pattern like {DEVICE}_*.jpg")
    return rule


def folder(text: str) -> IntakeFolder:
    """``/srv/cams``, ``/srv/cam-7 = cam-7`` or ``/srv/all = {device}_*.jpg``."""
    path, _, rule = (part.strip() for part in text.partition(" = "))
    if not path.startswith("/"):
        raise UnitError(f"{text!r} does not begin with an absolute path")
    return IntakeFolder(Path(path), check_rule(rule))
