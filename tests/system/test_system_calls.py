"""SIGKILL at every system call of an upload, of the moves of a run, and of a finish (strace).

A program without threads opens a spool, stops, and goes on once strace has attached itself; strace
kills it when it enters the nth call of its kind. Each call that it made when nothing killed it is
such an end once. What follows is what a start and a run do, and then each image has to be where the
promise says.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headgate.spool.image.image import Item, Sent, State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from tests.support.environment import without_settings
from tests.support.paths import ROOT
from tests.support.spooling import images_below, open_spool, put
from tests.support.wait import wait_for_exit, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

SHARE = int(os.environ.get("HEADGATE_TEST_SYSTEM_CALLS", "20"))
"""One in so many calls is an end; 1 for all of them."""
NEW = b"an image that is being received"
WAITING = [b"image %d" % number for number in range(3)]
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


# -- the program that is killed


def upload(spool: Spool) -> None:
    put(spool, NEW, "cam-9")


def _items(spool: Spool) -> list[Item]:
    return spool.catalog.after(0, 100)


def finish(spool: Spool) -> None:
    with spool.hold_drain_lock("a test", 0) as lock:
        items = _items(spool)
        spool.catalog.claim(items)
        sent = [(item, Sent("bucket", f"k/{item.name.file}", "etag")) for item in items]
        Mover(spool, lock).finish(sent, spool.now())


def set_aside(spool: Spool) -> None:
    with spool.hold_drain_lock("a test", 0) as lock:
        for item in _items(spool):
            Mover(spool, lock).set_aside(item, "a test says so", spool.now())


def put_back(spool: Spool) -> None:
    with spool.hold_drain_lock("a test", 0) as lock:
        for item in spool.catalog.in_state(State.SET_ASIDE, 100):
            Mover(spool, lock).retry(item.id)


def prune(spool: Spool) -> None:
    with spool.hold_drain_lock("a test", 0) as lock:
        Mover(spool, lock).prune(spool.now(), need=10**9)


ACTS: dict[str, Callable[[Spool], None]] = {
    "upload": upload, "finish": finish, "set_aside": set_aside, "put_back": put_back,
    "prune": prune,
}  # fmt: skip
BEFORE: dict[str, tuple[str, ...]] = {"put_back": ("set_aside",), "prune": ("finish",)}


def act(word: str, root: Path) -> None:
    """Open, wait for strace, act, and say so: from then on the image is acknowledged."""
    spool = open_spool(root)
    os.kill(os.getpid(), signal.SIGSTOP)
    ACTS[word](spool)
    os.write(1, b"done\n")
    os._exit(0)


# -- the campaign


def prepared(root: Path, word: str) -> dict[str, bytes]:
    """A spool in which images wait, as ``word`` needs it; the images by their ids."""
    root.mkdir()
    with closing(open_spool(root)) as spool:
        images = {put(spool, data, "cam-1").receipt.id: data for data in WAITING}
        for first in BEFORE.get(word, ()):
            ACTS[first](spool)
    return images


class Killed:
    """One program, traced; ``nth`` call of ``name`` ends it (0: none does)."""

    def __init__(self, word: str, root: Path, name: str = "", nth: int = 0) -> None:
        self.program = subprocess.Popen(
            [sys.executable, __file__, word, str(root)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**without_settings(), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        stat, log = Path(f"/proc/{self.program.pid}/stat"), root / "strace.log"
        wait_until(
            lambda: stat.read_text().rpartition(")")[2].split()[0] == "T",
            "the program has opened its spool", process=self.program,
        )  # fmt: skip
        inject = ["-e", f"inject={name}:signal=KILL:when={nth}"] if nth else []
        strace = subprocess.Popen(
            ["strace", "-qq", "-o", str(log), *inject, "-p", str(self.program.pid)],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        status = Path(f"/proc/{self.program.pid}/status")
        wait_until(
            lambda: f"TracerPid:\t{strace.pid}\n" in status.read_text(),
            "strace has attached itself", process=strace,
        )  # fmt: skip
        self.program.send_signal(signal.SIGCONT)
        out, err = wait_for_exit(self.program, "the program ends")
        wait_for_exit(strace, "strace ends")
        assert self.program.returncode in (0, -signal.SIGKILL), err
        self.done = out == b"done\n"
        self.calls = [found[1] for line in log.read_text(errors="replace").splitlines()
                      if (found := _CALL.match(line))]  # fmt: skip


def assert_whole(root: Path, word: str, images: dict[str, bytes], acked: bool) -> None:
    """What a start of the receiver and one of a run make of it, and where each image is then."""
    with closing(open_spool(root)) as spool:
        spool.recover()
        with spool.hold_drain_lock("a test", 0) as lock:
            Mover(spool, lock).reconcile(spool.now())
        places = images_below(spool.path)
        for image, data in images.items():
            receipt = spool.receipt(image)
            assert receipt is not None, image
            if not receipt.local:
                assert word == "prune" and image not in places
                continue
            assert len(places[image]) == 1, places[image]
            with spool.open_original(receipt) as file:  # type: ignore[union-attr]
                assert file.read() == data
        if word == "upload":
            held = put(spool, NEW, "cam-9")  # the client that got no answer sends it again
            assert held.duplicate or not acked
            assert len(images_below(spool.path)) == len(images) + 1
        assert spool.inventory().unaccounted == 0
        with spool.hold_drain_lock("a test", 0) as lock:
            found = verify.disagreements(spool, deep=True, sleep=lambda _: None)
            assert verify.repair(spool, Mover(spool, lock), found) == []
        assert not [one for one in found if one.kind is verify.DisagreementKind.LOST]


@pytest.mark.parametrize("word", ACTS)
def test_a_kill_at_every_system_call_loses_nothing(
    folder: Path, word: str, record_property: Callable[[str, int], None]
) -> None:
    images = prepared(folder / "whole", word)
    shutil.copytree(folder / "whole", folder / "first")
    whole = Killed(word, folder / "first")
    assert whole.done and len(whole.calls) > 20
    assert_whole(folder / "first", word, images, acked=True)
    counts: Counter[str] = Counter()
    ends = []
    for name in whole.calls:
        counts[name] += 1
        ends.append((name, counts[name]))
    chosen = ends if SHARE == 1 else random.sample(ends, max(5, len(ends) // SHARE))
    kills = 0
    for number, (name, nth) in enumerate(chosen):
        root = folder / str(number)
        shutil.copytree(folder / "whole", root)
        ended = Killed(word, root, name, nth)
        kills += ended.program.returncode == -signal.SIGKILL
        try:
            assert_whole(root, word, images, acked=ended.done)
        except BaseException as error:
            error.add_note(f"killed at call {nth} of {name}: {ended.calls[-5:]}")
            raise
        with contextlib.suppress(OSError):
            shutil.rmtree(root)
    assert kills >= len(chosen) * 9 // 10, "calls that depend on chance are few"
    record_property("kills", kills)
    record_property("system calls", len(ends))


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]))
