"""What SIGKILL, a power cut and a full disk do to what other receivers acknowledged.

A measurement, not a test of ours: what a peer loses fails nothing and is recorded for the table.
What each promises: multer https://github.com/expressjs/multer (a file on disk; no flush is named),
FastAPI https://fastapi.tiangolo.com/tutorial/request-files/ (a spooled file; where it goes is up to
the application). "Same work" flushes the file, renames it, and flushes its folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.receive.contenders import Contender, Failed, fastapi, headgate, multer
from bench.receive.images import Image, Requests
from headgate.host.addresses import free_port
from tests.support import small_disk
from tests.support.peer_versions import named
from tests.support.power_cut import Disk, attached, disks
from tests.support.wait import join, kill, wait_until

Record = Callable[[str, object], None]
ROUNDS = int(os.environ.get("HEADGATE_TEST_PEERS", "0"))
CLIENTS = 8
REQUESTS = Requests(Image.of(60_000))
VICTIMS = (
    Contender("Headgate", headgate()),
    Contender("multer as it comes", multer("plain")),
    Contender("multer, same work", multer("same")),
    Contender("FastAPI as it comes", fastapi(durable=False)),
    Contender("FastAPI, same work", fastapi()),
)

pytestmark = [
    pytest.mark.skipif(not ROUNDS, reason="HEADGATE_TEST_PEERS is not set: it measures peers"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]
victims = pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.name)


class Witness:
    """Clients that post until their receiver is gone: what was sent, and what was acknowledged."""

    def __init__(self, port: int) -> None:
        self.sent: set[str] = set()
        self.acked: set[str] = set()
        self.refused = 0
        self._port = port
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _post(self, client: int) -> None:
        with contextlib.suppress(OSError):
            for number in range(client, 10**9, CLIENTS):
                if self._end.is_set():
                    return
                digest = REQUESTS.image.sha256(number)
                self.sent.add(digest)
                status = answer(self._port, b"".join(REQUESTS.pieces(number)))
                if status in (200, 201):
                    self.acked.add(digest)
                else:
                    self.refused += 1

    def stop(self) -> None:
        self._end.set()
        join(*self._threads)


def answer(port: int, request: bytes) -> int:
    """The status of the answer, which may come before the body is read; 0 for none. An error if
    nothing listens."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        said = b""
        with contextlib.suppress(OSError):
            sock.sendall(request)
        with contextlib.suppress(OSError):
            said = sock.recv(65536)
        found = re.match(rb"HTTP/1\.1 (\d{3})", said)
        return int(found[1]) if found else 0


@contextlib.contextmanager
def started(victim: Contender, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A victim that answers; killed in the end. Skips where it cannot be had."""
    folder.mkdir(parents=True)
    port = free_port()
    try:
        command = victim.command(port, folder, CLIENTS)
    except Failed as error:
        pytest.skip(f"{victim.name}: {error}")
    program = subprocess.Popen(
        command.words, env={**os.environ, **command.variables}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: listens(port), f"{victim.name} listens", process=program)
        yield program, port
    finally:
        end(program)


def end(program: subprocess.Popen[bytes]) -> None:
    """SIGKILL to it and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    kill(program)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def loaded(port: int) -> Witness:
    """Clients at work for a while, some images acknowledged."""
    witness = Witness(port)
    wait_until(lambda: len(witness.acked) > 20, "images are acknowledged")
    time.sleep(random.random() * 0.5)
    return witness


class Losses:
    """What is added up over the rounds of one victim, for the table."""

    def __init__(self) -> None:
        self.acked = self.lost = self.damaged = 0

    def count(self, witness: Witness, kept: Path) -> None:
        """``damaged``: files where images are picked up that are none that was sent."""
        stored = [hashlib.sha256(path.read_bytes()).hexdigest()
                  for path in kept.rglob("*") if path.is_file()]  # fmt: skip
        self.acked += len(witness.acked)
        self.lost += len(witness.acked - set(stored))
        self.damaged += sum(digest not in witness.sent for digest in stored)

    def record(self, record: Record, victim: Contender, rounds: int) -> None:
        record("peer", named(victim.name))
        record("rounds", rounds)
        record("acknowledged", self.acked)
        record("lost", self.lost)
        record("half-written", self.damaged)


@victims
def test_a_kill_under_load(tmp_path: Path, victim: Contender, record_property: Record) -> None:
    losses = Losses()
    for turn in range(ROUNDS):
        folder = tmp_path / f"turn-{turn}"
        with started(victim, folder) as (program, port):
            witness = loaded(port)
            end(program)
            witness.stop()
        losses.count(witness, folder / victim.kept)
        shutil.rmtree(folder)
    losses.record(record_property, victim, ROUNDS)


@victims
def test_a_power_cut_under_load(tmp_path: Path, victim: Contender, record_property: Record) -> None:
    losses = Losses()
    for disk, turns in disks(tmp_path, "ext4", ROUNDS):
        for turn in turns:
            losses.count(cut(disk, victim, turn), tmp_path / "after" / victim.kept)
            shutil.rmtree(tmp_path / "after")
    losses.record(record_property, victim, ROUNDS)


def cut(disk: Disk, victim: Contender, turn: int) -> Witness:
    """Cut its power under load; what is there after the next mount is copied to ../after."""
    folder = disk.mount / f"turn-{turn}"
    with attached(disk), started(victim, folder) as (program, port):
        os.sync()  # its folders have been there for long
        witness = loaded(port)
        disk.cut()
        time.sleep(0.02)
        end(program)
        witness.stop()
    with attached(disk):
        (folder / victim.kept).mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / victim.kept, disk.mount.parent / "after" / victim.kept)
        shutil.rmtree(folder)
    return witness


@victims
def test_a_full_disk(tmp_path: Path, victim: Contender, record_property: Record) -> None:
    losses = Losses()
    with small_disk.disk(tmp_path, 96) as mount:
        folder = mount / "turn"
        with started(victim, folder) as (_, port):
            small_disk.leave_free(mount, 40_000_000)
            witness = Witness(port)
            wait_until(lambda: witness.refused >= CLIENTS * 2, "uploads are refused")
            witness.stop()
        losses.count(witness, folder / victim.kept)
    losses.record(record_property, victim, 1)
