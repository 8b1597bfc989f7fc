"""How the receiver starts, stops and dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.receiver import (
    FORM_TYPE,
    START,
    Answer,
    Receiver,
    await_processes,
    environment,
    form,
    head,
    part,
    read_answer,
    running,
    serving_process,
)
from tests.support.wait import join, wait_until

Photo = Callable[[], bytes]

pytestmark = pytest.mark.usefixtures("from_an_interpreter")


def start_expecting_failure(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START]
    for flag in flags:
        command += ["--set", flag]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )


def test_a_taken_port_is_one_sentence_with_its_fix(receiver: Receiver, own: Path) -> None:
    port = receiver.port
    ended = start_expecting_failure(f"receiver.bind=127.0.0.1:{port}", f"spool.path={own}/spool")
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"headgate-receiver: port {port} is taken")
    assert f"--set receiver.bind=127.0.0.1:{port + 1}" in line
    assert f"HEADGATE_RECEIVER_BIND=127.0.0.1:{port + 1}" in line
    assert not (own / "spool").exists()
    assert receiver.get("/healthz").status == 200


def test_an_address_of_another_machine_is_one_sentence(own: Path) -> None:
    ended = start_expecting_failure("receiver.bind=192.0.2.1:0", f"spool.path={own}/spool")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "cannot listen on 192.0.2.1:0" in line


def test_a_second_receiver_on_one_spool_is_one_sentence(own: Path) -> None:
    with running(own) as receiver:
        bind, spool = "receiver.bind=127.0.0.1:0", f"spool.path={receiver.spool}"
        ended = start_expecting_failure(bind, spool)
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert line.startswith("headgate-receiver: ")
        assert "receiver" in line
        assert receiver.get("/healthz").status == 200


def test_wrong_settings_are_all_named(own: Path) -> None:
    ended = start_expecting_failure("receiver.bind=nowhere", "receiver.max_image=20")
    assert ended.returncode == 2
    assert "receiver.bind" in ended.stderr
    assert "receiver.max_image" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_place_that_cannot_hold_a_spool_is_one_sentence(own: Path) -> None:
    (own / "spool").write_text("a file")
    ended = start_expecting_failure("receiver.bind=127.0.0.1:0", f"spool.path={own}/spool")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr


def begin_upload(receiver: Receiver, photo: bytes) -> tuple[socket.socket, bytes]:
    """An upload of which half has been written to tmp/, and the bytes that are left."""
    body = form(part("device", "cam-life"), part("image", photo, "a.jpg"))
    connection = receiver.connect()
    half = len(body) - 500
    connection.sendall(head("POST", "/images", body, Content_Type=FORM_TYPE) + body[:half])
    wait_until(
        lambda: any(path.stat().st_size for path in receiver.half_received()), "half is written"
    )
    return connection, body[half:]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_killed_in_the_middle_it_starts_again_with_nothing_half_and_nothing_lost(
    own: Path, photo: Photo
) -> None:
    with running(own) as receiver:
        for _ in range(2):
            kept = receiver.post_raw(photo(), X_Device="cam-kill").json
            connection, _ = begin_upload(receiver, photo())
            port = receiver.port
            assert receiver.stop(signal.SIGKILL) == -signal.SIGKILL
            wait_until(lambda held=port: is_free(held), "the port is free")  # type: ignore[misc]
            with connection:
                assert read_answer(connection) is None
            assert len(receiver.half_received()) == 1
            receiver.start()
            assert receiver.half_received() == []
            assert receiver.get(f"/images/{kept['id']}").json["state"] == "waiting"
        assert len(receiver.images()) == 2


def test_when_only_the_serving_process_is_killed_another_serves(own: Path, photo: Photo) -> None:
    with running(own) as receiver:
        kept = receiver.post_raw(photo(), X_Device="cam-kill").json
        connection, _ = begin_upload(receiver, photo())
        killed = serving_process(receiver)
        os.kill(killed, signal.SIGKILL)
        with connection:
            assert read_answer(connection) is None
        await_processes(receiver, 1, without=killed)
        assert receiver.half_received() == []
        assert receiver.get(f"/images/{kept['id']}").json["state"] == "waiting"
        assert receiver.post_raw(photo(), X_Device="cam-kill").status == 201
        (died,) = (event for event in receiver.events if event["event"] == "process.died")
        assert (died["pid"], died["how"], died["cut_off"]) == (killed, "SIGKILL", 1)
        assert receiver.stop() == 0


def listens(receiver: Receiver) -> bool:
    with contextlib.suppress(ConnectionError), receiver.connect():
        return True
    return False


def stop_in_the_middle(own: Path, photo: Photo, how: signal.Signals) -> Answer | None:
    with running(own) as receiver:
        connection, rest = begin_upload(receiver, photo())
        assert receiver.process is not None
        receiver.process.send_signal(how)
        with connection:
            wait_until(lambda: not listens(receiver), "no new connection is taken")
            connection.sendall(rest)
            answer = read_answer(connection)
        assert receiver.process.wait(60) == 0
        assert len(receiver.images()) == 1
        assert "Traceback" not in receiver.log.read_text()
    return answer


def test_told_to_stop_it_finishes_what_is_arriving(own: Path, photo: Photo) -> None:
    answer = stop_in_the_middle(own, photo, signal.SIGTERM)
    assert answer is not None
    assert answer.status == 201


@pytest.mark.slow
def test_ctrl_c_is_no_different(own: Path, photo: Photo) -> None:
    answer = stop_in_the_middle(own, photo, signal.SIGINT)
    assert answer is not None
    assert answer.status == 201


@pytest.mark.parametrize(
    "signals",
    [
        # Ctrl-C in a terminal reaches all of its processes, and so does a service manager that
        # stops a group.
        pytest.param([signal.SIGINT], marks=pytest.mark.slow),
        pytest.param([signal.SIGTERM], marks=pytest.mark.slow),
        [signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM],
    ],
)
def test_signals_to_all_processes_at_once_stop_it_cleanly(
    own: Path, signals: list[signal.Signals]
) -> None:
    with running(own) as receiver:
        assert receiver.process is not None
        for one in signals:
            os.killpg(receiver.process.pid, one)
        assert receiver.process.wait(60) == 0
        assert "Traceback" not in receiver.log.read_text()


def test_a_stop_closes_idle_connections(own: Path) -> None:
    with running(own) as receiver, receiver.connect() as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert receiver.stop() == 0


def test_it_serves_no_s3() -> None:
    code = "import app, app.server.server, sys; assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=True)


def test_large_bodies_pass_through_a_small_memory(own: Path) -> None:
    with running(own, receiver__max_image="300MB", spool__keep_free="0B") as receiver:
        assert receiver.get("/healthz").status == 200
        serving = serving_process(receiver)
        peaks = []
        for size in (1_000_000, 60_000_000):
            scan = bytes(1_000_000)
            first = b"\xff\xd8\xff\xda\x00\x02"
            top = head("POST", "/images", Content_Type="image/jpeg", Content_Length=str(size + 8))
            answer = receiver.send(top + first, *[scan] * (size // len(scan)), b"\xff\xd9")
            assert answer is not None
            assert answer.status == 201
            status = Path(f"/proc/{serving}/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]))
        assert peaks[1] - peaks[0] < 8_000  # kB


def test_threads_wait_for_bytes_side_by_side(own: Path, photo: Photo) -> None:
    """Uploads that arrive at the same time do not queue behind one another."""
    with running(own, receiver__threads="16", receiver__device_parallel="0") as receiver:
        begun = [begin_upload(receiver, photo()) for _ in range(8)]
        answers: list[Answer | None] = []

        def finish(connection: socket.socket, rest: bytes) -> None:
            with connection:
                connection.sendall(rest)
                answers.append(read_answer(connection))

        threads = [threading.Thread(target=finish, args=one) for one in reversed(begun)]
        for thread in threads:
            thread.start()
        for thread in threads:
            join(thread)
        assert [answer.status for answer in answers if answer] == [201] * 8
