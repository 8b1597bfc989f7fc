"""Tables for people, CSV for spreadsheets, and times as people write them in flags."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from headgate.host.exit_codes import Exit
from headgate.settings.instants import read_instant, rfc3339
from headgate.settings.units import UnitError
from uploader.cli.main import fail

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def instant_of(flag: str, text: str | None, now: datetime, *, end: bool = False) -> datetime | None:
    """The time that a flag names, None where it is left out; ``end`` as of ``read_instant``."""
    if text is None:
        return None
    try:
        return read_instant(text, now, end=end)
    except UnitError as error:
        fail(f"{flag}: {error}", Exit.USAGE)


def aligned(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()
) -> list[str]:
    """Lines with a header; ``numbers`` are the columns that end alike. None without rows."""
    all_rows = [head, *rows]
    if len(all_rows) == 1:
        return []
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(head) - 1)]
    lines = []
    for row in all_rows:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join((*cells, row[-1])).rstrip())
    return lines


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Times as RFC 3339, lists and objects as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    # A spreadsheet runs a text that begins like a formula; a quote in front makes it text.
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
