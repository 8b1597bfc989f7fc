"""``headgate install`` and ``uninstall``: what they put where, and what they leave alone.

The machine is a tree in a folder (``--root``); tests/system/test_clean_root.py boots a real one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from headgate.settings.settings import combine
from headgate.spool import schemas, sqlite
from headgate.spool.disk import durable
from headgate.spool.errors import DiskError
from tests.support.installing import call, needs_root, plan_is_of, use
from tests.support.paths import ROOT
from tests.support.spooling import open_spool
from uploader.cli.cron import crontabs, systemd_timer
from uploader.cli.cron import entry as crontab_line
from uploader.cli.install import accounts, layout, release, steps
from uploader.cli.install.layout import InstallPlan, placed, render
from uploader.cli.install.release import Release

DEPLOY = ROOT / "deploy"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, owner and content of all below, by path."""
    found = {}
    for path in root.rglob("*"):
        seen = path.lstat()
        data = b""
        if path.is_symlink():
            data = os.readlink(path).encode()
        elif path.is_file():
            data = path.read_bytes()
        found[str(path.relative_to(root))] = (seen.st_mode, seen.st_uid, data)
    return found


@needs_root
@pytest.mark.root
def test_a_tree_is_filled_once_and_a_second_call_finds_it_done(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    empty = everything(tree)
    said = call("install", "--root", tree, "--dry-run").output
    assert everything(tree) == empty
    assert "would make: the user headgate-receiver" in said

    told = call("install", "--root", tree).output
    assert re.findall("made: (.*)", told)[:3] == re.findall("would make: (.*)", said)[:3]
    sender, group = accounts.user_id(tree, "headgate"), accounts.group_id(tree, "headgate")
    assert None not in (sender, group, accounts.user_id(tree, "headgate-receiver"))
    assert f":{group}:" in (tree / "etc/passwd").read_text().splitlines()[1]
    for path, wanted, owner in (
        ("etc/headgate", 0o755, 0),
        ("etc/headgate/headgate.toml", 0o640, 0),
        ("var/lib/headgate", 0o750, sender),
        ("var/lib/headgate/.aws", 0o700, sender),
        ("var/lib/headgate/.aws/credentials", 0o600, sender),
        ("var/lib/headgate/spool", 0o2770, sender),
        ("var/lib/headgate/identities", 0o2770, sender),
        ("var/log/headgate", 0o750, sender),
        ("etc/logrotate.d/headgate", 0o644, 0),
        ("usr/local/lib/systemd/system/headgate-receiver.service", 0o644, 0),
        ("usr/local/lib/tmpfiles.d/headgate.conf", 0o644, 0),
        ("usr/local/lib/sysusers.d/headgate.conf", 0o644, 0),
    ):
        assert (mode(tree / path), (tree / path).stat().st_uid) == (wanted, owner), path
    assert (tree / "etc/headgate/headgate.toml").stat().st_gid == group
    assert os.readlink(tree / "usr/local/bin/headgate") == "/opt/headgate/bin/headgate"
    assert os.readlink(tree / "opt/headgate/bin") == "versions/1/bin"
    assert (tree / systemd_link("headgate-receiver.service", "multi-user")).is_symlink()
    assert not systemd_timer.enabled(tree)

    full = everything(tree)
    assert call("install", "--root", tree).output == "everything is as it should be\n"
    assert everything(tree) == full

    (tree / "var/lib/headgate/.aws").chmod(0o755)  # somebody's mistake is put right
    call("install", "--root", tree)
    assert mode(tree / "var/lib/headgate/.aws") == 0o700


@needs_root
@pytest.mark.root
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="no systemd-sysusers here")
@pytest.mark.parametrize("user", ["headgate", "camera-gate"])
@pytest.mark.parametrize("systemd", [True, False])
def test_sysusers_makes_the_accounts_that_an_installation_makes(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, systemd: bool
) -> None:
    plan_is_of(monkeypatch)
    used = []

    def which(name: str) -> str | None:
        used.append(name)
        return shutil.which(name) if systemd else None

    monkeypatch.setattr(accounts, "shutil", SimpleNamespace(which=which))
    call("install", "--root", tree, "--user", user)
    shipped = tree / "usr/local/lib/sysusers.d/headgate.conf"
    empty = tmp_path / "empty"
    copy = empty / "usr/lib/sysusers.d/headgate.conf"
    copy.parent.mkdir(parents=True)
    (empty / "etc").mkdir()
    copy.write_bytes(shipped.read_bytes())
    command = ["systemd-sysusers", f"--root={empty}", "headgate.conf"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert described(empty) == described(tree)
    assert {line[0] for line in described(tree)} == {user, f"{user}-receiver"}
    assert set(used) == {"systemd-sysusers"}
    assert (tree / "etc/.pwd.lock").exists() is systemd  # useradd --prefix takes another


def described(root: Path) -> list[tuple[str, str, str, str]]:
    """The accounts of a tree: name, name of the group, home, shell."""
    read = (root / "etc/group").read_text().splitlines()
    groups = {line.split(":")[2]: line.split(":")[0] for line in read}
    lines = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    ours = [line for line in lines if "gate" in line[0]]
    return sorted((line[0], groups[line[3]], line[5], line[6]) for line in ours)


def systemd_link(unit: str, target: str) -> str:
    return f"etc/systemd/system/{target}.target.wants/{unit}"


@needs_root
@pytest.mark.root
def test_what_was_edited_stays_and_versions_follow_each_other(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    call("install", "--root", tree)
    config, rotation = tree / "etc/headgate/headgate.toml", tree / "etc/logrotate.d/headgate"
    edited = config.read_text().replace('name = "site"', 'name = "north"')
    config.write_text(edited)
    credentials = tree / "var/lib/headgate/.aws/credentials"
    credentials.write_text("[default]\n")
    assert call("install", "--root", tree).output == "everything is as it should be\n"
    assert config.read_text() == edited
    beside = config.with_name("headgate.toml.dist")
    assert not beside.exists(), "nothing new has come since"

    files = Release.files
    new = {"headgate.toml": "# new\n", "logrotate.d/headgate": "# new\n"}
    monkeypatch.setattr(Release, "files", lambda self: {**files(self), **new})
    use(monkeypatch, tree, "2")
    told = call("install", "--root", tree).output
    assert "was edited and stays" in told
    assert config.read_text() == edited
    assert beside.read_text() == "# new\n"
    assert rotation.read_text() == "# new\n", "what nobody edited follows the version"
    assert credentials.read_text() == "[default]\n"
    assert os.readlink(tree / "opt/headgate/bin") == "versions/2/bin"
    kept = {path.name for path in (tree / "opt/headgate/versions").iterdir()}
    assert kept == {"1", "2"}, "the one before stays: a run may still be using it"
    call("install", "--root", tree)
    assert {path.name for path in (tree / "opt/headgate/versions").iterdir()} == kept


@needs_root
@pytest.mark.root
def test_uninstalled_only_the_spool_is_left(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_is_of(monkeypatch)
    before = set(everything(tree))
    call("install", "--root", tree)
    image = tree / "var/lib/headgate/spool/new/2026-11-23/1604/x.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"an image")
    (tree / "var/log/headgate/drain.log.1.gz").write_bytes(b"")
    tab = tree / "etc/cron.d/headgate"
    tab.parent.mkdir()
    line = crontab_line.CronEntry(
        300, "/opt/headgate/bin/headgate", "/etc/headgate/h.toml", "headgate"
    )
    tab.write_text(f"MAILTO=ops@example.net\n{crontab_line.make(line)}\n")

    said = call("uninstall", "--root", tree, "--dry-run").output
    assert "1 image still waiting" in said
    assert image.exists() and (tree / "opt/headgate/bin").exists()

    told = call("uninstall", "--root", tree).output
    assert f"the spool and its images stay: {tree}/var/lib/headgate/spool" in told
    left = set(everything(tree)) - before
    files = {name for name in left if not (tree / name).is_dir()}
    # Of useradd and others, and the lock of systemd-sysusers (lckpwdf(3)).
    backups = {"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock"}
    assert not (tree / "usr/local/lib/systemd").exists()
    assert files - backups == {"var/lib/headgate/spool/new/2026-11-23/1604/x.jpg"}
    assert image.read_bytes() == b"an image"
    assert accounts.user_id(tree, "headgate") is None
    assert accounts.group_id(tree, "headgate") is None

    for name in ("1", "2"):
        (tree / "opt/headgate/versions" / name / "bin").mkdir(parents=True)
    assert "made: the user headgate" in call("install", "--root", tree).output


@needs_root
@pytest.mark.root
def test_timers_and_cron_take_each_other_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_is_of(monkeypatch)
    tab = tree / "etc/cron.d/headgate"
    tab.parent.mkdir(parents=True)
    line = crontab_line.CronEntry(
        300, "/opt/headgate/bin/headgate", "/etc/headgate/h.toml", "headgate"
    )
    tab.write_text(f"{crontab_line.make(line)}\n")
    call("install", "--root", tree)
    assert tab.exists() and not systemd_timer.enabled(tree)
    tab.write_text(f"7 * * * * root /bin/true\n{crontab_line.make(line)}\n")
    refused = call("install", "--root", tree, "--schedule", "timer", code=1)
    assert "move them to another file" in refused.stderr
    assert crontab_line.find(tab.read_bytes()) and not systemd_timer.enabled(tree)
    tab.write_text(f"# ours\nMAILTO = ops@example.net\n\n{crontab_line.make(line)}\n")
    call("install", "--root", tree, "--schedule", "timer")
    assert not tab.exists() and systemd_timer.enabled(tree), (
        "the timers do not start while it is there"
    )
    assert (tree / systemd_link("headgate-watch.timer", "timers")).is_symlink()
    assert call("install", "--root", tree).output == "everything is as it should be\n"
    call("install", "--root", tree, "--schedule", "cron")
    assert not systemd_timer.enabled(tree)
    assert not (tree / systemd_link("headgate-watch.timer", "timers")).is_symlink()


@needs_root
@pytest.mark.root
def test_other_ways_in_run_while_their_settings_say_so(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_is_of(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "aiosmtpd" or None)
    config = tree / "etc/headgate/headgate.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        '[spool]\npath = "/var/lib/headgate/spool"\n[ftp]\nenabled = true\n'
        '[smtp]\nenabled = true\nbind = "0.0.0.0:25"\n'
        '[intake]\nfolders = ["/srv/cameras", "/home/ftp/my cams"]\n'
    )

    def enabled() -> set[str]:
        wants = tree / "etc/systemd/system/multi-user.target.wants"
        return {path.name for path in wants.iterdir()} - {"headgate-receiver.service"}

    def unit(name: str) -> str:
        return (tree / f"usr/local/lib/systemd/system/{name}").read_text()

    told = call("install", "--root", tree).output
    assert "packages for FTP are not installed: make install EXTRAS=ftp" in told
    assert enabled() == {"headgate-smtp.service", "headgate-intake.service"}
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in unit("headgate-smtp.service")
    assert "\nAmbientCapabilities=\n" in unit("headgate-ftp.service"), "its port is 2121"
    written = re.findall("ReadWritePaths=(.*)", unit("headgate-intake.service"))
    assert written[-2:] == ["/var/lib/headgate/spool", '"-/srv/cameras"']
    at_home = unit("headgate-intake.service")
    assert '\nBindPaths="-/home/ftp/my cams"\n' in at_home
    assert "\nProtectHome=tmpfs\n" in at_home
    if verifier := shutil.which("systemd-analyze"):
        path = tmp_path / "headgate-intake.service"
        path.write_text(at_home.replace("/opt/headgate/bin/headgate", "/bin/true"))
        ran = subprocess.run([verifier, "verify", "--man=no", path], capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert "at boot" not in call("install", "--root", tree).output
    config.write_text('[spool]\npath = "/var/lib/headgate/spool"\n')
    call("install", "--root", tree)
    assert enabled() == set()
    assert "/srv/cameras" not in unit("headgate-intake.service")


def test_cron_is_refused_while_the_timer_starts_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headgate.toml").write_text("")
    monkeypatch.setattr(systemd_timer, "enabled", lambda root=Path("/"): True)
    refused = call("cron", "install", "--file", tmp_path / "tab", "--user", "root", code=1)
    assert "headgate install --schedule cron" in refused.stderr
    assert not (tmp_path / "tab").exists()


def test_a_timer_that_differs_from_the_settings_is_told(tmp_path: Path) -> None:
    wants = tmp_path / systemd_timer.WANTS
    wants.mkdir(parents=True)
    unit = tmp_path / systemd_timer.DRAIN
    plan = InstallPlan(interval_seconds=900)
    text = (DEPLOY / "systemd" / systemd_timer.DRAIN).read_text()
    unit.write_text(render(plan, f"systemd/{systemd_timer.DRAIN}", text))
    assert not systemd_timer.enabled(tmp_path)
    (wants / systemd_timer.DRAIN).symlink_to(unit)
    assert systemd_timer.enabled(tmp_path)
    assert systemd_timer.compare(900, tmp_path) == []
    assert (
        "every 15min, but uplink.interval is 5min"
        in systemd_timer.compare(300, tmp_path)[0].sentence
    )
    unit.write_text("[Timer]\nOnCalendar=hourly\n")
    assert "changed by hand" in systemd_timer.compare(900, tmp_path)[0].sentence
    unit.unlink()
    assert "its file is gone" in systemd_timer.compare(900, tmp_path)[0].sentence


def test_a_timer_is_compared_and_a_line_beside_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = combine({}, tmp_path / "headgate.toml", {}, {}, tmp_path)
    monkeypatch.setattr(systemd_timer, "enabled", lambda root=Path("/"): True)
    monkeypatch.setattr(systemd_timer, "interval_seconds", lambda root=Path("/"): 300)
    monkeypatch.setattr(crontabs.UserTab, "read", lambda _self: b"")
    monkeypatch.setattr(crontabs, "CRON_D", tmp_path / "cron.d")
    assert crontabs.check(settings) == []
    (tmp_path / "cron.d").mkdir()
    line = crontab_line.make(crontab_line.CronEntry(300, "/x/headgate", "/x/h.toml", "headgate"))
    (tmp_path / "cron.d" / "headgate").write_text(f"{line}\n")
    (twice,) = crontabs.check(settings)
    assert "runs start twice" in twice.sentence and twice.fix == "headgate cron remove"


@needs_root
@pytest.mark.root
def test_root_means_the_installed_gateway_s_own_tab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = combine({}, tmp_path / "headgate.toml", {}, {}, tmp_path)
    settings.spool.path.mkdir(parents=True)
    monkeypatch.setattr(crontabs, "CRON_D", tmp_path)
    assert crontabs.installed_tab(settings) is None, "a spool of root's is nobody's service"
    os.chown(settings.spool.path, 1, 1)
    assert crontabs.installed_tab(settings) == (tmp_path / "headgate", "daemon")


def test_the_command_s_path_outlives_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "versions/1/bin"
    scripts.mkdir(parents=True)
    (scripts / "headgate").write_text("")
    monkeypatch.setattr(crontabs.sysconfig, "get_path", lambda _name: str(scripts))
    assert crontabs.own_command() == str(scripts / "headgate"), (
        "not in use, so it has no lasting name"
    )
    durable.switch_link(tmp_path / "bin", "versions/1/bin")
    assert crontabs.own_command() == str(tmp_path / "bin/headgate")


def test_a_link_is_switched_in_one_step_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "bin"
    flushed: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", flushed.append)
    for target in ("versions/1/bin", "versions/2/bin", "versions/1/bin"):
        durable.switch_link(link, target)
        assert os.readlink(link) == target
    assert flushed == [tmp_path] * 3
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError):
        durable.switch_link(tmp_path / "folder", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "folder"]
    (tmp_path / "made by hand").mkdir()
    with pytest.raises(steps.InstallError, match="move it away"):
        steps.symbolic(tmp_path / "made by hand", "x").do()


def test_every_file_of_deploy_that_is_installed_takes_other_names() -> None:
    names = [path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*") if path.is_file()]
    plan = InstallPlan(
        "/srv/gate", "gate", "/etc/gate/gate.toml", "/data/spool", 900, ("/var/log/gate",)
    )
    targets = {one.source: one.target for one in placed(plan, names)}
    assert targets["headgate.toml"] == "etc/gate/gate.toml"
    for source in targets:
        text = render(plan, source, (DEPLOY / source).read_text())
        settings = [line for line in text.splitlines() if line and not line.startswith("#")]
        for line in settings:
            assert "/opt/headgate" not in line and layout.SPOOL not in line, line
            assert not re.search(r"(User|Group)=headgate|headgate headgate", line), line
    drain = render(plan, "x", "") + render(
        plan,
        "systemd/headgate-drain.service",
        (DEPLOY / "systemd/headgate-drain.service").read_text(),
    )
    assert "ReadWritePaths=/data/spool\nReadWritePaths=-/var/log/gate\n" in drain
    assert "ExecStart=/srv/gate/bin/headgate --config /etc/gate/gate.toml drain" in drain


def test_as_they_are_the_files_of_deploy_are_for_the_usual_names() -> None:
    for path in (path for path in DEPLOY.rglob("*") if path.is_file()):
        name, text = path.relative_to(DEPLOY).as_posix(), path.read_text()
        assert render(InstallPlan(), name, text) == text, name


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run it with sudo" in call("install", code=1).stderr
    assert "run it with sudo" in call("uninstall", code=1).stderr


def test_a_checkout_is_not_made_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_prefix: Path | None) -> Release:
        raise steps.InstallError("it went on")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(release, "this", never)
    for word in ("install", "uninstall"):
        assert "this is a checkout: make install" in call(word, code=1).stderr


@needs_root
@pytest.mark.root
def test_settings_that_cannot_be_used_stop_it_before_anything_changes(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tree / "etc/headgate/headgate.toml"
    config.parent.mkdir()
    config.write_text('[receiver]\nbindd = "x"\n')
    before = everything(tree)
    refused = call("install", "--root", tree, code=1).stderr
    assert "there is no setting receiver.bindd" in refused and "nothing was changed" in refused
    assert everything(tree) == before


@needs_root
@pytest.mark.root
def test_an_older_version_than_the_spool_s_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tree / "etc/headgate/headgate.toml"
    config.parent.mkdir()
    config.write_text('[spool]\npath = "/var/lib/headgate/spool"\n')
    here = tree / "var/lib/headgate"
    here.mkdir(parents=True)
    spool = open_spool(here)  # makes here/var/spool
    spool.close()
    os.rename(here / "var/spool", here / "spool")
    assert schemas.too_new(here / "spool") == ""
    monkeypatch.setattr(schemas.site, "MIGRATIONS", schemas.site.MIGRATIONS[:-1])
    refused = call("install", "--root", tree, code=1).stderr
    assert "site.sqlite3 was made by a newer Headgate" in refused
    assert not (tree / "opt/headgate/bin").exists()


REFUSES = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Refuses(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.send_response(507)
        self.end_headers()

(bind,) = (word for word in sys.argv if word.startswith("receiver.bind="))
HTTPServer(("127.0.0.1", int(bind.rpartition(":")[2])), Refuses).serve_forever()
"""


def test_a_spool_is_asked_for_its_schema_and_not_migrated(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    site = tmp_path / "state/site.sqlite3"
    sqlite.connect(site, schemas.site.MIGRATIONS[:-1], full=True).close()
    assert schemas.too_new(tmp_path) == ""
    with contextlib.closing(sqlite.raw(site)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    assert version == len(schemas.site.MIGRATIONS) - 1


def test_a_version_that_does_not_start_is_not_installed(tmp_path: Path) -> None:
    """The trial itself: this environment takes an image; one whose receiver ends does not."""
    venv = Path(sys.prefix)
    good = Release(venv, tmp_path)
    release.try_out(good, None)
    assert list(tmp_path.iterdir()) == []

    broken = tmp_path / "versions/2"
    (broken / "bin").mkdir(parents=True)
    program = broken / "bin/headgate-receiver"
    program.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(steps.InstallError, match="no such library; nothing was changed"):
        release.try_out(Release(broken, tmp_path), None)
    program.write_text(f"#!{sys.executable}\n{REFUSES}")
    with pytest.raises(steps.InstallError, match="answers 507 to an image; nothing was changed"):
        release.try_out(Release(broken, tmp_path), None)
    assert [path.name for path in tmp_path.iterdir()] == ["versions"]
