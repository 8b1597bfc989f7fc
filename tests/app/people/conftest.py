"""One receiver of two processes, with a user of each role, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.people import ROLES, add_user
from tests.support.receiver import Receiver, await_processes, running


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """With the users of ROLES."""
    with running(tmp_path_factory.mktemp("desk"), receiver__processes="2") as receiver:
        await_processes(receiver, 2)
        for name, role in ROLES.items():
            add_user(receiver, name, role)
        yield receiver
