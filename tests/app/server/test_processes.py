"""A receiver of two processes: what its clients, its operator and a kill see of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.server import supervisor
from app.server.supervisor import Supervisor, Work
from headgate.host.board import Board
from tests.support.paths import ROOT
from tests.support.receiver import (
    FORM_TYPE,
    Answer,
    Receiver,
    await_processes,
    environment,
    form,
    head,
    part,
    read_answer,
    running,
    server_of,
    serving_processes,
)
from tests.support.wait import wait_for_exit, wait_until

Photo = Callable[[], bytes]


@contextlib.contextmanager
def two(own: Path, **settings: str) -> Iterator[Receiver]:
    with running(own, receiver__processes="2", **settings) as receiver:
        await_processes(receiver, 2)
        yield receiver


class Upload:
    """One of which half has been sent, to a process that has it in tmp/."""

    def __init__(self, receiver: Receiver, photo: bytes, device: str) -> None:
        body = form(part("image", photo, "a.jpg"))
        half = len(body) - 500
        before = set(receiver.half_received())
        self.connection = receiver.connect()
        top = head("POST", "/images", body, Content_Type=FORM_TYPE, X_Device=device)
        self.connection.sendall(top + body[:half])
        self.rest = body[half:]
        self.process = server_of(receiver, self.connection)
        wait_until(lambda: set(receiver.half_received()) - before, "its file is in tmp/")

    def finish(self) -> Answer | None:
        with self.connection:
            with contextlib.suppress(ConnectionError):
                self.connection.sendall(self.rest)
            return read_answer(self.connection)


def one_in_each(receiver: Receiver, photo: Photo, device: str = "") -> dict[int, Upload]:
    """An upload under way in each process; the kernel decides which process gets a connection."""
    found: dict[int, Upload] = {}
    for number in range(64):
        upload = Upload(receiver, photo(), device or f"cam-{number}")
        other = found.setdefault(upload.process, upload)
        if other is not upload:
            answer = upload.finish()
            assert answer is not None
            assert answer.status == 201
        if len(found) == 2:
            return found
    raise AssertionError("64 connections went to one process")


def metric(receiver: Receiver, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", receiver.get("/metrics").body.decode(), re.M)
    assert found is not None, name
    return float(found[1])


def test_both_serve_one_spool_and_count_together(own: Path, photo: Photo) -> None:
    with two(own) as receiver:
        uploads = one_in_each(receiver, photo)
        taken = metric(receiver, "headgate_upload_duration_seconds_count")
        assert metric(receiver, "headgate_reserved_bytes") > 0
        for upload in uploads.values():
            answer = upload.finish()
            assert answer is not None
            assert answer.status == 201
            receipt = answer.json
            for _ in range(8):  # whichever of them is asked
                assert receiver.get(f"/images/{receipt['id']}").json["sha256"] == receipt["sha256"]
        assert metric(receiver, "headgate_upload_duration_seconds_count") == taken + 2
        assert metric(receiver, "headgate_reserved_bytes") == 0
        assert receiver.stop() == 0
        assert "Traceback" not in receiver.log.read_text()


def test_a_kill_of_one_costs_its_own_connections_and_nothing_else(own: Path, photo: Photo) -> None:
    with two(own, receiver__device_parallel="2", receiver__device_rate="0") as receiver:
        kept = [receiver.post_raw(photo(), X_Device="cam-kept").json for _ in range(3)]
        uploads = one_in_each(receiver, photo, "cam-busy")
        killed, other = uploads
        assert receiver.post_raw(photo(), X_Device="cam-busy").code == "too_many_at_once"
        reserved = metric(receiver, "headgate_reserved_bytes")
        os.kill(killed, signal.SIGKILL)
        assert uploads[killed].finish() is None
        wait_until(lambda: not Path(f"/proc/{killed}").exists(), "it is gone, with its sockets")
        # What it held is free: promised room, its place among the device's uploads, its file.
        wait_until(
            lambda: metric(receiver, "headgate_reserved_bytes") < reserved, "its room is free"
        )
        wait_until(
            lambda: receiver.post_raw(photo(), X_Device="cam-busy").status == 201,
            "its place among the uploads of the device is free",
        )
        wait_until(lambda: len(receiver.half_received()) == 1, "its file is gone from tmp/")
        # The other one goes on, and one takes the dead one's place.
        now = await_processes(receiver, 2, without=killed)
        assert other in now
        answer = uploads[other].finish()
        assert answer is not None
        assert answer.status == 201
        for receipt in kept:
            assert receiver.get(f"/images/{receipt['id']}").json["state"] == "waiting"
        assert metric(receiver, "headgate_reserved_bytes") == 0
        assert metric(receiver, "headgate_unaccounted_images") == 0
        (died,) = (event for event in receiver.events if event["event"] == "process.died")
        assert (died["pid"], died["how"], died["cut_off"]) == (killed, "SIGKILL", 1)
        assert receiver.stop() == 0


def test_of_two_equal_uploads_to_both_the_second_gets_the_first_receipt(
    own: Path, photo: Photo
) -> None:
    with two(own, receiver__device_parallel="0", receiver__device_rate="0") as receiver:
        image = photo()

        def same() -> bytes:
            return image

        for _ in range(3):
            image = photo()
            uploads = list(one_in_each_of_the_same(receiver, same).values())
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(Upload.finish, uploads))
            assert sorted(answer.status for answer in answers if answer) == [200, 201]
            assert len({answer.json["id"] for answer in answers if answer}) == 1
        assert len(receiver.images()) == 3


def one_in_each_of_the_same(receiver: Receiver, photo: Photo) -> dict[int, Upload]:
    """The same without finishing any but the two."""
    found: dict[int, Upload] = {}
    for _ in range(64):
        upload = Upload(receiver, photo(), "cam-same")
        if found.setdefault(upload.process, upload) is not upload:
            upload.connection.close()
        if len(found) == 2:
            return found
    raise AssertionError("64 connections went to one process")


def test_a_killed_supervisor_leaves_no_process_no_port_and_no_lock(own: Path, photo: Photo) -> None:
    with two(own) as receiver:
        kept = receiver.post_raw(photo(), X_Device="cam").json
        processes = serving_processes(receiver)
        assert receiver.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "all are gone"
        )
        receiver.flags["receiver.bind"] = f"127.0.0.1:{receiver.port}"
        receiver.start()
        assert receiver.get(f"/images/{kept['id']}").json["state"] == "waiting"


def test_told_to_stop_both_finish_what_is_arriving(own: Path, photo: Photo) -> None:
    with two(own) as receiver:
        uploads = one_in_each(receiver, photo)
        assert receiver.process is not None
        receiver.process.send_signal(signal.SIGTERM)

        def listens() -> bool:
            with contextlib.suppress(ConnectionError), receiver.connect():
                return True
            return False

        wait_until(lambda: not listens(), "no new connection is taken")
        for upload in uploads.values():
            answer = upload.finish()
            assert answer is not None
            assert answer.status == 201
        wait_for_exit(receiver.process)
        assert receiver.process.returncode == 0
        assert "Traceback" not in receiver.log.read_text()


@pytest.mark.usefixtures("from_an_interpreter")
def test_the_supervisor_is_small_and_says_when_it_serves_and_stops(own: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(own / "notify"))
        manager.settimeout(120)
        receiver = Receiver(own, **{"receiver.processes": "2"})
        receiver.environment = {"NOTIFY_SOCKET": str(own / "notify")}
        receiver.start()
        try:
            assert manager.recv(100) == b"READY=1"
            await_processes(receiver, 2)
            assert receiver.process is not None
            status = Path(f"/proc/{receiver.process.pid}/status").read_text()
            assert int(status.partition("VmRSS:")[2].split()[0]) < 32_000  # kB
            assert int(status.partition("Threads:")[2].split()[0]) == 1
        finally:
            assert receiver.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


SUPERVISE = """
import json, os, signal, socket, sys
from app.server import supervisor
from app.server.supervisor import Supervisor, Work
from headgate.host.board import Board, Part, PROCESS, PROMISED, SERVING
from tests.support.wait import wait_until

