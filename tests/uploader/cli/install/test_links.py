"""``headgate install`` as root, in folders that a less trusted user may write."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from headgate.host import mounts
from headgate.spool.disk.layout import FOLDERS
from headgate.spool.errors import SpoolUnsuitable
from tests.support.installing import call, needs_root, plan_is_of
from tests.support.spooling import open_spool
from uploader.cli.install import accounts, steps
from uploader.cli.install.steps import InstallError, Owner

pytestmark = [pytest.mark.root, needs_root]
MALLORY = 61020


def seen(path: Path) -> tuple[int, int, int, bytes]:
    found = path.lstat()
    data = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
    return found.st_mode, found.st_uid, found.st_gid, data


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """What is root's alone, somewhere else."""
    folder = tmp_path / "roots"
    folder.mkdir(mode=0o700)
    (folder / "shadow").write_text("root's alone")
    (folder / "shadow").chmod(0o600)
    return folder


@pytest.mark.parametrize(
    "planted", ["var/lib/headgate/.aws", "var/lib/headgate/spool", "var/lib/headgate"]
)
def test_no_folder_is_given_away_through_a_link(
    tree: Path, roots: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    plan_is_of(monkeypatch)
    call("install", "--root", tree)
    sender = accounts.user_id(tree, "headgate")
    link = tree / planted
    shutil.rmtree(link)
    link.symlink_to(roots)
    os.chown(link.parent, sender or 0, -1)
    before = seen(roots), seen(roots / "shadow")
    said = call("install", "--root", tree, code=1).output
    assert "leads through a link" in said or "holds other files" in said
    assert (seen(roots), seen(roots / "shadow")) == before
    assert [path.name for path in roots.iterdir()] == ["shadow"]


def test_a_file_is_not_written_through_a_link(
    tree: Path, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    call("install", "--root", tree)
    credentials = tree / "var/lib/headgate/.aws/credentials"
    credentials.unlink()
    credentials.symlink_to(roots / "made")
    before = seen(roots / "shadow")
    call("install", "--root", tree)
    assert seen(roots / "shadow") == before
    assert not (roots / "made").exists()
    assert stat.S_ISREG(credentials.lstat().st_mode)


def test_links_of_roots_own_are_followed(tmp_path: Path) -> None:
    """As /var/run is one, or /var on a disk of its own."""
    base = tmp_path.resolve()
    (base / "disk").mkdir()
    (base / "var").symlink_to("disk")
    (base / "srv").symlink_to(base / "disk")
    me = Owner(os.geteuid, os.getegid, "root:root")
    for name in ("var", "srv"):
        steps.folder(base / name / "a/b", me, 0o750).do()
    assert stat.S_IMODE((base / "disk/a/b").stat().st_mode) == 0o750
    os.chown(base, MALLORY, MALLORY)
    with pytest.raises(InstallError, match="leads through a link"):
        steps.folder(base / "var/a/b", me, 0o700).do()


@pytest.mark.parametrize(
    "name", ["/", "/etc", "/usr", "/var", "/home", "/root", "/etc/", "/var/lib"]
)
def test_no_folder_of_the_system_becomes_a_spool(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plan_is_of(monkeypatch)
    config = tree / "etc/headgate/headgate.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[spool]\npath = "{name}"\n')
    assert "is a folder of the system" in call("install", "--root", tree, code=1).output
    assert not (tree / "var/lib/headgate").exists()


def test_a_folder_with_foreign_files_does_not_become_a_spool(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    pictures = tree / "srv/pictures"
    pictures.mkdir(parents=True)
    (pictures / "wedding.jpg").write_text("mine")
    os.chown(pictures, MALLORY, MALLORY)
    config = tree / "etc/headgate/headgate.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[spool]\npath = "/srv/pictures"\n')
    before = seen(pictures)
    said = call("install", "--root", tree, code=1).output
    assert "holds other files than a spool's ('wedding.jpg')" in said
    assert seen(pictures) == before
    with pytest.raises(SpoolUnsuitable, match="holds other files"):
        open_spool(tmp_path, spool__path=str(pictures))
    assert mounts.foreign(pictures / "none", FOLDERS) == ""


def test_an_old_spool_is_adopted_but_nothing_that_is_not_of_it(
    tree: Path, roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    call("install", "--root", tree)
    spool = tree / "var/lib/headgate/spool"
    for name in ("state", "new", "new/minute"):
        (spool / name).mkdir()
        (spool / name).chmod(0o2770)
    (spool / "new/minute/a.jpg").write_text("an image")
    for path in spool.rglob("*"):
        os.chown(path, MALLORY, MALLORY)
        path.chmod(0o2770 if path.is_dir() else 0o660)
    (spool / "new/link").symlink_to(roots)
    (spool / "new/minute/link").symlink_to(roots / "shadow")
    os.link(roots / "shadow", spool / "new/minute/hard")
    (roots / "others").write_text("another user's")
    os.chown(roots / "others", MALLORY + 1, MALLORY + 1)
    os.link(roots / "others", spool / "new/minute/too")
    before = [seen(roots / name) for name in ("", "shadow", "others")]
    call("install", "--root", tree)
    assert [seen(roots / name) for name in ("", "shadow", "others")] == before
    sender, group = accounts.user_id(tree, "headgate"), accounts.group_id(tree, "headgate")
    for name in ("state", "new", "new/minute", "new/minute/a.jpg"):
        mode, user, owned, _ = seen(spool / name)
        assert (user, owned) == (sender, group), name
        assert stat.S_IMODE(mode) == (0o660 if name.endswith("jpg") else 0o2770)
