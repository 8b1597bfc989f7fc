"""The files of deploy/, by the programs that they are for; a boot of them all is in
tests/system/test_clean_root.py."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
import yaml

from app.http.request import is_forwarded
from headgate.host.addresses import free_port
from headgate.settings.settings import Secrets, combine
from headgate.settings.table import SETTINGS
from tests.support.images import picture
from tests.support.paths import ROOT
from tests.support.queueing import Redis, needs_redis
from tests.support.receiver import Receiver, head, read_answer
from tests.support.wait import wait_until
from uploader.cli.install.layout import InstallPlan, render
from uploader.cli.main import headgate

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TIMERS = sorted((DEPLOY / "systemd").glob("*.timer"))


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; .ci/run installs it")
    return found


# -- systemd


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_each_unit_is_bounded_to_below_2(unit: Path) -> None:
    command = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    ran = subprocess.run(
        [*command, "--threshold=20", str(unit)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout[-300:]
    lax = subprocess.run([*command, "--threshold=10", str(unit)], capture_output=True, check=False)
    assert lax.returncode != 0, "the threshold is looked at"


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for path in [*UNITS, *TIMERS]:
        text = render(InstallPlan("/bin/true"), f"systemd/{path.name}", path.read_text())
        text = re.sub(r"/bin/true/bin/\S+", "/bin/true", text)
        (tmp_path / path.name).write_text(text)
    ran = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_the_units_start_is_a_command_with_these_flags() -> None:
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=/opt/headgate/bin/(.*)$", unit.read_text(), re.MULTILINE)
        program, *words = line.split()
        assert words[:2] == ["--config", "/etc/headgate/headgate.toml"]
        if program == "headgate":
            name = next(word for word in words if word in ("drain", "watch", "worker", "intake"))
            context = click.Context(headgate, info_name="headgate", **headgate.context_settings)
            command = headgate.get_command(context, name)
            assert command is not None
            command.make_context(name, words[words.index(name) + 1 :], parent=context)


def test_no_timer_starts_beside_cron() -> None:
    for timer in TIMERS:
        assert "\nConditionPathExists=!/etc/cron.d/headgate\n" in timer.read_text()


# -- the settings


def test_the_settings_are_accepted_and_what_is_commented_out_is_as_well() -> None:
    text = (DEPLOY / "headgate.toml").read_text()
    plain = combine(tomllib.loads(text), DEPLOY / "headgate.toml", {}, {}, DEPLOY)
    assert str(plain.spool.path) == "/var/lib/headgate/spool"
    samples = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    shown = tomllib.loads(samples)
    away = Secrets(DEPLOY / "secrets.toml", {}, hidden=True)  # as the receiver sees it
    combine(shown, DEPLOY / "headgate.toml", {}, {}, DEPLOY, secrets=away)
    names = {f"{section}.{key}" for section, keys in shown.items() for key in keys}
    assert len(names) > 15 and names <= {setting.name for setting in SETTINGS}
    for setting in SETTINGS:  # a default that is shown as a comment is the default
        for found in re.findall(rf"^# {setting.key} = (\S+)\s+# .*", text, re.MULTILINE):
            if setting.name in ("spool.keep_free", "spool.keep_done", "receiver.max_image"):
                assert json.loads(found) == setting.default


# -- logrotate


def test_logrotate_rotates_under_a_program_that_writes(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("logrotate's su needs root")
    logs = tmp_path / "log"
    logs.mkdir(mode=0o755)
    tmp_path.chmod(0o755)
    text = (DEPLOY / "logrotate.d/headgate").read_text()
    text = text.replace("/var/log/headgate", str(logs)).replace("headgate headgate", "root root")
    config = tmp_path / "logrotate.conf"
    config.write_text(text)
    log = logs / "drain.log"

    def rotate(*flags: str) -> None:
        command = [tool("logrotate"), *flags, "-s", str(tmp_path / "state"), str(config)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")

    rotate()  # no log yet is nothing wrong
    with log.open("a") as held:
        held.write("1\n")
        held.flush()
        rotate("-f")
        assert log.read_text() == ""
        held.write("2\n")  # a run that is under way
        held.flush()
        with log.open("a") as next_run:
            next_run.write("3\n")
        assert (logs / "drain.log.1").read_text() == "1\n2\n"
        rotate("-f")
        held.write("4\n")
    assert log.read_text() == ""
    assert (logs / "drain.log.1").read_text() == "3\n"
    assert {path.name for path in logs.iterdir()} == {"drain.log", "drain.log.1", "drain.log.2.gz"}
    zipped = subprocess.run(["gzip", "-dc", str(logs / "drain.log.2.gz")], capture_output=True)
    assert zipped.stdout == b"1\n2\n"
    assert log.stat().st_mode & 0o777 == 0o640


# -- nginx


@contextlib.contextmanager
def nginx_with(
    tmp_path: Path, name: str, *replaced: tuple[str, str]
) -> Iterator[tuple[str, ssl.SSLContext, int]]:
    """A real nginx with a file of deploy/: paths and ports are other ones, and one more is without
    TLS."""
    program = tool("nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "fullchain.pem", append=True)
    port, plain = free_port(), free_port()
    text = (DEPLOY / "nginx" / name).read_text()
    for old, new in (
        ("listen [::]:443 ssl;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/headgate/tls", str(tmp_path)),
        *replaced,
    ):
        assert old in text
        text = text.replace(old, new)
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
        f"events {{}} http {{ access_log off; {temporary}\n{text}\n}}"
    )
    with subprocess.Popen([program, "-p", str(tmp_path), "-c", str(config)]) as nginx:
        trust = ssl.create_default_context()
        authority.configure_trust(trust)

        def listens() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
                return True
            return False

        log = tmp_path / "error.log"
        wait_until(listens, "nginx listens", process=nginx, detail=log.read_text)
        try:
            yield f"https://127.0.0.1:{port}", trust, plain
        finally:  # or a test that fails would wait for it without end
            nginx.terminate()


@pytest.fixture
def behind_nginx(tmp_path: Path) -> Iterator[tuple[str, ssl.SSLContext, Receiver, int]]:
    """A receiver behind a real nginx."""
    receiver = Receiver(tmp_path).start()
    there = ("127.0.0.1:8080", f"127.0.0.1:{receiver.port}")
    with nginx_with(tmp_path, "headgate.conf", there) as (url, trust, plain):
        yield url, trust, receiver, plain
    receiver.stop()


def ask(url: str, trust: ssl.SSLContext | None, body: bytes | None = None, **headers: str) -> int:
    return told(url, trust, body, **headers)[0]


def told(
    url: str, trust: ssl.SSLContext | None, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """The status, and the JSON that was answered; None for a refusal."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named)
    try:
        with urllib.request.urlopen(request, timeout=60, context=trust) as answer:
            text = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return int(answer.status), json.loads(text) if is_json else None
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, None


