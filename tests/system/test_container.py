"""A gateway in containers: what docs/INSTALL.md says to type under "Docker", with podman.

Its image is built twice, an older version first, on a base that debootstrap makes: minutes. So one
test goes from the first start to an upgrade, and then hands the images to Compose.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev import install
from tests.support import booted, containers
from tests.support.booted import GATEWAY, Network
from tests.support.booted_gateway import BUCKET, MINUTE, S3_PORT, Bucket, Camera, marked, until
from tests.support.containers import Engine
from tests.support.paths import ROOT
from tests.support.versions import OLDER, migrations_of, older_sources

ENDPOINT = f"http://{GATEWAY}:{S3_PORT}"
SETTINGS = f"""\
[uplink]
link = "1GB/s"
[s3]
bucket = "{BUCKET}"
region = "us-east-1"
endpoint_url = "{ENDPOINT}"
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_CONTAINERS") != "1",
        reason="HEADGATE_TEST_CONTAINERS=1 is not set: this makes a Debian and builds images",
    ),
]


class Site:
    """A host with a container engine; its bucket; and a camera in another network."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.engine = Engine(folder, network.gateway)
        pictures = folder / "pictures"
        pictures.mkdir()
        self.bucket, self.camera = Bucket(network, folder), Camera(network, pictures)
        # The stand-in listens on loopback alone, and containers come from a bridge.
        self.engine.run("sysctl -q -w net.ipv4.conf.all.route_localnet=1")
        self.engine.run(
            f"iptables -t nat -A PREROUTING -p tcp -d {GATEWAY} --dport {S3_PORT}"
            f" -j DNAT --to-destination 127.0.0.1:{S3_PORT}"
        )
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
            if line.startswith("editor "):
                self.edit(self.checkout / line.removeprefix("editor "))
                continue
            said.append(self.engine.run(line, folder=self.checkout))
        return "".join(said)

    def edit(self, file: Path) -> None:
        """What this site needs in the two files of Compose."""
        if file.name == "aws-credentials":
            file.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
            return
        text = file.read_text()
        for name, value in (("BUCKET", BUCKET), ("REGION", "us-east-1")):
            assert f"HEADGATE_S3_{name}=\n" in text
            text = text.replace(f"HEADGATE_S3_{name}=\n", f"HEADGATE_S3_{name}={value}\n")
        file.write_text(f"{text}HEADGATE_S3_ENDPOINT_URL={ENDPOINT}\n")

    @contextlib.contextmanager
    def redis(self) -> Iterator[None]:
        """A broker on the host, where containers find it."""
        server = ["redis-server", "--bind", GATEWAY, "--protected-mode", "no", "--save", ""]
        with subprocess.Popen(
            [*self.network.inside(self.network.gateway), *server],
            cwd=self.folder, stdout=subprocess.DEVNULL,
        ) as running:  # fmt: skip
            try:
                yield
            finally:
                running.terminate()

    def drain(self) -> None:
        """What the host's cron types."""
        line, _ = marked("docker cron")
        self.type(re.sub(r"^(\S+ ){5}root ", "", line))

    def watch(self) -> None:
        _, line = marked("docker cron")
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
    shutil.copytree(ROOT / "deploy/docker", folder / "deploy/docker")


def test_containers_lose_no_image_from_their_first_start_to_an_upgrade(site: Site) -> None:
    engine, camera, bucket = site.engine, site.camera, site.bucket
    engine.make_base()
    older_sources(site.checkout)
    shutil.copytree(ROOT / "deploy/docker", site.checkout / "deploy/docker", dirs_exist_ok=True)
    engine.fetch_wheels(site.checkout)
    (token,) = re.findall(r"^cam-01,(\S+)$", site.type(*marked("docker start")), re.MULTILINE)
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

    may_go_back = migrations_of(site.checkout) == migrations_of(ROOT)
    upgrade(site)
    assert site.waiting() >= kept + 2, "what waited for the old version waits for the new one"
    go_back_and_forward(site, may_go_back)
    assert site.waiting() >= kept + 2, "and for whichever is in use"
    camera.send(2)
    site.drain()
    assert bucket.digests() == set(camera.acknowledged) and not site.waiting()
    assert '"unaccounted": 0' in site.inside("headgate status --json")
    site.inside("headgate verify")

    with_compose(site)
    with_a_queue(site)


