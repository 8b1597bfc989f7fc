"""The table: for people in Markdown, for programs in JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from dev.torture.campaign import Result, State
from dev.torture.rows import Open

HEADS = ("promise", "what was done to it", "how often", "lost", "peers", "row, seed", "took")
_PEERS_OPEN = "not run"


def markdown(where: str, results: Sequence[Result], left_open: Sequence[Open]) -> str:
    """Rows that held or broke; then what could not be done here, and what nothing does yet."""
    made = [one for one in results if one.state is not State.NOT_MADE]
    lines = [where, "", _line(HEADS), "|" + "---|" * len(HEADS)]
    lines += [_line(_cells(one)) for one in made]
    held = sum(one.state is State.HELD for one in made)
    lines += ["", f"{held} of {len(made)} rows held.", ""]
    for one in results:
        lines += [f"- **{one.name}**, left out in part or whole: {why}" for why in one.why
                  if one.state is not State.BROKEN]  # fmt: skip
    lines += [f"- **{one.name}**, open: {one.why}" for one in left_open]
    return "\n".join(lines) + "\n"


def as_json(where: str, results: Sequence[Result], left_open: Sequence[Open]) -> str:
    """The same."""
    document = {
        "where": where,
        "rows": [asdict(one) for one in results],
        "open": [asdict(one) for one in left_open],
    }
    return json.dumps(document, indent=1) + "\n"


def _cells(one: Result) -> tuple[str, ...]:
    counts = {name: count for name, count in one.counts.items() if name != "lost"}
    often = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    lost = f"{one.counts.get('lost', 0):,}" if one.state is State.HELD else "; ".join(one.why)
    lost = lost if one.state is State.HELD else f"**broken**: {lost}"
    seed = f"{one.name}, {one.seed}"
    peers = "; ".join(one.peers) or _PEERS_OPEN
    return one.promise, one.done, often, lost, peers, seed, f"{one.seconds:,.0f} s"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"
