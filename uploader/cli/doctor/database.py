"""The SQLite that opens the spool's databases. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from uploader.cli.doctor.findings import Finding, loses, ok


def judge(version: str, refused: str) -> Iterator[Finding]:
    """``refused`` says why that version may not open them; empty if it may."""
    if refused:
        yield loses("sqlite", refused, "make install, or pip install -r requirements.lock")
    else:
        yield ok("sqlite", f"SQLite {version} opens the databases: without the WAL reset bug")