def test_behind_nginx_nobody_is_taken_for_this_machine(
    behind_nginx: tuple[str, ssl.SSLContext, Receiver, int],
) -> None:
    url, trust, receiver, plain = behind_nginx
    image = (ROOT / "docs/photos/rocket.jpg").read_bytes()
    kind = {"Content_Type": "image/jpeg"}
    assert ask(f"{receiver.url}/images", None, image, **kind) == 201, "this machine itself may"
    for forged in ({}, {"Forwarded": "for=127.0.0.1"}, {"X_Forwarded_For": "127.0.0.1"}):
        assert ask(f"{url}/images", trust, image, **kind, **forged) == 401
    assert ask(f"{url}/healthz", trust) == 200

    token = made_token(receiver)
    bearer = {"Authorization": f"Bearer {token}"}
    assert ask(f"{url}/images", trust, image, **kind, **bearer) == 201

    image = picture(300_000)
    top = head("POST", "/images", image, Content_Type="image/jpeg", **bearer)
    with socket.create_connection(("127.0.0.1", plain), timeout=60) as half_closed:
        half_closed.sendall(top + image)
        half_closed.shutdown(socket.SHUT_WR)
        answered = read_answer(half_closed)
    assert answered is not None and answered.status == 201
    huge = b"\xff\xd8" + b"x" * (22 << 20)
    assert ask(f"{url}/images", trust, huge, **kind, **bearer) == 413


def made_token(receiver: Receiver) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "uploader", "--set", f"spool.path={receiver.spool}",
         "device", "add", "cam-1", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    return str(re.findall(r"hg_[\w-]+", json.dumps(found))[0])


@pytest.mark.slow
def test_behind_a_balancer_a_device_keeps_to_one_gateway_until_that_is_gone(
    tmp_path: Path,
) -> None:
    gateways = []
    for name in ("gw1", "gw2"):
        (tmp_path / name).mkdir()
        gateways.append(Receiver(tmp_path / name, **{"receiver.auth": "open"}).start())
    one, two = gateways
    there = (
        ("gw1.example.net:8080", f"127.0.0.1:{one.port}"),
        ("gw2.example.net:8080", f"127.0.0.1:{two.port}"),
    )
    kind = {"Content_Type": "image/jpeg", "X_Device": "cam-1"}

    def held(gateway: Receiver) -> int:
        return len([*(gateway.spool / "new").rglob("*.jpg")])

    with nginx_with(tmp_path, "headgate-balancer.conf", *there) as (url, trust, _):
        pictures = [picture(20_000 + size) for size in range(5)]
        assert [ask(f"{url}/images", trust, each, **kind) for each in pictures] == [201] * 5
        assert sorted([held(one), held(two)]) == [0, 5], "one gateway has them all"
        assert ask(f"{url}/images", trust, pictures[0], **kind) == 200, "and knows them again"
        first, other = (one, two) if held(one) else (two, one)
        first.stop()
        assert ask(f"{url}/images", trust, picture(30_000), **kind) == 201
        assert (held(first), held(other)) == (5, 1), "no camera waits for the one that is gone"
        assert ask(f"{url}/images", trust, pictures[0], **kind) == 201, "a second one, none lost"
    other.stop()


