"""A user with a checkout, a bucket, cron and its tabs: what the test of real cron is made of."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import requests

from tests.support.paths import ROOT
from tests.support.wait import wait_until
from uploader.s3.probe import KEY

FOREIGN = (
    b"# the tab of somebody else   \n"
    b"MAILTO=''\n"
    b"\n"
    b"\t7 3 * * 1-5   /bin/true  # nightly %x\t\n"
    b"#*/5 * * * * /opt/headgate/bin/headgate drain --cron # headgate drain\n"
)


class Somebody:
    """A user with a checkout of his own, made as the README says."""

    def __init__(self, name: str) -> None:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
        self.name = name
        self.home = Path(pwd.getpwnam(name).pw_dir)
        self.checkout = self.home / "headgate"
        self.site = self.home

    @property
    def config(self) -> Path:
        return self.site / "headgate.toml"

    def command(self, *arguments: str | Path, **variables: str) -> list[str]:
        """To be run by root: the command as this user, in an environment of nothing but this."""
        own = {"HOME": str(self.home), "LOGNAME": self.name, "PATH": "/usr/bin:/bin", **variables}
        words = [f"{name}={value}" for name, value in own.items()]
        return ["runuser", "-u", self.name, "--", "env", "-i", *words, *map(str, arguments)]

    def run(
        self, *arguments: str | Path, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self.command(*arguments, **variables),
            cwd=self.checkout if self.checkout.exists() else "/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran

    def headgate(
        self, *arguments: str, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        program = self.checkout / ".venv" / "bin" / "headgate"
        return self.run(program, "--config", self.config, *arguments, code=code, **variables)

    def make_checkout(self) -> None:
        """The project's files, not what was made from them; then the first make."""
        made = shutil.ignore_patterns(".git", ".venv", "var", "build", "*.egg-info", ".*_cache")
        shutil.copytree(ROOT, self.checkout, ignore=made)
        self.own(self.checkout)
        pip = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "HTTPS_"))}
        self.run("make", f"PYTHON={python()}", "ready", **pip)

    def own(self, folder: Path) -> None:
        subprocess.run(["chown", "-R", f"{self.name}:", folder], check=True)

    def forget(self) -> None:
        """End what still runs as this user, and remove the user, the home and the tab."""
        owner = pwd.getpwnam(self.name).pw_uid
        for number in (signal.SIGTERM, signal.SIGKILL):
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if path.stat().st_uid == owner:
                        os.kill(int(path.name), number)
            time.sleep(0.5)
        subprocess.run(["crontab", "-u", self.name, "-r"], capture_output=True, check=False)
        subprocess.run(["userdel", "--remove", self.name], capture_output=True, check=True)


def python() -> str:
    """A Python that another user can reach."""
    ours = Path(sys.executable).resolve()
    return "/usr/bin/python3" if ours.is_relative_to("/root") else str(ours)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        with contextlib.suppress(requests.RequestException):
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
            return True
        return False

    wait_until(answers, f"something answers on port {port}", process=process)


@contextlib.contextmanager
def running(command: list[str], folder: Path, port: int | None = None) -> Iterator[None]:
    """A program that runs for as long as the block does, and listens when it begins."""
    log = folder / f"{Path(command[-1]).name}.output"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            if port is not None:
                wait_for_port(port, process)
            yield
        except AssertionError:
            print(log.read_text(errors="replace"))
            raise
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Bucket:
    """Where the images are to arrive: the server of the variables, or a stand-in."""

    def __init__(self) -> None:
        given = os.environ.get("HEADGATE_TEST_S3_ENDPOINT")
        self.port = None if given else free_port()
        self.endpoint = given or f"http://127.0.0.1:{self.port}"
        self.key = os.environ.get("HEADGATE_TEST_S3_ACCESS_KEY", "stand-in")
        self.secret = os.environ.get("HEADGATE_TEST_S3_SECRET_KEY", "stand-in")
        self.name = f"cron-{secrets.token_hex(4)}"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )

    def digests(self) -> list[str]:
        client = self.client()
        try:
            found = client.list_objects_v2(Bucket=self.name).get("Contents", [])
            bodies = [client.get_object(Bucket=self.name, Key=f["Key"])["Body"] for f in found
                      if not f["Key"].endswith(KEY)]  # fmt: skip
            return sorted(hashlib.sha256(body.read()).hexdigest() for body in bodies)
        finally:
            client.close()


@contextlib.contextmanager
def bucket_for(somebody: Somebody) -> Iterator[Bucket]:
    bucket = Bucket()
    if bucket.port is None:
        client = bucket.client()
        client.create_bucket(Bucket=bucket.name)
        client.close()
        yield bucket
        return
    python = somebody.checkout / ".venv" / "bin" / "python"
    where = ("--bind", f"127.0.0.1:{bucket.port}", "--dir", somebody.home / "s3")
    command = somebody.command(python, "-m", "dev.s3_local", *where, "--bucket", bucket.name)
    with running(command, somebody.home, bucket.port):
        yield bucket


def _cron_runs() -> bool:
    ours = os.readlink("/proc/self/ns/pid")
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            space = os.readlink(path.with_name("ns") / "pid")
            if path.read_text().strip() == "cron" and space == ours:
                return True
    return False


@contextlib.contextmanager
def cron_running() -> Iterator[None]:
    """The machine's cron, started here unless it runs. One in a container is another machine's."""
    if _cron_runs():
        yield
        return
    daemon = subprocess.Popen(["cron", "-f"], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        daemon.terminate()
        daemon.wait(20)


class UserTab:
    """The user's own tab, which the user changes."""

    foreign = FOREIGN

    def __init__(self, somebody: Somebody) -> None:
        self.somebody = somebody
        subprocess.run(["crontab", "-u", somebody.name, "-"], input=self.foreign, check=True)

    def read(self) -> bytes:
        listed = ["crontab", "-u", self.somebody.name, "-l"]
        return subprocess.run(listed, capture_output=True, check=False).stdout

    def cron(self, *arguments: str, code: int = 0, **variables: str) -> str:
        ran = self.somebody.headgate("cron", *arguments, code=code, **variables)
        return ran.stdout + ran.stderr

    def close(self) -> None:
        subprocess.run(["crontab", "-u", self.somebody.name, "-r"], check=True)


class FileTab:
    """A file of /etc/cron.d, which root changes; its last line has no end."""

    foreign = b"SHELL=/bin/sh\n7 3 * * 1-5\troot   /bin/true  "

    def __init__(self, somebody: Somebody) -> None:
        self.somebody = somebody
        self.path = Path("/etc/cron.d") / somebody.name
        self.path.write_bytes(self.foreign)

    def read(self) -> bytes:
        return self.path.read_bytes()

    def cron(self, *arguments: str, code: int = 0, **variables: str) -> str:
        program = self.somebody.checkout / ".venv" / "bin" / "headgate"
        where = ("--file", str(self.path), "--user", self.somebody.name)
        ran = subprocess.run(
            [program, "--config", self.somebody.config, "cron", *arguments, *where],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def close(self) -> None:
        self.path.unlink()
