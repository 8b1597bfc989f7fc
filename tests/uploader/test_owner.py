"""A run that root starts becomes the spool's owner before it touches anything."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys
from pathlib import Path
from uploader.run.owner import become_owner
name = become_owner(Path(sys.argv[1]))
print(json.dumps([name, os.getuid(), os.getgid(), os.environ.get("HOME")]))
"""


def become(spool: Path) -> list[object]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(spool)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True,
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
