from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.spool.spool import Spool
from tests.support.bad_network import BadNetwork
from tests.support.cameras import Camera, CCamera, Field, Gateway, PythonCamera, compiled
from tests.support.paths import PHOTOS
from tests.support.receiver import running
from tests.support.spooling import settings_for

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = {
        "receiver__auth": "token", "spool__keep_free": "0B", "receiver__max_image": "1MB",
        "receiver__device_rate": "0", "receiver__device_parallel": "0",
    }  # fmt: skip
    with running(folder, **settings) as receiver:
        mine = settings_for(folder, spool__path=str(receiver.spool))
        with closing(Spool.open(mine, create=False, probe=False)) as spool:
            names = [f"cam-{n}" for n in range(200)]
            tokens = [t.secret for t in spool.site.devices.add(names, spool.now(), urgent=False)]
        yield Gateway(receiver, iter(zip(names, tokens, strict=True)))


@pytest.fixture(scope="session")
def c_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed (.ci/run installs one)")
    return compiled(compiler, tmp_path_factory.mktemp("c"))


@pytest.fixture(params=["python", "c"])
def field(request: pytest.FixtureRequest, gateway: Gateway, tmp_path: Path) -> Iterator[Field]:
    device, token = next(gateway.devices)
    network = BadNetwork(gateway.receiver.port)
    folder = tmp_path / "pictures"
    camera: Camera
    if request.param == "python":
        camera = PythonCamera(folder, network.port, token)
    else:
        camera = CCamera(request.getfixturevalue("c_client"), folder, network.port, token)
    yield Field(gateway, network, camera, device, token)
    network.close()


@pytest.fixture
def photo() -> Callable[[], bytes]:
    """A small photograph that no other test has sent."""
    base = (PHOTOS / "flower.jpg").read_bytes()

    def make() -> bytes:
        return base + b"\0camera %d" % next(_numbers)

    return make
