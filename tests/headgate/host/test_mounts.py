"""An unsafe place is announced."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.host import mounts
from headgate.host.mounts import Risk, RiskKind

MOUNTINFO = r"""
21 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw
22 21 0:21 / /proc rw,nosuid - proc proc rw
30 21 8:1 / /mnt/photos rw master:1 propagate_from:2 - xfs /dev/sda1 rw
31 30 0:40 / /mnt/photos/scratch rw - tmpfs tmpfs rw,size=1g
32 21 8:2 / /mnt/my\040disk rw - btrfs /dev/sdb rw
33 21 8:3 / /mnt/Gerät\040\134\011 rw - nfs4 nas:/export rw
34 21 8:4 / /mnt/over rw - ext4 /dev/sdc rw
35 34 0:50 / /mnt/over rw - tmpfs over rw
36 21 8:5 / /mnt/\134x41 rw - f2fs /dev/sdd rw
a line that is cut
"""
MOUNTINFO += "37 21 8:6 / /mnt/non\u00a0breaking\u2028line rw - ext4 /dev/sde rw\n"


@pytest.mark.parametrize(
    ("path", "kind", "source"),
    [
        ("/var/spool", "ext4", "/dev/root"),
        ("/", "ext4", "/dev/root"),
        ("/mnt/photos", "xfs", "/dev/sda1"),
        ("/mnt/photos/a/b", "xfs", "/dev/sda1"),
        ("/mnt/photos/scratch/a", "tmpfs", "tmpfs"),
        ("/mnt/photos-old", "ext4", "/dev/root"),
        ("/mnt/my disk/spool", "btrfs", "/dev/sdb"),
        ("/mnt/Gerät \\\t/spool", "nfs4", "nas:/export"),
        ("/mnt/over/x", "tmpfs", "over"),  # the later mount hides the earlier
        ("/mnt/\\x41/x", "f2fs", "/dev/sdd"),
        ("/mnt/A/x", "ext4", "/dev/root"),
        ("/mnt/non\u00a0breaking\u2028line/x", "ext4", "/dev/sde"),
    ],
)
def test_the_innermost_mount_counts(path: str, kind: str, source: str) -> None:
    found = mounts.mount_of(Path(path), MOUNTINFO)
    assert (found.kind, found.source) == (kind, source)


OPTIONS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 8:17 / /data rw - tmpfs none rw
24 22 8:17 / /data rw,noatime - ext4 /dev/sdb1 rw,nobarrier,data=ordered
25 24 8:33 / /data/a\\040b ro - xfs /dev/sdc1 rw
"""


def test_the_options_are_those_of_the_innermost_and_last_mount() -> None:
    found = mounts.mount_of(Path("/data/x"), OPTIONS)
    assert found.point == "/data"
    assert {"noatime", "nobarrier"} < found.options
    inner = mounts.mount_of(Path("/data/a b/x"), OPTIONS)
    assert (inner.point, inner.options) == ("/data/a b", {"ro", "rw"})
    assert mounts.mount_of(Path("/database"), OPTIONS).point == "/"
    assert mounts.mount_of(Path("/data"), "") == mounts.Mount()


def test_a_link_is_followed_to_where_the_bytes_are(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/mnt/photos/scratch")
    assert mounts.mount_of(link / "x", MOUNTINFO).kind == "tmpfs"


def on(monkeypatch: pytest.MonkeyPatch, kind: str, source: str = "src") -> Risk | None:
    monkeypatch.setattr(mounts, "mount_of", lambda path: mounts.Mount("/", kind, source))
    return mounts.risk(Path("/srv/spool"))


def told(found: Risk | None, kind: RiskKind) -> str:
    assert found is not None and found.kind is kind
    return str(found)


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_memory_is_announced(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    sentence = told(on(monkeypatch, kind), RiskKind.MEMORY)
    assert kind in sentence and "in memory" in sentence and "/srv/spool" in sentence


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "nfs3", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_network_is_announced(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    sentence = told(on(monkeypatch, kind), RiskKind.NETWORK)
    assert kind in sentence and "local disk" in sentence


@pytest.mark.parametrize("kind", ["overlay", "vfat", "fuse.something", ""])
def test_what_was_not_tested_is_announced(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    sentence = told(on(monkeypatch, kind), RiskKind.UNTESTED)
    assert "not tested" in sentence and (kind or "unknown") in sentence


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "ext4"])
def test_a_good_place_is_not_remarked_upon(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert on(monkeypatch, kind) is None


@pytest.mark.skipif(
    not os.access("/dev/shm", os.W_OK) or mounts.risk(Path("/dev/shm")) is None,
    reason="/dev/shm is not in memory here",
)
def test_this_machines_memory_is_told_from_its_disk() -> None:
    assert "in memory" in told(mounts.risk(Path("/dev/shm/spool")), RiskKind.MEMORY)


def _mount(image: Path, at: Path, *features: str) -> None:
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", *features, str(image)], check=True)
    at.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True, capture_output=True)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[dict[str, Path]]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    places = {"plain": tmp_path / "plain", "no journal": tmp_path / "größe \\ 1"}
    done: list[Path] = []
    try:
        for word, features in (("plain", ()), ("no journal", ("-O", "^has_journal"))):
            try:
                _mount(tmp_path / f"{word}.img", places[word], *features)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"cannot mount an ext4 image here: {error}")
            done.append(places[word])
        yield places
    finally:
        for at in done:
            subprocess.run(["umount", str(at)], check=True)


@pytest.mark.root
def test_ext4_without_a_journal_is_announced_and_ext4_with_one_is_not(
    mounted: dict[str, Path],
) -> None:
    assert mounts.risk(mounted["plain"] / "spool") is None
    sentence = told(mounts.risk(mounted["no journal"] / "spool"), RiskKind.NO_JOURNAL)
    assert "without a journal" in sentence and "tune2fs -j" in sentence


@pytest.mark.root
def test_a_mount_whose_name_is_not_text_hides_no_other(
    mounted: dict[str, Path], tmp_path: Path
) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\xfe"
    os.mkdir(odd)
    subprocess.run(["mount", "-t", "tmpfs", "none", odd], check=True)
    try:
        odd_spool = Path(os.fsdecode(odd)) / "spool"
        assert "in memory" in told(mounts.risk(odd_spool), RiskKind.MEMORY)
        assert mounts.risk(mounted["plain"]) is None
    finally:
        subprocess.run(["umount", odd], check=True)