def bounded(site: Site) -> None:
    """It is not root, writes to its volume alone, and its receiver has no key to the bucket."""
    assert site.inside("id -u").strip() == "10100"
    for place in ("/", "/etc", "/opt/headgate", "/usr/bin"):
        said = site.inside(f"sh -c 'touch {place}/x 2>&1'", check=False)
        assert "Read-only file system" in said, said
    assert "AWS_" not in site.inside("env")


def upgrade(site: Site) -> None:
    """The old image to the new one by the page's lines, with a camera that posts all the while."""
    pull, *lines = marked("docker upgrade")
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


def go_back_and_forward(site: Site, may_go_back: bool) -> None:
    """The version before by the page's lines, if it knows these databases, and the new one."""
    lines = marked("docker back")
    site.type(*lines)
    if may_go_back:
        seen = len(site.camera.acknowledged)
        with site.camera.posting():
            until("the one before receives", lambda: len(site.camera.acknowledged) > seen)
        assert OLDER in site.inside("headgate --version")
    else:
        until(
            "it says why it does not start",
            lambda: (
                "by a newer Headgate" in site.engine.run("podman logs headgate 2>&1", check=False)
            ),
        )
    site.type("docker tag headgate:newer headgate", *lines[2:])
    seen = len(site.camera.acknowledged)
    with site.camera.posting():
        until("the new one receives", lambda: len(site.camera.acknowledged) > seen)
    assert OLDER not in site.inside("headgate --version")


def with_compose(site: Site) -> None:
    """A new spool: received, sent by the container beside it, and kept when all is stopped."""
    engine, camera, bucket = site.engine, site.camera, site.bucket
    engine.run("docker stop -t 90 headgate && docker rm headgate")
    (token,) = re.findall(r"^cam-01,(\S+)$", site.type(*marked("compose")), re.MULTILINE)
    camera.token = str(token)
    camera.send(4)
    until(
        "the drain's container has sent them", lambda: bucket.digests() == set(camera.acknowledged)
    )
    engine.run("podman stop -t 90 docker_drain_1")
    assert engine.run("podman inspect -f '{{.State.ExitCode}}' docker_drain_1") == "0\n"
    environment = engine.run("podman exec docker_receiver_1 env")
    keys = "podman exec docker_receiver_1 ls /run/secrets"
    assert "AWS" not in environment and "aws" not in engine.run(keys, check=False)
    camera.send(2)
    engine.run("docker compose -f deploy/docker/compose.yaml down", folder=site.checkout)
    engine.run("docker compose -f deploy/docker/compose.yaml up -d", folder=site.checkout)
    until("what waited is sent", lambda: bucket.digests() == set(camera.acknowledged))
    engine.run("docker compose -f deploy/docker/compose.yaml down", folder=site.checkout)


def with_a_queue(site: Site) -> None:
    """The same volume, and a worker that takes messages from a Redis on the host."""
    engine, camera, bucket = site.engine, site.camera, site.bucket
    file = site.checkout / "deploy/docker/headgate.env"
    queue = f"HEADGATE_UPLINK_TRIGGER=queue\nHEADGATE_QUEUE_BROKER=redis://{GATEWAY}:6379/0\n"
    file.write_text(f"{file.read_text()}{queue}HEADGATE_UPLINK_INTERVAL=1min\n")
    engine.fetch_wheels(site.checkout, install.lock_of("queue").name)
    with site.redis():
        (line,) = marked("compose queue")
        site.type(line)
        fallback = "podman inspect -f '{{.Config.Cmd}}' docker_drain_1"
        assert "every 3600" in engine.run(fallback), "an image may wait for the worker alone"
        logs = "podman logs docker_drain_1 2>&1"
        until("the first of these runs is over", lambda: "run.ended" in engine.run(logs))
        camera.send(3)
        sent = "the worker has sent them"
        until(sent, lambda: bucket.digests() == set(camera.acknowledged), 3 * MINUTE)
        status = json.loads(engine.run("podman exec docker_receiver_1 headgate status --json"))
        fired = {one["kind"]: one for one in status["triggers"]}
        assert fired["queue"]["last_at"] and fired["queue"]["sender"] == "beat"
        engine.run(line.replace("up -d --build", "down"), folder=site.checkout)
