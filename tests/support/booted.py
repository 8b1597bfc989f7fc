"""A whole Debian, booted by systemd-nspawn: its own systemd, users, cron and network.

The tree is made by debootstrap, from the mirror that this machine's apt uses. Two network
namespaces are joined by one cable: the gateway's, where the Debian lives, and the cameras'.
Nothing leaves them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.wait import wait_until

PACKAGES = (
    "systemd,systemd-sysv,dbus,iproute2,curl,ca-certificates,"
    "git,make,python3,python3-venv,cron,logrotate,nginx-light,faketime,redis-server"
)
"""What the root has: an init, what docs/INSTALL.md says to install, and a broker."""
GATEWAY, CAMERA = "198.51.100.1", "198.51.100.2"
"""The two ends of the cable (TEST-NET-2, RFC 5737)."""
TOOLS = ("debootstrap", "systemd-nspawn", "ip", "nsenter")


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def mirror() -> str:
    """Where this machine's apt gets Debian from."""
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return next(line.split()[0] for line in shown.splitlines() if line.endswith(codename()))


def codename() -> str:
    text = Path("/etc/os-release").read_text()
    return re.findall(r"^VERSION_CODENAME=(.*)$", text, re.MULTILINE)[0]


def debootstrap(tree: Path, suite: str = "", packages: str = PACKAGES) -> None:
    """A Debian in ``tree``: of this machine's release, unless ``suite`` names another."""
    command = ["debootstrap", "--variant=minbase", f"--include={packages}"]
    ran = subprocess.run(
        [*command, suite or codename(), str(tree), mirror()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-1000:] + ran.stderr[-1000:]


def copied(tree: Path, target: Path) -> None:
    """Another Debian, as that one is."""
    subprocess.run(["cp", "--archive", "--reflink=auto", str(tree), str(target)], check=True)


def everything(tree: Path) -> set[str]:
    """Paths where an installation may leave something behind; not what a running Debian writes."""
    own = re.compile(
        r"var/(tmp|cache|lib/(apt|dpkg|systemd|logrotate|nginx|private|dbus)|log/(apt|journal|nginx|private))"
        r"|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/(machine-id|hostname|\.pwd\.lock|nginx|ssl)"
        r"|usr/(lib|share)/|var/log/(btmp|wtmp|lastlog|faillog)"
    )
    found = set()
    for top in ("etc", "opt", "usr", "var", "srv", "home"):
        for path in (tree / top).rglob("*"):
            name = path.relative_to(tree).as_posix()
            if not own.match(name) and "__pycache__" not in name:
                found.add(name)
    return found


def wheels(lock: Path, python: str, folder: Path, extra: Path) -> None:
    """What pip will ask for, fetched here: the Debian has no way out. Its Python may be an older
    patch than this one, so what only such a one needs is fetched as well."""
    every = folder / lock.name
    every.write_text(re.sub(r" ; python_full_version < '[^']*'", "", lock.read_text()))
    for file in (every, extra):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        which = ["--only-binary", ":all:", "--python-version", python]
        command = [*pip, *which, "--dest", str(folder), "-r", str(file)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


class Network:
    """The two namespaces and the cable between them."""

    def __init__(self) -> None:
        mark = secrets.token_hex(2)
        self.gateway, self.camera = f"hg{mark}gw", f"hg{mark}cam"

    def __enter__(self) -> Network:
        a, b = f"{self.gateway}0", f"{self.camera}0"
        for words in (
            f"netns add {self.gateway}",
            f"netns add {self.camera}",
            f"link add {a} netns {self.gateway} type veth peer name {b} netns {self.camera}",
            f"-n {self.gateway} addr add {GATEWAY}/24 dev {a}",
            f"-n {self.camera} addr add {CAMERA}/24 dev {b}",
            f"-n {self.gateway} link set {a} up",
            f"-n {self.gateway} link set lo up",
            f"-n {self.camera} link set {b} up",
            f"-n {self.camera} link set lo up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.gateway, self.camera):
            subprocess.run(["ip", "netns", "del", name], check=False)

    def inside(self, name: str) -> list[str]:
        """What a command begins with that is to run in one of them."""
        return ["ip", "netns", "exec", name]


class Booted:
    """The Debian in ``tree``: booted, asked, killed, booted again."""

    def __init__(self, tree: Path, network: Network, binds: Mapping[Path, str]) -> None:
        self.tree = tree
        self._network = network
        self._binds = binds
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        self.variables: dict[str, str] = {}

    def boot(self) -> None:
        """Start its systemd, and wait until everything that starts at boot was started."""
        binds = [f"--bind-ro={source}:{target}" for source, target in self._binds.items()]
        with (self.tree.parent / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
                 f"--directory={self.tree}", "--machine=gateway", "--resolv-conf=off",
                 # Its own filter leaves them out, and no machine but a container has that filter.
                 "--system-call-filter=landlock_create_ruleset landlock_restrict_self",
                 f"--network-namespace-path=/run/netns/{self._network.gateway}", *binds],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        console = self.tree.parent / "console"
        wait_until(self._is_up, "Debian has booted", 300,
                   detail=lambda: console.read_text(errors="replace"), every=0.2)  # fmt: skip

    def _is_up(self) -> bool:
        self._init = self._child()
        up = self._init and self.run("systemctl is-system-running --wait", check=False)
        return up in ("running\n", "degraded\n")

    def _child(self) -> int:
        assert self._nspawn is not None
        pid = self._nspawn.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(text[0]) if text else 0

    def power_cut(self) -> None:
        """Everything ends at once, as if the plug were pulled; /run and /tmp are gone with it."""
        assert self._nspawn is not None
        os.kill(self._init, signal.SIGKILL)
        self._nspawn.wait(30)
        self._nspawn = None

    def command(self, line: str, **variables: str) -> list[str]:
        words = [f"{k}={v}" for k, v in {**self.variables, **variables}.items()]
        own = [
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        enter = ["nsenter", "-t", str(self._init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        return [*enter, "env", "-i", *own, *words, "sh", "-c", line]

    def run(self, line: str, *, check: bool = True, folder: str = "/root", **variables: str) -> str:
        """A line of shell as root, as a person types it; what it printed."""
        ran = subprocess.run(
            self.command(f"cd {folder} && {line}", **variables),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        said = ran.stdout.decode(errors="replace")
        assert ran.returncode == 0 or not check, f"$ {line}\n{said}"
        return said

    def forget(self) -> None:
        if self._nspawn is not None and self._nspawn.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, signal.SIGKILL)
            self._nspawn.wait(30)


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder on a real disk, which others may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-root-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
