"""The SQLite that opens the spool's databases, and whether their indexes agree with their tables.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headgate.settings.units import counted, human_size
from uploader.cli.doctor.findings import Finding, loses, ok


@dataclass(frozen=True, slots=True)
class Databases:
    """What SQLite's own check said of each file: empty where nothing is wrong. The ``larger`` ones
    were left out."""

    checked: tuple[tuple[str, str], ...]
    larger: tuple[str, ...]
    largest: int  # bytes of a file that is looked at


def judge(version: str, refused: str) -> Iterator[Finding]:
    """``refused`` says why that version may not open them; empty if it may."""
    if refused:
        yield loses("sqlite", refused, "make install, or pip install -r requirements.lock")
    else:
        yield ok("sqlite", f"SQLite {version} opens the databases: without the WAL reset bug")


def judge_contents(seen: Databases) -> Iterator[Finding]:
    """Judge tables and indexes. A large file takes SQLite seconds, so that is left to a command
    that says so."""
    for name, trouble in seen.checked:
        if trouble:
            yield loses("sqlite", f"{name} is damaged: {trouble}", "headgate verify --repair")
    if any(trouble for _, trouble in seen.checked):
        return
    said = f"in {counted(len(seen.checked), 'database')} the indexes agree with their tables"
    if seen.larger:
        said += (
            f"; {len(seen.larger)} of more than {human_size(seen.largest)} are compared by "
            "headgate verify"
        )
    yield ok("sqlite", said)
