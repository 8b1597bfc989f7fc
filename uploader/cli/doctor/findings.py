"""What one check found: its severity, a sentence, and the command that fixes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    LOSES = "loses"  # images would be lost: now, at a power cut, or when the disk is full


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report; ``mend`` is what to type, empty if all is well."""

    check: str
    level: Severity
    sentence: str
    mend: str = ""


def ok(check: str, sentence: str) -> Finding:
    """All is well here."""
    return Finding(check, Severity.OK, sentence)


def warning(check: str, sentence: str, mend: str) -> Finding:
    """Not as it should be, and no image is lost by it."""
    return Finding(check, Severity.WARNING, sentence, mend)


def loses(check: str, sentence: str, mend: str) -> Finding:
    """Images would be lost."""
    return Finding(check, Severity.LOSES, sentence, mend)


def would_lose(findings: Iterable[Finding]) -> bool:
    """Whether any of them would lose images."""
    return any(finding.level is Severity.LOSES for finding in findings)
