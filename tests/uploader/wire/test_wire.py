"""Connections that stall, hang up, answer early or lie about HTTP; and what was permitted."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from headgate.spool.budget.ledger import Grant
from tests.support.s3_server import PATIENT, CountingPacer, certificates
from tests.support.scripted_server import (
    GET,
    OK,
    QUICK,
    exchange,
    put,
    read_request,
    server,
)
from tests.support.wait import wait_for_event
from uploader.wire.connection import Wire
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.file_body import FileBody
from uploader.wire.http import Exchange, HttpRequest, Target, Timeouts


def answer(sock: socket.socket) -> None:
    while read_request(sock):
        sock.sendall(OK)


def until_closed(sock: socket.socket) -> None:
    sock.recv(1)  # the first byte
    while sock.recv(65536):
        pass


@dataclass
class Recorder(CountingPacer):
    """Remembers every piece: what was permitted, and what was then written."""

    pieces: list[tuple[int, int]] = field(default_factory=list)

    def wrote(self, grant: Grant, written: int) -> None:
        self.pieces.append((grant.size, written))
        super().wrote(grant, written)


def test_a_connection_is_kept_alive_and_used_again() -> None:
    with server(answer) as port, exchange(port) as opened:
        for _ in range(3):
            assert opened.ask(put(100_000)).body == b"ok"
        assert opened.opened == 1


def test_a_connection_that_was_hung_up_while_idle_is_replaced_unseen() -> None:
    gone = threading.Event()

    def once(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(OK)
        sock.shutdown(socket.SHUT_RDWR)
        gone.set()

    with server(once, answer) as port, exchange(port) as opened:
        opened.ask(GET)
        wait_for_event(gone, "the peer is gone")
        assert opened.ask(GET).status == 200
        assert opened.opened == 2


def test_a_stalled_connection_is_reset_and_not_waited_for() -> None:
    seen: list[str] = []
    go_on = threading.Event()

    def never_reads(sock: socket.socket) -> None:
        wait_for_event(go_on, "the test goes on")
        try:
            while sock.recv(65536):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    pacer = Recorder()
    with server(never_reads) as port, exchange(port, pacer, QUICK) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(put(20_000_000))
        go_on.set()
    assert (caught.value.kind, caught.value.unknown) == (ErrorKind.UPLINK_DOWN, False)
    assert seen == ["reset"]
    assert 0 < pacer.written < 20_000_000


def test_permission_is_asked_only_when_there_is_room_and_what_was_not_written_is_not_counted() -> (
    None
):
    got: list[int] = []

    def counts(sock: socket.socket) -> None:
        got.append(len(read_request(sock)))
        sock.sendall(OK)

    pacer = Recorder(max_piece=1_000_000)  # more than the kernel ever has room for
    with server(counts) as port, exchange(port, pacer, Timeouts()) as opened:
        opened.ask(put(5_000_000))
    assert got == [pacer.written]
    assert any(written < size for size, written in pacer.pieces)
    assert all(written > 0 for _, written in pacer.pieces)


@pytest.mark.parametrize("tls", [False, True])
def test_an_early_answer_ends_the_sending(tls: bool, tmp_path: Path) -> None:
    def refuses(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
        until_closed(sock)

    context, ca = certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=ca) if tls else None
    pacer = CountingPacer(max_piece=1000)
    with server(refuses, answer, tls=context if tls else None) as port:
        with exchange(port, pacer, tls=trusting) as opened:
            assert opened.ask(put(50_000_000)).status == 503
            assert pacer.written < 25_000_000
            assert opened.ask(GET).status == 200  # over another connection
            assert opened.opened == 2


def test_no_answer_in_time_leaves_the_outcome_unknown() -> None:
    with server(until_closed) as port, exchange(port, timeouts=QUICK) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(put(1000))
    assert (caught.value.kind, caught.value.unknown) == (ErrorKind.UPLINK_DOWN, True)


def test_an_answer_that_drips_is_not_waited_for_without_end() -> None:
    def drips(sock: socket.socket) -> None:
        read_request(sock)
        for byte in OK * 1000:
            sock.sendall(bytes([byte]))
            if threading.Event().wait(0.05):
                return

    with server(drips) as port, exchange(port, timeouts=QUICK) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(put(1000))
    assert caught.value.unknown


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"", "connection-lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "no-http"),
        (b"220 mail.example.net ESMTP\r\n", "no-http"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "no-http"),
    ],
)
def test_half_an_answer_or_none_is_no_answer(reply: bytes, code: str) -> None:
    def replies(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(reply)

    with server(replies) as port, exchange(port) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(put(1000))
    assert caught.value.unknown
    assert caught.value.kind is ErrorKind.TRANSIENT
    assert caught.value.code == code


def test_a_reset_in_the_middle_of_the_body_cannot_have_stored_it() -> None:
    def resets(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with server(resets) as port, exchange(port) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(put(20_000_000))
    assert (caught.value.code, caught.value.unknown) == ("connection-lost", False)


def test_a_refused_connection_is_the_uplink_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with exchange(port) as opened, pytest.raises(SendError) as caught:
        opened.ask(GET)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.UPLINK_DOWN, "no-connection")


class Ended(Exception):
    pass


@dataclass
class Ending(CountingPacer):
    """A pacer whose run ends after some bytes."""

    limit: int = 100_000

    def take(self, wanted: int) -> Grant:
        if self.written >= self.limit:
            raise Ended
        return Grant(min(wanted, 1000), 0)


def test_the_end_of_the_run_resets_the_connection_in_the_middle() -> None:
    got: list[int] = []

    def counts(sock: socket.socket) -> None:
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                size += len(data)
            got.append(-1)
        got.append(size)

    pacer = Ending()
    with server(counts) as port, exchange(port, pacer) as opened, pytest.raises(Ended):
        opened.ask(put(1_000_000))
    assert 100_000 <= pacer.written < 101_000
    assert got[0] >= 0  # reset, not closed
    assert got[0] <= pacer.written


def test_a_wire_that_stalls_says_so_itself() -> None:
    ours, theirs = socket.socketpair()  # no TCP, so no TCP_USER_TIMEOUT
    ours.setblocking(False)
    wire = Wire(ours, CountingPacer(), stall=0.2)
    with theirs:
        with pytest.raises(TimeoutError, match="nothing could be written"):
            wire.sendall(b"x" * 10_000_000)
        wire.close()


def test_an_authority_that_is_not_trusted_stops_the_run(tmp_path: Path) -> None:
    context, _ = certificates(tmp_path)
    _, other = certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=other)
    with server(until_closed, tls=context) as port, exchange(port, tls=trusting) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(GET)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.FATAL, "certificate")


def test_a_name_that_the_certificate_does_not_have_stops_the_run(tmp_path: Path) -> None:
    context, ca = certificates(tmp_path)
    target = Target("localhost", 0, ssl.create_default_context(cafile=ca))
    with server(until_closed, until_closed, tls=context) as port:
        opened = Exchange(Target(target.host, port, target.tls), CountingPacer(), PATIENT)
        with pytest.raises(SendError) as caught:
            opened.ask(GET)
    assert caught.value.code == "certificate"


def test_a_server_that_speaks_no_tls_is_named(tmp_path: Path) -> None:
    def talks(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    _, ca = certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=ca)
    with server(talks) as port, exchange(port, tls=trusting) as opened:
        with pytest.raises(SendError) as caught:
            opened.ask(GET)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.UPLINK_DOWN, "tls")


def test_a_file_that_shrinks_while_it_is_sent_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(10_000_000))

    def shrinks(sock: socket.socket) -> None:
        sock.recv(65536)
        os.truncate(path, 1000)
        until_closed(sock)

    with server(shrinks) as port, exchange(port) as opened, FileBody(path, 10_000_000) as body:
        with pytest.raises(SendError) as caught:
            opened.ask(
                HttpRequest("PUT", "/b/k", {"Host": "h", "Content-Length": "10000000"}, body)
            )
    assert (caught.value.kind, caught.value.code) == (ErrorKind.PERMANENT, "file-changed")
    assert not caught.value.unknown


def test_a_continue_before_the_answer_is_passed_over() -> None:
    def continues(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    with server(continues) as port, exchange(port) as opened:
        assert opened.ask(put(1000)).status == 200


def head_of(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


@pytest.mark.parametrize(
    ("said", "then", "status", "continued"),
    [
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", OK, 200, True, id="asked for"),
        pytest.param(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\nx: y\r\n\r\n",
            OK, 200, True, id="after another interim answer",
        ),
        pytest.param(b"", OK, 200, False, id="silence"),
        pytest.param(
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", b"", 403, False, id="refused"
        ),
        pytest.param(b"", b"", 0, False, id="hung up"),
    ],
)  # fmt: skip
def test_a_body_is_held_back_until_the_server_asks_for_it(
    said: bytes, then: bytes, status: int, continued: bool
) -> None:
    """For a bounded time; a refusal before it costs the head alone, and is no unknown outcome."""
    heads: list[bytes] = []

    def script(sock: socket.socket) -> None:
        heads.append(head_of(sock))
        sock.sendall(said)
        if then:
            left = 1000
            while left and (more := sock.recv(left)):
                left -= len(more)
            sock.sendall(then)

    pacer = CountingPacer()
    seconds = 30.0 if said or not then else 0.05
    request = replace(put(1000), continue_seconds=seconds)
    with server(script) as port, exchange(port, pacer) as opened:
        if status:
            answered = opened.ask(request)
            assert (answered.status, answered.continued) == (status, continued)
        else:
            with pytest.raises(SendError) as caught:
                opened.ask(request)
            assert not caught.value.unknown
    assert b"\r\nExpect: 100-continue\r\n" in heads[0]
    assert pacer.written == len(heads[0]) + (1000 if then else 0)