supervisor.FIRST_PAUSE = 0.01
supervisor.STOPPED_SECONDS = 0.1
supervisor.TOGETHER_SECONDS = 3600
board, starts = Board.shared(2), []

def prepare(report):
    found = dict(cut_off=0, restored=0, newest_known_at=None)
    socket.send_fds(report, [json.dumps(found).encode()], [os.dup(0)])

def serve(number, prepared, first):
    SERVE

def clean_up(death):
    CLEAN_UP
    say("clean", death.number, death.code)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def wait_for_stop():
    signal.sigwait({signal.SIGTERM})

sys.exit(Supervisor(board, Work(prepare, serve, clean_up)).run())
"""


@contextlib.contextmanager
def supervised(serve: str, clean_up: str = "pass") -> Iterator[Supervised]:
    code = SUPERVISE.replace("SERVE\n", f"{serve}\n").replace("CLEAN_UP\n", f"{clean_up}\n")
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        try:
            yield Supervised(program)
        finally:
            program.kill()


class Supervised:
    """A supervisor of children that do what a test wants."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program

    def line(self) -> str:
        assert self.program.stdout is not None
        line = self.program.stdout.readline().strip()
        assert line, "the program has ended"
        return line

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.program.send_signal(number)
        return self.program.wait(120)


SERVES = "board.of(number).own(PROCESS)[SERVING] = 1; say('serves', number)"
KILLED = -signal.SIGKILL


