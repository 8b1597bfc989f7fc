"""The settings file: which one is read, and what is said about one that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headgate.settings import load
from headgate.settings.settings import SettingsError
from tests.support.paths import ROOT

SYSTEM = Path("/etc/headgate/headgate.toml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def write(path: Path, site: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'[site]\nname = "{site}"\n[spool]\npath = "images"\n')
    return path


def test_what_is_named_wins_over_what_is_found(folder: Path, tmp_path: Path) -> None:
    flag = write(tmp_path / "flag" / "a.toml", "flag")
    variable = write(tmp_path / "variable" / "b.toml", "variable")
    write(folder / load.FILE, "here")
    environment = {"HEADGATE_CONFIG": str(variable)}
    assert load.load(str(flag), environment=environment).site.name == "flag"
    assert load.load(environment=environment).site.name == "variable"
    assert load.load(environment={}).site.name == "here"


@pytest.mark.skipif(SYSTEM.exists(), reason=f"{SYSTEM} is there")
def test_without_a_file_the_defaults_hold_here(folder: Path) -> None:
    settings = load.load(environment={})
    assert settings.file is None
    assert settings.spool.path == folder / "var/spool"


def test_paths_begin_at_the_folder_of_the_file(folder: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "etc" / "site.toml", "north")
    settings = load.load("../etc/site.toml", environment={})
    assert settings.spool.path.resolve() == tmp_path / "etc" / "images"
    assert settings.file is not None and settings.file.is_absolute()
    assert settings.file.samefile(file)
    assert settings.origin["site.name"] == str(settings.file)


def test_flags_and_variables_stand_above_the_file(folder: Path) -> None:
    write(folder / load.FILE, "here")
    settings = load.load(
        flags={"uplink.share": "7%"}, environment={"HEADGATE_SITE_NAME": "variable"}
    )
    assert settings.site.name == "variable"
    assert settings.origin["uplink.share"] == "flag"
    assert settings.origin["spool.path"] == str(folder / load.FILE)


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_file_that_was_named_must_be_there(folder: Path, how: str) -> None:
    write(folder / load.FILE, "here")
    with pytest.raises(SettingsError, match="no such file"):
        if how == "flag":
            load.load("gone.toml", environment={})
        else:
            load.load(environment={"HEADGATE_CONFIG": str(folder)})


@pytest.mark.parametrize("content", [b"[site\n", b"[site]\nname = north\n", b"\xff\xfe[site]\n"])
def test_a_file_that_cannot_be_read_is_named_in_the_fault(folder: Path, content: bytes) -> None:
    (folder / load.FILE).write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        load.load(environment={})
    (fault,) = refusal.value.faults
    assert str(folder / load.FILE) in fault


def test_faults_of_the_file_name_it(folder: Path) -> None:
    (folder / load.FILE).write_text('[uplink]\nshare = "120%"\n[typo]\nx = 1\n')
    with pytest.raises(SettingsError) as refusal:
        load.load(environment={"HEADGATE_NO_SUCH": "1"})
    assert len(refusal.value.faults) == 3
    assert sum(str(folder / load.FILE) in fault for fault in refusal.value.faults) == 2


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="whose a file is matters to root")
@pytest.mark.parametrize(
    "whose", ["file", "its folder", "writable file", "writable folder", "link"]
)
def test_root_takes_no_settings_that_another_user_could_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    file = here / load.FILE
    file.write_text('[site]\nname = "evil"\n')
    file.chmod(0o640)
    monkeypatch.chdir(here)
    assert load.load(environment={}).site.name == "evil"  # root's own
    match whose:
        case "file":
            os.chown(file, 64001, 0)
        case "its folder":
            os.chown(here.parent, 64001, 0)
        case "writable file":
            file.chmod(0o666)
        case "writable folder":
            here.chmod(0o777)
        case "link":
            os.rename(file, tmp_path / "theirs")
            os.chown(tmp_path / "theirs", 64001, 0)
            file.symlink_to(tmp_path / "theirs")
    with pytest.raises(SettingsError, match="root does not read"):
        load.load(environment={})
    assert load.load(str(file), environment={}).site.name == "evil"  # it was named
    here.chmod(0o1777)
    if whose == "writable folder":
        assert load.load(environment={}).site.name == "evil"  # as in /tmp


# -- secrets beside it

HIDDEN = """
import os, sys
from headgate.settings.load import load
os.setgroups([64000])
os.setgid(64000)
os.setuid(int(sys.argv[2]))
settings = load(sys.argv[1], environment={})
print([settings.value(name) for name in ("alerts.smtp_url", "queue.broker")])
"""


def test_secrets_stand_in_a_file_of_their_own(folder: Path) -> None:
    file = folder / load.FILE
    file.write_text('[alerts]\nmail_to = ["a@b.example"]\nheartbeat_url = "https://a.example/1"\n')
    with pytest.raises(SettingsError, match="there is no mail server"):
        load.load(environment={})
    secrets = folder / load.SECRETS
    secrets.write_text(
        '[alerts]\nsmtp_url = "smtp://m.example"\nheartbeat_url = "https://a.example/2"\n'
    )
    settings = load.load(environment={})
    assert settings.alerts.smtp_url == "smtp://m.example"
    assert settings.alerts.heartbeat_url == "https://a.example/2"
    assert settings.origin["alerts.smtp_url"] == str(secrets)
    variable = {"HEADGATE_ALERTS_SMTP_URL": "smtp://other.example"}
    assert load.load(environment=variable).alerts.smtp_url == "smtp://other.example"
    secrets.write_text('[uplink]\nshare = "90%"\n')
    with pytest.raises(SettingsError, match=r"uplink\.share is not a secret: set it in .*toml"):
        load.load(environment={})
    secrets.write_text("[alerts\n")
    with pytest.raises(SettingsError, match=r"secrets\.toml"):
        load.load(environment={})


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="being other users needs root")
def test_the_receivers_user_starts_without_the_secrets_and_cannot_read_them() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        here = Path(made)
        here.chmod(0o755)
        file, secrets = here / load.FILE, here / load.SECRETS
        file.write_text('[alerts]\nmail_to = ["a@b.example"]\n[uplink]\ntrigger = "queue"\n')
        secrets.write_text(
            '[alerts]\nsmtp_url = "smtp://m.example"\n[queue]\nbroker = "redis://r.example/0"\n'
        )
        secrets.chmod(0o600)
        os.chown(secrets, 64002, 64000)
        said = {}
        for user in (64001, 64002):
            ran = subprocess.run(
                [sys.executable, "-c", HIDDEN, file, str(user)],
                cwd=ROOT, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            said[user] = ran.stdout.strip() or ran.stderr
        assert said == {
            64001: "['', '']",
            64002: "['smtp://m.example', 'redis://r.example/0']",
        }
