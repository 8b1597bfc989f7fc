"""A run that root starts becomes the spool's owner before it touches anything."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import PYTHON_PATH

PROGRAM = """
import json, os, sys
from pathlib import Path
from headgate.spool.owner import become_owner
name = become_owner(Path(sys.argv[1]))
print(json.dumps([name, os.getuid(), os.getgid(), os.environ.get("HOME")]))
"""


def become(spool: Path) -> list[object]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(spool)],
        env={**os.environ, "PYTHONPATH": PYTHON_PATH}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: list[object] = json.loads(ran.stdout)
    return found


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_root_becomes_the_owner_with_its_group_and_home(tmp_path: Path) -> None:
    account = pwd.getpwnam("nobody")
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, account.pw_uid, account.pw_gid)
    assert become(spool) == ["nobody", account.pw_uid, account.pw_gid, account.pw_dir]


def test_whoever_owns_the_spool_stays_who_they_are(tmp_path: Path) -> None:
    assert become(tmp_path)[:3] == ["", os.getuid(), os.getgid()]
    assert become(tmp_path / "not there")[:3] == ["", os.getuid(), os.getgid()]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("given", ["", "state"])
def test_root_does_not_work_in_a_spool_of_its_own_that_others_may_write(
    tmp_path: Path, given: str
) -> None:
    spool = tmp_path / "spool"
    (spool / "state").mkdir(parents=True)
    assert become(spool)[:3] == ["", 0, 0]
    (spool / given).chmod(0o2770)
    assert become(spool)[:3] == ["", 0, 0]  # root's own group
    os.chown(spool / given, 0, 64001)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        become(spool)
    assert f"others may write to {spool / given}" in str(refused.value.stderr)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_an_owner_without_a_name_is_taken_on_by_number(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 64001, 64002)
    assert become(spool) == ["64001", 64001, 64002, "/nonexistent"]
