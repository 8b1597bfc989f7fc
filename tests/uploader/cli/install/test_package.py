"""``headgate install`` where dpkg brought the files; tests/system/test_deb.py boots such a one."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from dev import deb_files
from headgate.host.exit_codes import Exit
from tests.support.installing import call, needs_root
from tests.support.paths import ROOT
from uploader.cli.install import accounts, release
from uploader.cli.install.layout import PACKAGE, UNITS
from uploader.cli.install.release import Release


@pytest.fixture
def machine(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with the files of a package, and the settings that it comes with."""
    shutil.rmtree(tree / "opt")
    deb_files.lay_out(tree, "usr/lib/systemd/system")
    monkeypatch.setattr(release, "this", lambda _: Release(Path(PACKAGE), Path(PACKAGE)))
    return tree


def own(machine: Path) -> dict[str, str]:
    """What is below /usr/local."""
    local = machine / "usr/local"
    return {path.name: path.read_text() for path in local.rglob("*") if path.is_file()}


def test_a_package_has_below_usr_what_an_installation_has_below_usr_local(tmp_path: Path) -> None:
    deb_files.lay_out(tmp_path, "lib/systemd/system")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    units = {f"lib/systemd/system/{path.name}" for path in (ROOT / "deploy/systemd").iterdir()}
    assert len(units) == 9 and files == units | {
        "etc/headgate/headgate.toml",
        "etc/logrotate.d/headgate",
        "usr/bin/headgate",
        "usr/bin/headgate-receiver",
        "usr/lib/sysusers.d/headgate.conf",
        "usr/lib/tmpfiles.d/headgate.conf",
        "usr/share/bash-completion/completions/headgate",
        "usr/share/fish/vendor_completions.d/headgate.fish",
        "usr/share/man/man1/headgate-receiver.1.gz",
        "usr/share/man/man1/headgate.1.gz",
        "usr/share/zsh/vendor-completions/_headgate",
    }
    for unit in units:
        text = (tmp_path / unit).read_text()
        assert "/opt/" not in text and (f"{PACKAGE}/bin/" in text or unit.endswith(".timer"))
    drain = (tmp_path / "lib/systemd/system/headgate-drain.service").read_text()
    assert "ReadWritePaths=-/var/log/headgate\n" in drain, "its settings name that log"


@needs_root
@pytest.mark.root
def test_only_what_the_settings_want_otherwise_is_written_and_taken_back(machine: Path) -> None:
    config = machine / "etc/headgate/headgate.toml"
    shipped = config.read_text()
    said = call("install", "--root", machine).output
    assert "the user headgate-receiver" in said and "name the bucket" in said
    assert own(machine) == {}
    seen = config.stat()
    assert stat.S_IMODE(seen.st_mode) == 0o640
    assert seen.st_gid == accounts.group_id(machine, "headgate")
    assert not (machine / "usr/lib/headgate/installed.json").exists()
    assert call("install", "--root", machine).output.startswith("everything is as it should be")

    assert 'interval = "5min"' in shipped
    config.write_text(shipped.replace('interval = "5min"', 'interval = "1min"'))
    call("install", "--root", machine)
    assert [*own(machine)] == ["headgate-drain.timer"]
    assert "OnUnitActiveSec=60s" in own(machine)["headgate-drain.timer"]
    config.write_text(shipped)
    assert "so that the package's own counts" in call("install", "--root", machine).output
    assert own(machine) == {}

    config.write_text(shipped.replace("/var/lib/headgate/spool", "/srv/spool"))
    call("install", "--root", machine)
    assert {"headgate-receiver.service", "headgate.conf"} <= own(machine).keys()
    assert f"{PACKAGE}/bin/headgate-receiver" in own(machine)["headgate-receiver.service"]
    said = call("uninstall", "--root", machine).output
    assert "apt-get purge headgate" in said and f"{machine}/srv/spool" in said
    assert not [*machine.glob("usr/local/lib/*")]
    assert own(machine) == {} and config.exists()
    assert (machine / "usr/lib/systemd/system/headgate-receiver.service").exists()
    assert accounts.user_id(machine, "headgate") is not None, "the spool is theirs"


@needs_root
@pytest.mark.root
def test_neither_installation_comes_to_a_machine_that_has_the_other(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = machine / PACKAGE.lstrip("/") / "bin/headgate"
    command.parent.mkdir(parents=True)
    command.touch()
    said = call("install", "--root", machine, "--user", "gate", code=Exit.ERROR).output
    assert "leave --user" in said
    prefix = machine / "opt/headgate"
    monkeypatch.setattr(release, "this", lambda _: Release(prefix / "versions/1", prefix))
    said = call("install", "--root", machine, code=Exit.ERROR).output
    assert "apt-get remove headgate" in said
    assert own(machine) == {} and not (machine / UNITS).exists()
