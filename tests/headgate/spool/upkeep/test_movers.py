"""Movers never collide: receiver, runs, retry, prune and verify --repair, all at once (R18)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from app.server.supervisor import Death, Prepared, Supervisor, Work
from headgate.host.board import PROCESS, SERVING, Board
from headgate.monitor.collect import snapshot
from headgate.spool.errors import LockHeld
from headgate.spool.image.image import Sent, State
from headgate.spool.spool import Spool
from headgate.spool.upkeep import verify
from headgate.spool.upkeep.mover import Mover
from headgate.spool.upkeep.verify import DisagreementKind
from tests.support.spooling import images_below, open_spool, put
from tests.support.wait import moments, wait_for_exit

SECONDS = float(os.environ.get("HEADGATE_TEST_MOVERS_SECONDS", "2"))
"""Each change; the published campaign sets an hour."""
TOGETHER = {"receive by two": 2, "receive by four": 4}
"""How many processes receive at once."""


def act(word: str, root: Path, seed: int, seconds: float) -> None:
    """One of the four programs; it notes each acknowledgement on stdout, outside the spool."""
    dice = random.Random(seed)
    if word in TOGETHER:
        sys.exit(receive_together(root, seed, seconds, TOGETHER[word]))
    spool = open_spool(root)
    if word == "receive":
        with spool.hold_receiver_lock():
            spool.recover()
            receive(spool, str(seed), seconds, lambda: False)
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


def receive(spool: Spool, seed: str, seconds: float, stopping: Callable[[], bool]) -> None:
    acked: list[str] = []
    for _ in moments(seconds, enough=lambda: len(acked) >= 10):
        data = f"{seed} {len(acked)}".encode()
        acked.append(put(spool, data, device=f"cam-{len(acked) % 5}").receipt.id)
        os.write(1, f"{acked[-1]}\n".encode())
        if stopping():
            break


def receive_together(root: Path, seed: int, seconds: float, processes: int) -> int:
    """Processes that receive, below the supervisor that the receiver has."""
    board = Board.shared(processes)
    supervisor = os.getpid()

    def prepare(report: socket.socket) -> None:
        spool = open_spool(root)
        lock = spool.hold_receiver_lock(10, pid=supervisor)
        found = spool.recover()
        said = json.dumps(asdict(Prepared(found.cut_off, found.restored, None))).encode()
        socket.send_fds(report, [said], list(lock.descriptors))
        spool.close()

    def serve(number: int, _prepared: Prepared, _first: bool) -> None:
        spool = open_spool(root, board=board.of(number))
        board.of(number).own(PROCESS)[SERVING] = 1
        (root / f"receives-{number}").write_text(str(os.getpid()))
        name = f"{seed} {number} {os.getpid()}"
        receive(spool, name, seconds, lambda: signal.SIGTERM in signal.sigpending())
        os.kill(supervisor, signal.SIGTERM)
        signal.sigwait({signal.SIGTERM})
        spool.close()

    def clean_up(death: Death) -> None:
        spool = open_spool(root, board=board.of(death.number))
        spool.recover_from(death.number)
        spool.close()

    return Supervisor(board, Work(prepare, serve, clean_up)).run()


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
    "receives",
    [
        pytest.param("receive", marks=pytest.mark.slow),
        "receive by two",
        pytest.param("receive by four", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "kill", [pytest.param(False, marks=pytest.mark.slow), True], ids=["in-peace", "with-kills"]
)
def test_movers_never_collide(
    tmp_path: Path, kill: bool, receives: str, record_property: Callable[[str, int], None]
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    open_spool(tmp_path).close()
    words = [receives, "drain", "repair", "retry"]

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
        word = dice.choice([*words, *(["one that receives"] * 3)])
        if word not in words:
            number = dice.randrange(TOGETHER.get(receives, 1))
            kill_one_that_receives(tmp_path, running[receives].pid, number)
            continue
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
    record_property("images acknowledged", len(acked))


def kill_one_that_receives(root: Path, supervisor: int, number: int) -> None:
    """And does not prepare or clean up: those are needed for all that follows."""
    with contextlib.suppress(OSError, ValueError):
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        pid = (root / f"receives-{number}").read_text()
        if pid in children:
            os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
