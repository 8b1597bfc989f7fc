"""What every connection asks before bytes leave, whatever its destination."""

from __future__ import annotations

from typing import Protocol

from headgate.spool.budget.ledger import Grant


class Meter(Protocol):
    """Grants leave to send and counts what left. ``uploader.wire.pacer`` keeps the rate."""

    @property
    def max_piece(self) -> int:
        """Bytes worth asking for at once."""

    def take(self, wanted: int) -> Grant:
        """Block until 1 to ``wanted`` bytes may leave."""

    def wrote(self, grant: Grant, written: int) -> None:
        """Report at once how many of them may have left, also after a failed write."""
