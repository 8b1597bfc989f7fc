"""What the tests of ``headgate install`` share."""

from __future__ import annotations

from tests.support.installing import tree

__all__ = ["tree"]
