"""``python -m dev.torture``: run the campaigns, print the table, and write it to var/torture/.

Ends with 1 if a row broke. ``make torture SIZE=published ROW=power-ext4 SEED=7`` repeats one row.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dev.machine import machine
from dev.torture import campaign, table
from dev.torture.campaign import Result, State
from dev.torture.rows import OPEN, ROWS, Size


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.torture", description=campaign.__doc__)
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.CI)
    parser.add_argument(
        "--row", action="append", metavar="NAME", help="only this one; again for more"
    )
    parser.add_argument("--seed", type=int, help="make the same random choices as the row did")
    parser.add_argument("--out", type=Path, default=campaign.ROOT / "var" / "torture")
    given = parser.parse_args(words)
    known = {row.name: row for row in ROWS}
    if unknown := [name for name in given.row or () if name not in known]:
        parser.error(f"there is no row {unknown[0]}; there are: {', '.join(known)}")
    seed = given.seed or secrets.randbelow(campaign.SEED_MAX) + 1
    where = f"{machine()}. Size: {given.size}."
    results: list[Result] = []
    for name in given.row or known:
        print(f"{name}: {known[name].done}", file=sys.stderr, flush=True)
        one = campaign.run(known[name], given.size, seed)
        counts = ", ".join(f"{count} {what}" for what, count in one.counts.items())
        print(f"  {one.state}: {counts}, {one.seconds:.0f} s", file=sys.stderr, flush=True)
        results.append(one)
        _write(given.out, where, results)
    print(table.markdown(where, results, OPEN), end="")
    return 1 if any(one.state is State.BROKEN for one in results) else 0


def _write(folder: Path, where: str, results: Sequence[Result]) -> None:
    """After each row, so that a campaign of days that is stopped leaves what it found."""
    folder.mkdir(parents=True, exist_ok=True)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    for suffix, form in (("md", table.markdown), ("json", table.as_json)):
        (folder / f"{day}.{suffix}").write_text(form(where, results, OPEN), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
