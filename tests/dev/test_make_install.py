"""``make install`` before it installs: what this version is called, and what it refuses."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from dev import install
from dev.bootstrap import Failed
from tests.support.paths import ROOT


def test_a_version_is_named_by_all_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in install.sources()}
    assert {
        "requirements.lock",
        "setup.cfg",
        "app/server/server.py",
        "deploy/headgate.toml",
    } <= files
    others = ("tests/", "var/", "bench/", ".venv", "deploy/docker/")
    assert not [name for name in files if name.startswith(others)]
    name = install.version_name()
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{10}", name) and name == install.version_name()
    fewer = install.sources()[:-1]
    monkeypatch.setattr(install, "sources", lambda: fewer)
    assert install.version_name() != name


def test_a_python_that_other_users_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & stat.S_ISVTX or folder.owner() != Path.home().owner():
            break  # /tmp, which is everyone's
        folder.chmod(0o755)
    program = tmp_path / "private" / "bin" / "python3"
    program.parent.mkdir(parents=True)
    program.write_text("")
    assert install.out_of_reach(program) == ""
    (tmp_path / "private").chmod(0o700)
    assert install.out_of_reach(program) == str(tmp_path / "private")
    monkeypatch.setattr(install.sys, "executable", str(program))
    monkeypatch.setattr(install.sys, "argv", ["make install", "--prefix", str(tmp_path / "opt")])
    assert install.main() == 1
    said = capsys.readouterr().err
    assert "make install PYTHON=/usr/bin/python3" in said
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize("root", [["--root", "elsewhere"], ["--root=elsewhere"]])
def test_another_root_is_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: list[str],
) -> None:
    prefix = ["--prefix", str(tmp_path / "opt")]
    monkeypatch.setattr(install.sys, "argv", ["make install", *prefix, *root])
    assert install.main() == 1
    assert "headgate install --root DIR" in capsys.readouterr().err
    assert not (tmp_path / "opt").exists()


def test_setuptools_is_taken_from_the_lock_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = install.locked_setuptools(tmp_path).read_text()
    assert re.match(r"setuptools==[\d.]+ \\\n    --hash=sha256:[0-9a-f]{64}", text)
    assert text.count("==") == 1
    monkeypatch.setattr(install, "ROOT", tmp_path)
    (tmp_path / "requirements-dev.lock").write_text("")
    with pytest.raises(Failed, match="names no setuptools"):
        install.locked_setuptools(tmp_path)


def test_a_dry_run_says_what_it_would_make_and_makes_nothing(tmp_path: Path) -> None:
    system = Path("/usr/bin/python3")  # a developer's own may lie where no other user passes
    if not system.exists():
        pytest.skip("there is no /usr/bin/python3 for a service to run with")
    ran = subprocess.run(
        ["make", "install", f"PYTHON={system}", f"PREFIX={tmp_path}/opt", "FLAGS=--dry-run"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MAKEFLAGS": ""},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert f"would make the environment {tmp_path}/opt/versions/" in ran.stderr
    assert not (tmp_path / "opt").exists()


def test_an_interrupted_environment_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(venv: Path, _scratch: Path, _extras: list[str]) -> None:
        (venv / "bin").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "make_environment", interrupted)
    monkeypatch.setattr(install.signal, "signal", lambda *_: None)
    venv = tmp_path / "versions" / "1"
    with pytest.raises(KeyboardInterrupt):
        install.make(venv, [])
    assert not venv.exists()


def test_extras_have_locks_of_their_own_and_are_kept_by_the_next_version(tmp_path: Path) -> None:
    assert install.version_name(["queue"]) != install.version_name()
    assert "celery==" in install.lock_of("queue").read_text()
    with pytest.raises(Failed, match="EXTRAS takes apprise, fleet, ftp, queue, smtp"):
        install.version_name(["quue"])
    assert install.extras_in_use(tmp_path) == []
    venv = tmp_path / "versions" / "1"
    (venv / "bin").mkdir(parents=True)
    (venv / install.WITH).write_text("apprise\nqueue")
    (tmp_path / "bin").symlink_to("versions/1/bin")
    assert install.extras_in_use(tmp_path) == ["apprise", "queue"]
