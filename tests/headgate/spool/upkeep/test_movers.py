"""Movers never collide: receiver, runs, retry, prune and verify --repair, all at once (R18)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.monitor.collect import snapshot
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Sent, State
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.spooling import images_below, open_spool, put
from tests.support.wait import moments, wait_for_exit

SECONDS = float(os.environ.get("HEADGATE_TEST_MOVERS_SECONDS", "2"))
"""Each change; the published campaign sets an hour."""


def act(word: str, root: Path, seed: int, seconds: float) -> None:
    """One of the four programs; it notes each acknowledgement on stdout, outside the spool."""
    dice = random.Random(seed)
    spool = open_spool(root)
    number = 0
    if word == "receive":
        with spool.hold_receiver_lock():
            spool.recover()
            for _ in moments(seconds, enough=lambda: number >= 10):  # noqa: B023
                number += 1
                receipt = put(spool, b"%d %d" % (seed, number), device=f"cam-{number % 5}").receipt
                print(receipt.id, flush=True)
        spool.close()
        return
    for _ in moments(seconds, lambda: dice.random() * 0.02):
        try:
            with spool.hold_drain_lock(word, 1) as lock:
                mover = Mover(spool, lock)
                if word == "drain":
                    _drain(mover, dice)
                elif word == "repair":
                    verify.repair(spool, mover, list(verify.look(spool)))
                else:
                    for item in spool.catalog.in_state(State.SET_ASIDE, 20):
                        mover.retry(item.id)
                    mover.prune(spool.now(), need=dice.choice([0, 100]))
                    # Minute folders go while the receiver may be linking into them.
                    for folder in list(spool.files.minutes(spool.files.new)):
                        try:
                            (spool.files.new / folder).rmdir()
                        except OSError:
                            continue
        except LockHeld:
            continue
    spool.close()


def _drain(mover: Mover, dice: random.Random) -> None:
    spool = mover._spool
    mover.reconcile(spool.now())
    for device in spool.catalog.backlog.waiting_devices():
        items = spool.catalog.backlog.oldest_of(device, 0, 20)
        spool.catalog.claim(items)
        aside = [item for item in items if dice.random() < 0.1]
        there = [i for i in items if i not in aside and spool.files.in_new(i.name).exists()]
        for item in aside:
            mover.set_aside(item, "a test says so", spool.now())
        mover.finish([(item, Sent("b", f"k/{item.name.file}", "e")) for item in there], spool.now())
        for item in items:
            if item not in aside and item not in there:
                assert mover.locate(item, spool.now()) != "nowhere"


@pytest.mark.parametrize(
    "kill", [pytest.param(False, marks=pytest.mark.slow), True], ids=["in-peace", "with-kills"]
)
def test_movers_never_collide(tmp_path: Path, kill: bool) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    open_spool(tmp_path).close()
    words = ["receive", "drain", "repair", "retry"]

    def start(word: str, seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, word, str(tmp_path), str(dice.randrange(10**9))]
        return subprocess.Popen(
            [*command, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        )  # fmt: skip

    acked: list[str] = []
    failures: list[str] = []

    def end(program: subprocess.Popen[str]) -> None:
        out, err = wait_for_exit(program, "a mover ends", SECONDS + 240)
        acked.extend(line for line in out.split("\n")[:-1] if line)
        if program.returncode not in (0, -signal.SIGKILL):
            failures.append(err)

    running = {word: start(word, SECONDS) for word in words}
    for passed in moments(SECONDS if kill else 0, lambda: dice.random() * 0.6):
        word = dice.choice(words)
        running[word].kill()
        end(running[word])
        running[word] = start(word, max(0.1, SECONDS - passed))
    for program in running.values():
        end(program)
    assert failures == []
    assert len(set(acked)) == len(acked)
    assert len(acked) >= 10  # by the last receiver alone, which nothing killed

    spool = open_spool(tmp_path)
    spool.recover()
    with spool.hold_drain_lock("the end", 5) as lock:
        mover = Mover(spool, lock)
        mover.reconcile(spool.now())
        found = verify.disagreements(spool, deep=True, sleep=lambda _: None)
        if not kill:
            assert found == []
        assert not [trouble for trouble in found if trouble.kind is DisagreementKind.LOST]
        assert verify.repair(spool, mover, found) == []
    places = images_below(spool.path)
    for image in acked:
        receipt = spool.receipt(image)
        assert receipt is not None, f"nobody knows of {image}"
        assert len(places.get(image, [])) == int(receipt.local), image
    assert verify.disagreements(spool, deep=True, sleep=lambda _: None) == []
    assert snapshot(spool).unaccounted == 0
    spool.close()


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
