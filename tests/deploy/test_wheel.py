"""The wheel and the sdist: what is in them, made without fetching anything."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dev import install
from tests.support.paths import ROOT


def built(folder: Path) -> Path:
    """The wheel made of a copy of the sources, and the sdist beside it; nothing is fetched."""
    copy = folder / "source"
    for path in [*install.sources(), ROOT / "LICENSE"]:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    build = "import setuptools.build_meta as b, sys; to = sys.argv[1]; "
    build += "b.build_sdist(to); b.build_wheel(to)"  # they change sys.argv
    subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", build, str(folder)],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_is_needed_and_the_one_builds_as_the_other(
    tmp_path: Path,
) -> None:
    """In one: they are built once."""
    wheel = built(tmp_path)
    look_into(wheel)
    build_again(wheel, tmp_path / "again")


def look_into(wheel: Path) -> None:
    """The rooms, what they need, the files of deploy/, and nothing else."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    (shared,) = {name.partition("/data/")[0] for name in names if "/data/" in name}
    for path in install.sources():
        name = path.relative_to(ROOT).as_posix()
        if path.parts[len(ROOT.parts)] in ("app", "headgate", "uploader"):
            assert name in names
        elif name.startswith("deploy/"):
            assert f"{shared}/data/share/headgate/{name.removeprefix('deploy/')}" in names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("headgate-")} == {
        "app",
        "headgate",
        "uploader",
    }
    assert not [
        name for name in names if re.search(r"(^|/)(tests|dev|bench|var|\.venv|s3_local)/", name)
    ]
    assert wheel.name.endswith("-py3-none-any.whl"), "nothing in it is compiled"


def build_again(wheel: Path, tmp_path: Path) -> None:
    """The sdist alone makes the same wheel."""
    tmp_path.mkdir()
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=unpacked, check=True, capture_output=True
    )
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
