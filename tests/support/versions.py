"""An older version of Headgate, as upgrades begin with one: of this checkout's own history."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from dev import install
from tests.support.paths import ROOT

SHIPPED = ["app", "headgate", "uploader", "deploy", "setup.cfg", "requirements.lock"]
OLDER = "0.0.9"
"""The number of an older version that is this one in all else."""


def git(*words: str, folder: Path = ROOT) -> str:
    ran = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def older_commit(accepts: Callable[[str], bool] = lambda _commit: True) -> str | None:
    """The newest commit before this one that installs something else and is accepted; None where
    the history is not here or too alike."""
    listed = subprocess.run(
        ["git", "rev-list", "--max-count=50", "--skip=1", "HEAD"],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    for commit in listed.stdout.split():
        differs = subprocess.run(
            ["git", "diff", "--quiet", commit, "HEAD", "--", *SHIPPED], cwd=ROOT, check=False
        )
        if differs.returncode == 1 and accepts(commit):
            return commit
    return None


def migrations_of(folder: Path) -> str:
    """How often the databases of these sources have changed; an older version opens no newer."""
    code = (
        "from headgate.spool.catalog import schema; from headgate.spool.site import site; "
        "print(len(schema.MIGRATIONS), len(site.MIGRATIONS))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip
    return ran.stdout.strip()


def renumber(setup: Path, version: str) -> None:
    text = re.sub(r"^version = .*$", f"version = {version}", setup.read_text(), flags=re.MULTILINE)
    setup.write_text(text)


def older_sources(folder: Path) -> Path:
    """The sources of an older version, unpacked in a new folder: an older commit's, or these."""
    folder.mkdir()
    commit = older_commit()
    if commit is None:
        for path in [*install.sources(), *ROOT.glob("requirements-*.lock"), *ROOT.glob("dev/*.py")]:
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    else:
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as file:
            file.extractall(folder, filter="data")
    renumber(folder / "setup.cfg", OLDER)
    return folder
