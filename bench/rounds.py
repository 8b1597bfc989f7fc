"""Every contender in turn, round after round (A B C A B C), so that a busy minute hits them all."""

from __future__ import annotations

import os
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Figures = Mapping[str, float]
"""What one turn measured, by the name of the column."""

Results = dict[str, dict[str, list[float]]]
"""Contender -> column -> one value a round."""


class Failed(Exception):
    """A contender could not run, or did the work wrong; the sentence says which and why."""


def interleaved(
    contenders: Mapping[str, Callable[[], Figures]],
    rounds: int,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Results:
    """Run each contender once a round. One that fails is named and left out from then on."""
    results: Results = {}
    left = dict(contenders)
    for number in range(1, rounds + 1):
        for name, turn in list(left.items()):
            try:
                figures = turn()
            except Failed as failure:
                say(f"  {name} is left out: {failure}")
                results.pop(name, None)
                del left[name]
                continue
            say(
                f"  {number}/{rounds} {name}: "
                + ", ".join(f"{k} {v:.4g}" for k, v in figures.items())
            )
            columns = results.setdefault(name, {})
            for column, value in figures.items():
                columns.setdefault(column, []).append(value)
    return results


def median(results: Results, name: str, column: str) -> float:
    """The median over the rounds."""
    return statistics.median(results[name][column])


def ratio(results: Results, name: str, base: str, column: str) -> float:
    """The median over the rounds of this contender's figure to the other's of the same round."""
    pairs = zip(results[name][column], results[base][column], strict=False)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def table(
    results: Results,
    columns: Sequence[tuple[str, str]],
    base: str = "",
    base_column: str = "",
) -> str:
    """Markdown: a contender a line, medians of the named columns with their format ("{:.2f}"), and
    last the ratio of ``base_column`` to the contender ``base``."""
    relative = bool(base and base in results)
    heads = ["", *(column for column, _ in columns), *([f"to {base}"] if relative else [])]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in results:
        cells = [form.format(median(results, name, column)) for column, form in columns]
        if relative:
            cells.append(f"{ratio(results, name, base, base_column):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def usage(pids: Sequence[int]) -> tuple[float, int]:
    """CPU seconds and peak resident bytes of these programs together, from /proc (proc(5))."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds, peak = 0.0, 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / ticks
        found = re.search(r"VmHWM:\s+(\d+)", status)
        peak += 1024 * int(found[1]) if found else 0
    return seconds, peak


def family(pid: int) -> list[int]:
    """A program and all that it started and that still runs."""
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
        at += 1
    return found
