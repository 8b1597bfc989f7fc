"""What the tests of the spool share."""

from __future__ import annotations

from tests.support.fixtures import clock, spool

__all__ = ["clock", "spool"]
