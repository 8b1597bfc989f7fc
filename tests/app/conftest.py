from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import PHOTOS
from tests.support.receiver import Receiver, running

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One receiver for all tests that do not need one of their own."""
    settings = {
        "receiver__max_image": "1MB",
        "receiver__device_rate": "0",
        "receiver__device_parallel": "0",
        "jobs__rate": "1000",
    }
    with running(tmp_path_factory.mktemp("receiver"), **settings) as found:
        yield found


@pytest.fixture
def photo() -> Callable[[], bytes]:
    """A photograph that no other test has sent: trailing bytes, as cameras append, differ."""

    def make() -> bytes:
        return (PHOTOS / "rocket.jpg").read_bytes() + b"\0test %d" % next(_numbers)

    return make


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for a receiver of the test's own."""
    return tmp_path
