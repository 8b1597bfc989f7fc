"""A gateway in containers: what docs/INSTALL.md says to type under "Docker", with podman."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import install
from tests.support import booted, containers
from tests.support.booted import GATEWAY, Network
from tests.support.booted_gateway import BUCKET, S3_PORT, Bucket, Camera, until
from tests.support.containers import Engine
from tests.support.paths import ROOT
from tests.support.versions import OLDER, older_sources

PAGE = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
SETTINGS = f"""\
[uplink]
link = "1GB/s"
[s3]
bucket = "{BUCKET}"
region = "us-east-1"
endpoint_url = "http://127.0.0.1:{S3_PORT}"
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_CONTAINERS") != "1",
        reason="HEADGATE_TEST_CONTAINERS=1 is not set: this makes a Debian and builds images",
    ),
]


def block(name: str) -> list[str]:
    """The lines of the page's block with that mark."""
    (text,) = re.findall(rf"<!-- test: {name} -->\n```(?:sh)?\n(.*?)```", PAGE, re.DOTALL)
    return str(text).splitlines()


class Site:
    """A host with a container engine; its bucket; and a camera in another network."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder
        self.engine = Engine(folder, network.gateway)
        pictures = folder / "pictures"
        pictures.mkdir()
        self.bucket, self.camera = Bucket(network, folder), Camera(network, pictures)
        etc = folder / "etc"
        etc.mkdir()
        (etc / "headgate.toml").write_text(SETTINGS)
        keys = "AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY=secret\n"
        (folder / "aws.env").write_text(keys)
        folder.chmod(0o755)
        self.checkout = folder / "checkout"

    def type(self, *lines: str) -> str:
        """Lines of the page, with this host's places."""
        said = []
        for line in lines:
            line = line.replace("/etc/headgate:/", f"{self.folder}/etc:/")
            line = line.replace("/root/headgate-aws.env", f"{self.folder}/aws.env")
            said.append(self.engine.run(line, folder=self.checkout))
        return "".join(said)

    def drain(self) -> None:
        """What the host's cron types."""
        line, _ = block("docker cron")
        self.type(re.sub(r"^(\S+ ){5}root ", "", line))

    def watch(self) -> None:
        _, line = block("docker cron")
        self.type(re.sub(r"^(\S+ ){5}root ", "", line))

    def inside(self, line: str, *, check: bool = True) -> str:
        return self.engine.run(f"docker exec headgate {line}", check=check)

    def is_well(self) -> bool:
        """The image's own health check, once."""
        check = "podman healthcheck run headgate >/dev/null && echo well"
        return self.engine.run(check, check=False) == "well\n"

    def waiting(self) -> int:
        listed = self.inside("find /var/lib/headgate/spool/new -type f")
        return len(listed.splitlines())


@pytest.fixture
def site() -> Iterator[Site]:
    assert not containers.missing_tools()
    with booted.place() as folder, Network() as network, contextlib.ExitStack() as stack:
        made = Site(folder, network)
        stack.callback(made.engine.clear)
        stack.callback(made.bucket.process.wait, 20)
        stack.callback(made.bucket.process.terminate)
        yield made


def these_sources(folder: Path) -> None:
    """What `docker build .` in this checkout sends to the engine, and nothing else."""
    for path in [*install.sources(), *ROOT.glob("requirements-*.lock"), *ROOT.glob("dev/*.py")]:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")


def test_containers_lose_no_image_from_their_first_start_to_an_upgrade(site: Site) -> None:
    engine, camera, bucket = site.engine, site.camera, site.bucket
    engine.make_base()
    older_sources(site.checkout)
    shutil.copyfile(containers.DOCKERFILE, site.checkout / "deploy/docker/Dockerfile")
    engine.fetch_wheels(site.checkout)
    (token,) = re.findall(r"^cam-01,(\S+)$", site.type(*block("docker start")), re.MULTILINE)
    camera.token = str(token)
    assert OLDER in site.inside("headgate --version")

    until("its health check finds it well", site.is_well)
    assert camera.post(f"http://{GATEWAY}:8080/uploadImage") == 401, "a device needs its token"
    camera.send(6)
    site.drain()
    site.watch()
    assert bucket.digests() == set(camera.acknowledged) and not site.waiting()

    bounded(site)

    camera.send(3)
    with camera.posting():
        engine.run("docker restart -t 90 headgate")
        seen = len(camera.acknowledged)
        until("it receives again", lambda: len(camera.acknowledged) > seen)
    kept = site.waiting()
    assert kept > 3, "what waited in the volume waits on"

    engine.run("podman kill headgate", check=False)  # as a host that loses its power
    until("it has ended", lambda: not engine.run("podman ps --quiet").strip())
    engine.run("docker start headgate")
    camera.send(2)
    assert site.waiting() == kept + 2

    upgrade(site)
    assert site.waiting() >= kept + 2, "what waited for the old version waits for the new one"
    camera.send(2)
    site.drain()
    assert bucket.digests() == set(camera.acknowledged) and not site.waiting()
    assert '"unaccounted": 0' in site.inside("headgate status --json")
    site.inside("headgate verify")


def bounded(site: Site) -> None:
    """It is not root, writes to its volume alone, and its receiver has no key to the bucket."""
    assert site.inside("id -u").strip() == "10100"
    for place in ("/", "/etc", "/opt/headgate", "/usr/bin"):
        said = site.inside(f"sh -c 'touch {place}/x 2>&1'", check=False)
        assert "Read-only file system" in said, said
    assert "AWS_" not in site.inside("env")


def upgrade(site: Site) -> None:
    """The old image to the new one by the page's lines, with a camera that posts all the while."""
    pull, *lines = block("docker upgrade")
    assert pull == "git pull"
    shutil.rmtree(site.checkout)
    these_sources(site.checkout)
    site.engine.fetch_wheels(site.checkout)
    with site.camera.posting():
        site.type(*lines)
        seen = len(site.camera.acknowledged)
        until("the new one receives", lambda: len(site.camera.acknowledged) > seen)
    assert OLDER not in site.inside("headgate --version")
    assert "localhost/headgate before" in site.engine.run(
        "podman images --format '{{.Repository}} {{.Tag}}'"
    )
