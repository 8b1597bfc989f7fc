"""What the tests of whole programs share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import booted
from tests.support.fixtures import gateway, place, stand_in
from tests.support.spooling import folder_in_memory

__all__ = ["gateway", "place", "stand_in"]


@pytest.fixture(scope="session")
def fresh_debian() -> Iterator[Path]:
    """A Debian that was never used, to be copied: making one takes a minute."""
    assert not booted.missing_tools()
    with booted.place() as folder:
        booted.debootstrap(folder / "tree")
        yield folder / "tree"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of its own, in memory where that keeps attributes."""
    made = folder_in_memory()
    yield made
    shutil.rmtree(made)
