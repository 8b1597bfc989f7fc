"""``headgate``, with a note of every piece that its pacer let through: for bench.limit.

``python -m bench.limit_drain FILE WORDS...`` runs ``headgate WORDS...``; at the end FILE holds, as
JSON, [permitted, written, bytes] of each piece, in nanoseconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from headgate.spool.budget.ledger import Grant, boottime
from uploader.cli import main as cli
from uploader.run import start
from uploader.wire.pacer import Pacer

_pieces: list[tuple[int, int, int]] = []


class _Noted(Pacer):
    """The pacer, and when each piece may have left: between its grant and its write's return."""

    def take(self, wanted: int) -> Grant:
        grant = super().take(wanted)
        self._since[id(grant)] = boottime()
        return grant

    def wrote(self, grant: Grant, written: int) -> None:
        super().wrote(grant, written)
        _pieces.append((self._since.pop(id(grant)), boottime(), written))

    _since: dict[int, int] = {}


def main() -> None:
    """The program."""
    file = Path(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    vars(start)["Pacer"] = _Noted  # the name that a run looks up
    try:
        cli.main()
    finally:
        file.write_text(json.dumps(_pieces))


if __name__ == "__main__":
    main()
