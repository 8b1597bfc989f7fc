"""Fixtures for several folders of tests; a conftest.py imports those that its tests ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.spool.spool import Spool
from tests.support.environment import without_settings
from tests.support.gateway import Gateway
from tests.support.s3_server import Place, script, strict_place
from tests.support.spooling import Clock, open_spool


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process finds no settings: neither in its folder nor in its environment."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - without_settings().keys():
        monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    opened = open_spool(tmp_path, clock)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One stand-in for S3 for all tests that need none of their own."""
    with strict_place(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def place(stand_in: Place) -> Iterator[Place]:
    """The stand-in, which does what it should again after each test."""
    yield stand_in
    script(stand_in)


@pytest.fixture
def gateway(tmp_path: Path, place: Place) -> Iterator[Gateway]:
    made = Gateway(tmp_path, place)
    yield made
    made.spool.close()
