"""What the tests of the uploader share."""

from __future__ import annotations

from tests.support.fixtures import alone, clock, gateway, place, stand_in

__all__ = ["alone", "clock", "gateway", "place", "stand_in"]
