from __future__ import annotations

import pytest

from tests.support.receiver import Receiver


@pytest.fixture
def from_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the program itself: what it imports, how it starts, stops and dies."""
    monkeypatch.setattr(Receiver, "forked", False)
