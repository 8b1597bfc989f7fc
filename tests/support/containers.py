"""Containers, by podman and buildah: docs/INSTALL.md's lines for Docker, on a machine without it.

The base image is made by debootstrap under the name that the Dockerfile asks for, so nothing is
pulled. What a machine inside a machine lacks is left out by settings of podman: runc instead of
crun (which takes no hybrid cgroups), limits that it may set, no systemd to time health checks.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

from dev import install
from tests.support import booted
from tests.support.paths import ROOT

TOOLS = (
    "buildah", "podman", "podman-compose", "runc", "catatonit", "iptables", "debootstrap", "ip",
    "nsenter", "curl",
)  # fmt: skip
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
SUITE = "trixie"
"""The Debian that has the Python that the Dockerfile names."""

ENGINE = """\
[containers]
default_ulimits = ["nofile=1024:{files}", "nproc=1000:1000"]
log_driver = "k8s-file"
init_path = "{init}"
[network]
network_config_dir = "{folder}/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
"""
STORAGE = """\
[storage]
driver = "{driver}"
graphroot = "{folder}/store"
runroot = "{folder}/run"
"""
DOCKER = """\
#!/bin/sh
# docker, as far as docs/INSTALL.md needs it
command=$1
shift
case $command in
  build)
    set -- --secret id=pip,src={pip} -v {wheels}:/srv/wheels:ro "$@"
    set -- --ulimit nofile=1024:{files} --ulimit nproc=1000:1000 --network none "$@"
    exec buildah bud --layers --isolation oci --runtime runc --pull-never --format docker "$@" ;;
  compose) exec podman-compose --podman-path "$0" "$@" ;;
  *) exec podman "$command" "$@" ;;
esac
"""


def missing_tools() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


def base_image() -> str:
    """What FROM asks for, in full."""
    (name,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE))
    return f"docker.io/library/{name}"


class Engine:
    """A store of images and containers of its own, and a ``docker`` for it, in one network."""

    def __init__(self, folder: Path, network: str) -> None:
        self.folder = folder
        for name in ("bin", "tmp", "wheels", "networks"):
            (folder / name).mkdir(parents=True)
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        overlay = re.search(r"\boverlay$", Path("/proc/filesystems").read_text(), re.MULTILINE)
        driver = "overlay" if overlay else "vfs"
        init = shutil.which("catatonit")
        self._write("containers.conf", ENGINE.format(folder=folder, files=files, init=init))
        self._write("storage.conf", STORAGE.format(folder=folder, driver=driver))
        self._write("pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheels\n")
        docker = self._write(
            "bin/docker",
            DOCKER.format(pip=folder / "pip.conf", wheels=folder / "wheels", files=files),
        )
        docker.chmod(0o755)
        # Not by `ip netns exec`, which hides the cgroups.
        self._inside = ["nsenter", f"--net=/run/netns/{network}"]
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, line: str, *, check: bool = True, folder: Path = ROOT) -> str:
        """A line of shell; what it printed on standard output."""
        ran = subprocess.run(
            [*self._inside, "sh", "-c", line], cwd=folder, env=self.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0 or not check, f"$ {line}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    def make_base(self) -> None:
        """The image that FROM names: a Debian with its Python, which is the version asked for."""
        tree = self.folder / "base"
        booted.debootstrap(tree, SUITE, "python3,python3-venv,ca-certificates")
        (python,) = (tree / "usr/bin").glob("python3.[0-9]*[0-9]")
        name = base_image()
        assert f":{python.name.removeprefix('python')}-" in name, "the Debian has that Python"
        for link in ("python", "python3"):
            (tree / "usr/local/bin" / link).symlink_to(f"/usr/bin/{python.name}")
        for cached in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(tree / cached)
        self.run(f"tar -C {tree} -c . | podman import --quiet - {name}")
        shutil.rmtree(tree)

    def fetch_wheels(self, sources: Path, lock_name: str = install.LOCK.name) -> None:
        """What pip will ask for to build these sources, with what this lock has."""
        python = re.findall(r":(\d+\.\d+)-", base_image())[0]
        lock = sources / lock_name
        build = install.locked_setuptools(self.folder)
        booted.wheels(lock, python, self.folder / "wheels", build)

    def clear(self) -> None:
        """End and remove what is left of it."""
        self.run("podman rm --all --force --time 0", check=False)
        for mounted in ("store/overlay", "store", "run"):
            subprocess.run(["umount", "--quiet", str(self.folder / mounted)], check=False)