@needs_redis
@pytest.mark.slow
def test_behind_a_balancer_a_retry_at_the_other_gateway_gets_the_first_receipt(
    tmp_path: Path,
) -> None:
    """The shipped nginx, a real Redis, and the memory of identities; without Redis no image is
    lost, but one that is sent again elsewhere is a second one."""
    redis = Redis(tmp_path / "redis").start()
    gateways = {}
    for name in ("gw1", "gw2"):
        (tmp_path / name).mkdir()
        settings = {
            "receiver.auth": "open", "site.name": "north", "uplink.gateway": name,
            "uplink.shared": redis.url, "uplink.gateways": "2", "uplink.floor": "1MB/s",
        }  # fmt: skip
        gateways[name] = Receiver(tmp_path / name, **settings).start()
    there = [
        (f"{name}.example.net:8080", f"127.0.0.1:{gateway.port}")
        for name, gateway in gateways.items()
    ]
    kind = {"Content_Type": "image/jpeg", "X_Device": "cam-1"}
    try:
        with nginx_with(tmp_path, "headgate-balancer.conf", *there) as (url, trust, _):
            image, late = picture(20_000), picture(20_001)
            status, first = told(f"{url}/images", trust, image, **kind)
            assert (status, first["duplicate"]) == (201, False)
            held = {name: [*(one.spool / "new").rglob("*.jpg")] for name, one in gateways.items()}
            (gone,) = (name for name, files in held.items() if files)
            gateways.pop(gone).stop()
            status, again = told(f"{url}/images", trust, image, **kind)
            assert (status, again["duplicate"], again["id"]) == (200, True, first["id"])
            assert again["sha256"] == first["sha256"]
            status, receipt = told(f"{url}/images/{first['id']}", trust, **kind)
            assert (status, receipt["gateway"], receipt["id"]) == (200, gone, first["id"])
            (left,) = gateways.values()
            assert not [*(left.spool / "new").rglob("*.jpg")], "it has no copy of its own"
            redis.stop()
            assert ask(f"{url}/images", trust, late, **kind) == 201
            status, second = told(f"{url}/images", trust, image, **kind)
            assert status == 201 and second["id"] != first["id"]
    finally:
        for gateway in gateways.values():
            gateway.stop()
        redis.stop()


@pytest.mark.parametrize("name", ["headgate.conf", "headgate-balancer.conf"])
def test_every_header_that_nginx_sets_is_one_that_auto_looks_for(name: str) -> None:
    text = (DEPLOY / "nginx" / name).read_text()
    named = set(re.findall(r"^ +proxy_set_header (\S+)", text, re.MULTILINE))
    assert {"Forwarded", "X-Forwarded-For", "X-Real-IP"} <= named, "a client's own are replaced"
    told = {f"HTTP_{name.upper().replace('-', '_')}" for name in named - {"Host", "Connection"}}
    assert len(told) >= 3
    for name in told:
        assert is_forwarded({name: "x"}), name


@pytest.mark.parametrize("name", ["headgate.conf", "headgate-balancer.conf"])
def test_nginx_lets_in_what_the_receiver_takes(name: str) -> None:
    text = (DEPLOY / "nginx" / name).read_text()
    (size,) = re.findall(r"client_max_body_size (\d+)m;", text)
    largest = combine({}, None, {}, {}, ROOT).receiver.max_image
    assert largest + (64 << 10) < int(size) << 20 < 2 * largest


# -- S3's policies


def policy(name: str) -> list[dict[str, Any]]:
    document = json.loads((DEPLOY / "s3" / name).read_text())
    assert set(document) == {"Version", "Statement"} and document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert all(re.fullmatch(r"[A-Za-z0-9]+", sid) for sid in sids) and len(set(sids)) == len(sids)
    return list(document["Statement"])


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_uploader_may_do_three_things_below_its_prefix_and_nothing_else() -> None:
    allowed: dict[str, list[str]] = {}
    for statement in policy("iam-policy.json"):
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            allowed[action] = listed(statement["Resource"])
    below, bucket = ["arn:aws:s3:::BUCKET/PREFIX*"], ["arn:aws:s3:::BUCKET"]
    assert allowed == {"s3:PutObject": below, "s3:GetObject": below, "s3:ListBucket": bucket}
    design = (ROOT / "docs/DESIGN.md").read_text()
    (sentence,) = re.findall(r"The uploader needs (.*?)\. `headgate config check`", design, re.S)
    assert set(re.findall(r"s3:\w+", sentence)) == set(allowed)
    probe = (ROOT / "uploader/s3/probe.py").read_text()
    assert set(re.findall(r'"(s3:\w+)"', probe)) == set(allowed), "those that it looks for"


