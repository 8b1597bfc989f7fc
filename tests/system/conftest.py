"""What the tests of whole programs share."""

from __future__ import annotations

from tests.support.fixtures import gateway, place, stand_in

__all__ = ["gateway", "place", "stand_in"]