def test_one_that_cannot_start_at_the_beginning_ends_all() -> None:
    with supervised("sys.exit(1) if number else wait_for_stop()") as receiver:
        assert receiver.program.wait(120) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_to_stop_stops_all(number: signal.Signals) -> None:
    with supervised(f"{SERVES}; wait_for_stop()") as receiver:
        assert {receiver.line(), receiver.line()} == {"serves 0", "serves 1"}
        assert receiver.stop(number) == 0


def test_one_that_dies_again_and_again_is_cleaned_up_after_and_served_for_again() -> None:
    serve = f"{SERVES}; os.kill(os.getpid(), signal.SIGKILL) if number else wait_for_stop()"
    with supervised(serve) as receiver:
        lines = [receiver.line() for _ in range(9)]
        lines.remove("serves 0")
        assert lines == ["serves 1", f"clean 1 {KILLED}"] * 4
        assert receiver.stop() == 0


def once(path: Path) -> str:
    """Whether this is the first time."""
    return f"(not os.path.exists({str(path)!r}) and open({str(path)!r}, 'w'))"


def test_one_that_is_stopped_is_replaced(own: Path) -> None:
    """It may hold a lock that the others wait for."""
    stop = f"number and {once(own / 'stop')} and os.kill(os.getpid(), signal.SIGSTOP)"
    with supervised(f"{SERVES}; {stop}; wait_for_stop()") as receiver:
        lines = [receiver.line() for _ in range(4)]
        lines.remove("serves 0")
        assert lines == ["serves 1", f"clean 1 {KILLED}", "serves 1"]
        assert receiver.stop() == 0


def test_all_listen_together(own: Path) -> None:
    """Or every client that was there first would stay with the first that listened."""
    go = str(own / "go")
    serve = (
        f"number and wait_until(lambda: os.path.exists({go!r}), 'the test lets it go'); {SERVES}\n"
        "    with board.of(number).lock(Part.START): say('listens')\n"
        "    wait_for_stop()"
    )
    with supervised(serve) as receiver:
        assert receiver.line() == "serves 0"
        Path(go).touch()
        assert [receiver.line() for _ in range(3)] == ["serves 1", "listens", "listens"]
        assert receiver.stop() == 0


def test_the_pause_grows_to_a_bound_and_begins_again_after_a_calm() -> None:
    place = supervisor._Place(0)
    watch = Supervisor(Board.shared(1), Work(*[None] * 3), lambda: now[0])  # type: ignore[list-item]
    now, pauses = [100.0], []
    for _ in range(9):
        watch._serve_again(place, 1, KILLED, 0)
        pauses.append(watch._next_pause(place))
        place.since = now[0]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    now[0] += supervisor.CALM_SECONDS + 1
    watch._serve_again(place, 1, KILLED, 0)
    assert watch._next_pause(place) == 0.5


def test_what_could_not_be_cleaned_up_is_tried_again_before_another_serves(own: Path) -> None:
    serve = (
        f"{SERVES}; number and {once(own / 'death')} and os.kill(os.getpid(), signal.SIGKILL);"
        " wait_for_stop()"
    )
    with supervised(serve, f"{once(own / 'clean')} and (say('fails'), os._exit(1))") as receiver:
        said = [receiver.line() for _ in range(5)]
        said.remove("serves 0")
        assert said == ["serves 1", "fails", f"clean 1 {KILLED}", "serves 1"]
        assert receiver.stop() == 0


def test_what_the_dead_one_held_is_free_before_it_is_cleaned_up_after() -> None:
    serve = (
        f"{SERVES}; board.of(number).own(PROMISED)[0] = 7 * number;"
        " os.kill(os.getpid(), signal.SIGKILL) if number and first else wait_for_stop()"
    )
    with supervised(serve, "say('promised', board.total(PROMISED, 0))") as receiver:
        said = [receiver.line() for _ in range(4)]
        said.remove("serves 0")
        assert said == ["serves 1", "promised 0", f"clean 1 {KILLED}"]
        assert receiver.stop() == 0
