"""What the tests of the uploader share."""

from __future__ import annotations

from tests.support.fixtures import clock, gateway, place, stand_in

__all__ = ["clock", "gateway", "place", "stand_in"]