def test_the_bucket_refuses_what_comes_in_the_clear_and_other_writers() -> None:
    by_name = {statement["Sid"]: statement for statement in policy("bucket-policy.json")}
    assert {s["Effect"] for s in by_name.values()} == {"Deny"}
    clear = by_name["OverTLSOnly"]
    assert clear["Action"] == "s3:*" and clear["Principal"] == "*"
    assert clear["Resource"] == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]
    assert clear["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    others = by_name["OnlyTheGatewayWrites"]
    assert others["Action"] == "s3:PutObject"
    assert others["Condition"].keys() == {"ArnNotEquals"}


# -- Docker


def test_the_dockerfile_is_slim_not_root_and_has_one_volume() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.13-slim"] * 2
    assert re.findall(r"^USER (\S+)", last, re.MULTILINE) == ["10100:10100"]
    assert re.findall(r"^VOLUME (\S+)", last, re.MULTILINE) == ["/var/lib/headgate"]
    for word in ("CMD", "HEALTHCHECK"):
        (found,) = re.findall(rf"^{word}(?: .*\\\n +CMD)?(?: --\S+)* (\[.*\])$", last, re.MULTILINE)
        assert json.loads(found), "exec form: no shell between"
    assert "dev.install" in text and "pip install" not in text, "from the lock, by its hashes"


def test_hadolint_finds_nothing() -> None:
    ran = subprocess.run(
        [tool("hadolint"), str(DEPLOY / "docker/Dockerfile")], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def services(folder: Path, *files: str) -> dict[str, Any]:
    """What docker-compose reads, as it checks it by the specification's schema."""
    shutil.copytree(DEPLOY / "docker", folder)
    for name in ("headgate.env", "aws-credentials"):  # people make them
        (folder / name).write_text("")
    named = [word for file in files for word in ("-f", str(folder / file))]
    ran = subprocess.run(
        [tool("docker-compose"), *named, "config"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    found = yaml.safe_load(ran.stdout)["services"]
    assert isinstance(found, dict)
    return found


def test_compose_runs_the_image_as_it_is_made(tmp_path: Path) -> None:
    """Its volume, its port, commands that there are, and keys only where something sends."""
    image = (DEPLOY / "docker/Dockerfile").read_text()
    (volume,) = re.findall(r"^VOLUME (\S+)", image, re.MULTILINE)
    (port,) = re.findall(r"^EXPOSE (\d+)", image, re.MULTILINE)
    found = services(tmp_path / "a/b/docker", "compose.yaml", "compose.queue.yaml")
    assert found.keys() == {"receiver", "drain", "watch", "worker"}
    assert str(found["receiver"]["ports"]) == f"[{{'published': {port}, 'target': {port}}}]"
    for name, service in found.items():
        assert service["volumes"] == [f"spool:{volume}:rw"]
        assert service["read_only"] and service["init"] and service["cap_drop"] == ["ALL"]
        assert service["build"]["args"] == {"EXTRAS": "queue"}, "one image, for all of them"
        assert ("secrets" in service) == (name != "receiver")
        if line := service.get("command"):
            assert isinstance(line, str), "podman-compose appends a list to the one it replaces"
            words = shlex.split(line)
            if words[0] == "every":
                words = words[2:]
            context = click.Context(headgate, info_name="headgate", **headgate.context_settings)
            command = headgate.get_command(context, words[1])
            assert words[0] == "headgate" and command is not None
            command.make_context(words[1], words[2:], parent=context)
    sample = (DEPLOY / "docker/headgate.env.sample").read_text()
    names = {f"HEADGATE_{one.name.upper().replace('.', '_')}" for one in SETTINGS}
    assert set(re.findall(r"^(\w+)=", sample, re.MULTILINE)) <= names


def test_every_runs_it_again_and_hands_on_that_it_is_to_stop(tmp_path: Path) -> None:
    script = (
        "echo again; [ -e twice ] || { : >twice; exit; }; "
        "trap 'echo told; kill $!; exit' TERM; sleep 60 & echo up; wait"
    )
    with subprocess.Popen(
        [DEPLOY / "docker/every", "0", "sh", "-c", script],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert [running.stdout.readline() for _ in range(3)] == ["again\n", "again\n", "up\n"]
        running.terminate()
        assert running.stdout.readline() == "told\n"
        assert running.wait(60) == 0
