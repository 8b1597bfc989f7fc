"""The receiver and the uploader may be two users that share a group, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

GROUP, RECEIVER, UPLOADER, STRANGER = 61000, 61001, 61002, 61003

SCRIPT = f"""
import os, sys, tempfile
from pathlib import Path
from headgate.monitor.collect import snapshot
from headgate.spool.budget import ledger
from headgate.spool.errors import SpoolUnsuitable
from headgate.spool.image.image import Sent
from headgate.spool.upkeep.mover import Mover
from tests.support.spooling import open_spool, put

def receive(root):
    spool = open_spool(root)
    with spool.hold_receiver_lock():
        spool.recover()
        put(spool, b"image %d" % os.getpid())
    spool.close()

def upload(root):
    spool = open_spool(root)
    with spool.hold_drain_lock("a run", 0) as lock:
        mover = Mover(spool, lock)
        mover.reconcile(spool.now())
        items = spool.catalog.after(0, 10)
        spool.catalog.claim(items)
        mover.finish([(i, Sent("bucket", "k/" + i.name.file, "etag")) for i in items], spool.now())
        book = ledger.Ledger(spool.files.state / "ledger", 300)
        book.close()
        assert snapshot(spool).unaccounted == 0
    spool.close()

def pry(root):
    try:
        open_spool(root)
    except (SpoolUnsuitable, OSError):
        return
    raise AssertionError("a stranger got in")

with tempfile.TemporaryDirectory() as warm:  # another user may not read the interpreter's files
    receive(Path(warm))
    upload(Path(warm))

for user, group, do in [
    ({RECEIVER}, {GROUP}, receive),
    ({UPLOADER}, {GROUP}, upload),
    ({RECEIVER}, {GROUP}, receive),
    ({UPLOADER}, {GROUP}, upload),
    ({STRANGER}, {STRANGER}, pry),
]:
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            os.umask(0o007)
            do(Path(sys.argv[1]))
        except BaseException as error:
            print(user, do.__name__, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("being other users needs root")
    made = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="headgate-users-"))
    os.chown(made, RECEIVER, GROUP)
    made.chmod(0o2770)
    yield made
    shutil.rmtree(made)


@pytest.mark.root
def test_each_opens_fills_and_empties_what_the_other_made(shared: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, shared], cwd=ROOT, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
    spool = shared / "var/spool"
    assert len(list((spool / "done").rglob("*.jpg"))) == 2
    for path in spool.rglob("*"):
        mode, group = path.stat().st_mode & 0o7777, path.stat().st_gid
        assert group == GROUP
        assert mode == (0o2770 if path.is_dir() else 0o660), path
