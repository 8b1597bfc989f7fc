"""Which spool belongs at a path: an empty place, or another spool, is no place for images."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from headgate.settings.load import load
from headgate.settings.settings import Settings
from headgate.spool import identity
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError, SpoolElsewhere
from headgate.spool.spool import Spool
from tests.support.spooling import put
from uploader.cli.main import headgate


@pytest.fixture(autouse=True)
def _nothing_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "INSTALLED", tmp_path / "var-lib" / "identities")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    """Settings whose spool is on a disk of its own, with one image on it."""
    settings = at(tmp_path, tmp_path / "disk" / "spool")
    with closing(Spool.open(settings)) as spool:
        put(spool, b"image")
    return settings


def at(tmp_path: Path, path: Path) -> Settings:
    folder = tmp_path / "etc"
    folder.mkdir(exist_ok=True)
    file = folder / "headgate.toml"
    file.write_text(f'[site]\nname = "north"\n[spool]\npath = "{path}"\n')
    return load(str(file), environment={})


def refusal(settings: Settings, *, create: bool = True) -> str:
    with pytest.raises(SpoolElsewhere) as refused:
        Spool.open(settings, create=create)
    return str(refused.value)


def unmount(settings: Settings, tmp_path: Path) -> Path:
    """What is below the mount point is an empty folder."""
    disk = tmp_path / "unmounted"
    os.rename(settings.spool.path.parent, disk)
    settings.spool.path.mkdir(parents=True)
    return disk


def test_it_is_remembered_outside_the_spool(site: Settings, tmp_path: Path) -> None:
    entry = identity.remembered(site)
    assert entry is not None
    assert entry[0].identity == identity.identity_of(site.spool.path) != ""
    assert entry[1].parent == tmp_path / "etc"
    assert identity.memory(site).file == str(entry[1])


@pytest.mark.parametrize("create", [True, False], ids=["receiver", "commands"])
def test_an_empty_place_where_a_spool_was_is_refused_and_left_as_it_is(
    site: Settings, tmp_path: Path, create: bool
) -> None:
    unmount(site, tmp_path)
    why = refusal(site, create=create)
    gone = f"there is no spool at {site.spool.path}, and there was one"
    for words in (gone, "Mount", identity.ADOPT):
        assert words in why
    assert list(site.spool.path.iterdir()) == []
    site.spool.path.rmdir()
    assert "there was one" in refusal(site, create=create)
    assert not site.spool.path.exists()


def test_the_disk_is_back_and_all_is_as_it_was(site: Settings, tmp_path: Path) -> None:
    disk = unmount(site, tmp_path)
    refusal(site)
    shutil.rmtree(site.spool.path.parent)
    os.rename(disk, site.spool.path.parent)
    with closing(Spool.open(site)) as spool:
        assert spool.catalog.totals().waiting.images == 1


def test_another_spool_is_refused(site: Settings, tmp_path: Path) -> None:
    other = at(tmp_path, tmp_path / "other" / "spool")
    Spool.open(other).close()
    disk = unmount(site, tmp_path)
    shutil.rmtree(site.spool.path.parent)
    os.rename(other.spool.path.parent, site.spool.path.parent)
    settings = at(tmp_path, site.spool.path)
    assert f"holds another spool ({identity.identity_of(site.spool.path)[:8]})" in refusal(settings)
    (site.spool.path / "identity").unlink()
    assert "has no identity" in refusal(settings)
    assert (disk / "spool" / "identity").exists()


def test_a_spool_that_moved_or_was_restored_is_itself(site: Settings, tmp_path: Path) -> None:
    moved = at(tmp_path, tmp_path / "larger" / "spool")
    shutil.copytree(site.spool.path, moved.spool.path)
    Spool.open(moved).close()
    assert identity.identity_of(moved.spool.path) == identity.identity_of(site.spool.path)
    old = at(tmp_path, site.spool.path)
    shutil.rmtree(site.spool.path)
    shutil.copytree(moved.spool.path, site.spool.path)  # back from a backup
    Spool.open(old).close()


def test_two_spools_of_one_settings_folder_are_two(site: Settings, tmp_path: Path) -> None:
    second = at(tmp_path, tmp_path / "second" / "spool")
    Spool.open(second).close()
    Spool.open(at(tmp_path, site.spool.path)).close()
    unmount(second, tmp_path)
    assert str(second.spool.path) in refusal(second)
    Spool.open(at(tmp_path, site.spool.path)).close()


def test_a_spool_of_an_earlier_version_gets_an_identity(site: Settings) -> None:
    (site.spool.path / "identity").unlink()
    identity.forget(site)
    Spool.open(site).close()
    assert identity.remembered(site) is not None
    assert identity.identity_of(site.spool.path)


def test_the_installations_place_comes_first_and_every_place_is_read(
    site: Settings, tmp_path: Path
) -> None:
    entry = identity.remembered(site)
    assert entry is not None
    identity.INSTALLED.mkdir(parents=True)
    second = at(tmp_path, tmp_path / "second" / "spool")
    Spool.open(second).close()
    assert len(list(identity.INSTALLED.iterdir())) == 1
    unmount(at(tmp_path, site.spool.path), tmp_path)
    refusal(at(tmp_path, site.spool.path))  # remembered beside the settings, before


def test_where_nothing_can_be_written_it_is_not_remembered_and_works(
    site: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.forget(site)

    def refuses(path: Path, *_data: object, **_more: object) -> None:
        raise DiskError(OSError(30, "Read-only file system"), f"writing {path.name}")

    monkeypatch.setattr(durable, "write_file", refuses)
    Spool.open(site).close()
    assert identity.remembered(site) is None
    assert identity.memory(site).file == ""


def test_a_damaged_memory_is_none(site: Settings) -> None:
    entry = identity.remembered(site)
    assert entry is not None
    for text in ("", "[]", "{", '{"path": 1}'):
        entry[1].write_text(text)
        assert identity.remembered(site) is None


def test_without_a_settings_file_it_is_remembered_beside_the_spool(tmp_path: Path) -> None:
    settings = load(None, {"spool.path": str(tmp_path / "disk")}, environment={})
    Spool.open(settings).close()
    os.rename(settings.spool.path, tmp_path / "gone")
    settings.spool.path.mkdir()
    refusal(settings)


def test_adopt_takes_what_is_there_or_lets_a_new_one_be_made(
    site: Settings, tmp_path: Path
) -> None:
    def call(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(headgate, ["--config", str(site.file), *words])
        assert result.exit_code == code, result.output
        return result.output

    unmount(site, tmp_path)
    for words in (("status",), ("drain", "--dry-run"), ("verify",), ("watch",)):
        sets = ("--set", "s3.bucket=pictures")
        assert "there was one" in call(*sets, *words, code=1)
    assert "headgate spool adopt" in call("doctor", code=1)
    assert "creates a new one when it starts" in call("spool", "adopt")
    Spool.open(site).close()
    new = identity.identity_of(site.spool.path)
    (site.spool.path / "identity").write_text("0123456789abcdef\n")
    refusal(site)
    assert f"is accepted as the spool 01234567, in place of {new[:8]}" in call("spool", "adopt")
    Spool.open(site).close()
