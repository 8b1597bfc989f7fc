"""``headgate install`` into a tree that is a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from uploader.cli.commands import install as install_command
from uploader.cli.install import release
from uploader.cli.install.layout import InstallPlan
from uploader.cli.install.release import Release
from uploader.cli.main import headgate

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="making users in a tree needs root")


def call(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(headgate, [str(word) for word in arguments], prog_name="headgate")
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without users of ours, and a version that lies in its prefix."""
    root = tmp_path / "root"
    for name in ("passwd", "group", "shadow", "gshadow"):
        file = root / "etc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    versions = root / "opt/headgate/versions"
    for name in ("1", "2", "3"):
        (versions / name / "bin").mkdir(parents=True)
    use(monkeypatch, root, "1")
    return root


def use(monkeypatch: pytest.MonkeyPatch, root: Path, version: str) -> None:
    """From now on it is this version that is installed."""

    def this(_prefix: Path | None) -> Release:
        return Release(root / "opt/headgate/versions" / version, root / "opt/headgate")

    monkeypatch.setattr(release, "this", this)


def plan_is_of(monkeypatch: pytest.MonkeyPatch, prefix: str = "/opt/headgate") -> None:
    """The prefix as the machine will see it."""
    real = install_command.plan_of

    def plan(_prefix: Path, *more: object) -> InstallPlan:
        return real(Path(prefix), *more)  # type: ignore[arg-type]

    monkeypatch.setattr(install_command, "plan_of", plan)
