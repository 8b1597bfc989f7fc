from __future__ import annotations

import pytest

from tests.support.receiver import Receiver


@pytest.fixture(autouse=True)
def _from_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the program itself: how it starts, stops and dies."""
    monkeypatch.setattr(Receiver, "forked", False)
