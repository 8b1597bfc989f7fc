"""A gateway's life as a Debian package: what docs/INSTALL.md says to type, on a fresh Debian.

The package is made by ``make deb`` and looked at by lintian. An older version of it is installed
first, and the one that was made follows while images wait and a camera posts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import booted
from tests.support.booted import Booted, Network, everything
from tests.support.booted_gateway import SPOOL, Bucket, Camera, Gateway, marked, procedure
from tests.support.paths import ROOT
from tests.support.versions import OLDER
from uploader.cli.install.layout import PACKAGE

OVERRIDE = "usr/local/lib/systemd/system/headgate-drain.timer"
"""Where ``headgate install`` puts what the settings want other than the package has it."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_CLEAN_ROOT") != "1",
        reason="HEADGATE_TEST_CLEAN_ROOT=1 is not set: this makes a Debian and boots it (root)",
    ),
]


def made(folder: Path) -> Path:
    """The package of this checkout, which lintian finds nothing wrong with."""
    line = f"make deb FLAGS='--fast --output {folder}'"
    ran = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (deb,) = folder.glob("headgate_*.deb")
    needs = subprocess.check_output(["dpkg-deb", "--field", str(deb), "Depends"], text=True)
    assert re.search(r"python3 \(>= 3\.\d+~\), python3 \(<< 3\.\d+\)", needs), needs
    look = ["lintian", "--fail-on", "error,warning", str(deb)]
    said = subprocess.run(look, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    return deb


def older(deb: Path, folder: Path) -> Path:
    """The same package under an older version's number."""
    tree = folder / "older"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    (metadata,) = tree.glob("usr/lib/headgate/lib/*/site-packages/headgate-*.dist-info/METADATA")
    for file in (tree / "DEBIAN/control", metadata):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {OLDER}", text, count=1), "utf-8")
    target = folder / f"headgate_{OLDER}_any.deb"
    command = ["dpkg-deb", "--build", "-Zgzip", "-z1", str(tree), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(tree)
    return target


@pytest.fixture
def site(fresh_debian: Path) -> Iterator[tuple[Gateway, Camera, Bucket, list[Path]]]:
    with booted.place() as folder, Network() as network, contextlib.ExitStack() as stack:
        tree, pictures = folder / "tree", folder / "pictures"
        booted.copied(fresh_debian, tree)
        pictures.mkdir()
        new = made(folder / "made")
        debian = Booted(tree, network, {})
        debian.variables = {"DEBIAN_FRONTEND": "noninteractive"}
        stack.callback(debian.forget)
        bucket = Bucket(network, folder)
        stack.callback(bucket.process.wait, 20)
        stack.callback(bucket.process.terminate)
        debian.boot()
        yield Gateway(debian), Camera(network, pictures), bucket, [older(new, folder), new]


def test_a_package_is_installed_upgraded_removed_and_purged_and_each_image_stays(
    site: tuple[Gateway, Camera, Bucket, list[Path]],
) -> None:
    gateway, camera, bucket, (old, new) = site
    debian = gateway.debian
    before = everything(debian.tree)

    beside_make_install(debian, old)
    brought(debian, old)
    told = gateway.type_lines(marked("deb install"))
    assert "name the bucket" in told, told
    assert OLDER in debian.run("headgate --version")
    debian.run(f"{PACKAGE}/bin/python -c 'import apsw'")  # as a backup does
    assert is_up(debian) and "enabled" in debian.run("systemctl is-enabled headgate-receiver")
    for timer in ("drain", "watch"):
        assert not active(debian, f"headgate-{timer}.timer"), "without a bucket nothing is sent"
    assert not (debian.tree / "etc/cron.d/headgate").exists()

    gateway.type("Set the bucket and the bandwidth")
    assert "added to /etc/cron.d/headgate" in gateway.type("Start the runs")
    debian.run("systemctl stop cron && headgate install")
    assert "OnUnitActiveSec=60s" in (debian.tree / OVERRIDE).read_text()
    (token,) = re.findall(r"^cam-01,(\S+)$", gateway.type("The first camera"), re.MULTILINE)
    camera.token = str(token)
    camera.send(4)
    debian.run("systemctl start headgate-drain")
    assert bucket.digests() == set(camera.acknowledged) and not gateway.files("new")

    upgraded(gateway, camera, new)
    debian.run("systemctl start headgate-drain")
    assert bucket.digests() == set(camera.acknowledged) and not gateway.files("new")

    brought(debian, old)
    (line,) = [one for one in procedure("Go back to the version before") if "apt-get" in one]
    debian.run(line.replace("headgate_OLD", old.stem))
    assert OLDER in debian.run("headgate --version") and is_up(debian)
    brought(debian, new)

    camera.send(3)
    told = debian.run("apt-get remove -y headgate")
    assert "3 images still wait" in told and SPOOL in told, told
    assert not active(debian, "headgate-receiver.service")
    for gone in (OVERRIDE, "etc/cron.d/headgate", "usr/bin/headgate", "usr/lib/headgate"):
        assert not os.path.lexists(debian.tree / gone), gone
    assert "pictures" in (debian.tree / "etc/headgate/headgate.toml").read_text()

    gateway.type_lines(marked("deb install"))
    camera.send(1)  # with its token, which was kept
    assert "enabled" in debian.run("systemctl is-enabled headgate-receiver")

    told = gateway.type_lines(marked("deb purge"))
    assert "4 images still wait" in told, told
    assert f"the spool stays, with 4 waiting images: {SPOOL}" in told, told
    left = {name for name in everything(debian.tree) - before if not f"/{name}".startswith(SPOOL)}
    assert left <= {"var/lib/headgate"}
    assert not (debian.tree / "usr/lib/headgate").exists()
    assert bucket.digests() | gateway.files("new").keys() == set(camera.acknowledged)
    assert debian.run("systemctl list-units --all 'headgate*' --no-legend").strip() == ""


def active(debian: Booted, unit: str) -> bool:
    return debian.run(f"systemctl is-active {unit}", check=False).strip() == "active"


def is_up(debian: Booted) -> bool:
    return active(debian, "headgate-receiver.service")


def brought(debian: Booted, deb: Path) -> None:
    """The file is in the folder where the page's line looks for it, and no older one."""
    for there in (debian.tree / "root").glob("headgate_*.deb"):
        there.unlink()
    shutil.copy(deb, debian.tree / "root")


def beside_make_install(debian: Booted, deb: Path) -> None:
    """A machine has one of the two."""
    brought(debian, deb)
    link = debian.tree / "usr/local/bin/headgate"
    link.symlink_to("/opt/headgate/bin/headgate")
    told = debian.run("apt-get install -y ./headgate_*.deb", check=False)
    assert "has a Headgate from make install" in told, told
    link.unlink()
    assert not (debian.tree / "usr/lib/headgate").exists()


def upgraded(gateway: Gateway, camera: Camera, new: Path) -> None:
    """Images wait, the camera posts, and what was edited stays."""
    debian = gateway.debian
    kept = [debian.tree / name for name in ("etc/headgate/headgate.toml", "etc/cron.d/headgate")]
    texts = [file.read_text() for file in kept]
    camera.send(3)
    brought(debian, new)
    with camera.posting():
        told = gateway.type_lines(marked("deb install"))
    assert OLDER not in debian.run("headgate --version")
    assert is_up(debian), told
    assert "fix that, then" not in told and "name the bucket" not in told, told
    assert len(gateway.files("new")) >= 3, "what waited waits on"
    assert [file.read_text() for file in kept] == texts
    config = kept[0].stat()
    assert config.st_mode & 0o777 == 0o640 and config.st_gid == int(debian.run("id -g headgate"))
    assert "OnUnitActiveSec=60s" in (debian.tree / OVERRIDE).read_text()
    assert debian.run("systemctl list-units --failed --no-legend 'headgate*'") == ""
