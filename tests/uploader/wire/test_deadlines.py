"""Servers and proxies that never come to an end: each exchange does, by the clock and by bytes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headgate.spool.site.alerts import Message
from tests.support.s3_server import CountingPacer, certificates, settings_for
from tests.support.scripted_server import GET, OK, QUICK, exchange, put, read_request, server
from uploader.alerts.channel import DeliveryError
from uploader.alerts.mail import Mail, _Session
from uploader.cloudwatch.client import CloudWatchTrouble, client
from uploader.wire.connection import Cutoff, Wire
from uploader.wire.dialing import connect
from uploader.wire.errors import ErrorKind, SendError
from uploader.wire.http import Exchange, Target, Timeouts
from uploader.wire.proxy import Proxy

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WITHIN = 60.0
"""Seconds after which a test gives an exchange up that has no end; each takes a second or two."""


def for_ever(start: bytes, again: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """A server that begins an answer and never ends it, as fast as it is read, or slowly."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(start)
        while not threading.Event().wait(pause):
            sock.sendall(again)

    return script


ENDLESS = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "headers": (HEAD, b"X-More: and more\r\n"),
    "one header": (HEAD + b"X-More: ", b"and more"),
    "a status line": (b"HTTP/1.1 200 ", b"OK"),
    "blank lines": (b"", b"\r\n"),
    "a body without a length": (HEAD + b"\r\n", b"body"),
    "a body that is long": (HEAD + b"Content-Length: 999999999\r\n\r\n", b"body"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "a chunk's extension": (CHUNKED + b"1;", b"more"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-More: and more\r\n"),
    "an error that goes on": (b"HTTP/1.1 500 No\r\n\r\n<Error>", b"<Message>"),
}


def ended(ask: Callable[[], object]) -> SendError | None:
    """How a request ended, in a thread of its own: a test that cannot fail would hang."""
    found: list[SendError | None] = []

    def run() -> None:
        try:
            ask()
            found.append(None)
        except SendError as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN)
    assert found, "the exchange goes on for ever"
    return found[0]


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["without a pause", "slowly"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_an_end_is_given_up_and_unknown(kind: str, pause: float) -> None:
    start, again = ENDLESS[kind]
    with server(for_ever(start, again, pause)) as port, exchange(port, timeouts=QUICK) as opened:
        error = ended(lambda: opened.ask(put(1000)))
    if error is None:  # what is over 64 KiB of a body is not read to its end
        assert "body" in kind or kind in ("chunks", "an error that goes on")
        return
    assert error.unknown
    assert error.kind in (ErrorKind.UPLINK_DOWN, ErrorKind.TRANSIENT)


def test_an_endless_answer_is_bounded_in_bytes_where_it_comes_fast() -> None:
    patient = Timeouts(connect=5, stall=1000, answer=1000)
    start, again = ENDLESS["100 Continue"]
    with server(for_ever(start, again * 1000)) as port, exchange(port, timeouts=patient) as opened:
        error = ended(lambda: opened.ask(GET))
    assert error is not None and error.code == "endless-answer"


@pytest.mark.parametrize("reply", [b"HTTP/1.1 100 Continue\r\n\r\n", ENDLESS["103 Early Hints"][1]])
def test_an_interim_answer_in_the_middle_of_the_body_does_not_end_the_sending(reply: bytes) -> None:
    got: list[int] = []

    def hints(sock: socket.socket) -> None:
        sock.recv(1000)
        for byte in reply:
            sock.sendall(bytes([byte]))
        size = 1000
        while size < 5_000_000 and (data := sock.recv(65536)):
            size += len(data)
        got.append(size)
        sock.sendall(reply * 3 + OK)

    with server(hints) as port, exchange(port, timeouts=Timeouts()) as opened:
        assert opened.ask(put(5_000_000)).status == 200
    assert got and got[0] >= 5_000_000


def test_interim_answers_without_end_while_a_body_is_sent_end_the_exchange() -> None:
    def hints(sock: socket.socket) -> None:
        sock.recv(1000)
        while True:
            sock.sendall(ENDLESS["102 Processing"][1] * 100)

    with server(hints) as port, exchange(port, timeouts=Timeouts(5, 60, 60)) as opened:
        error = ended(lambda: opened.ask(put(50_000_000)))
    assert error is not None and error.code == "endless-answer"
    assert not error.unknown


class Time:
    """A clock that passes only while a wire waits, in steps that the test chooses."""

    def __init__(self, *steps: float) -> None:
        self.now = 0.0
        self.steps = itertools.cycle(steps)


class Link(Wire):
    """A wire whose waits for room take no real time; each lets one piece out."""

    def __init__(self, time: Time, stall: float) -> None:
        self._time = time
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        super().__init__(
            self.ours, CountingPacer(max_piece=1024), stall=stall, clock=lambda: time.now
        )

    def _ready(self, events: int, timeout: float | None) -> int:
        step = next(self._time.steps)
        assert timeout is not None
        self._time.now += min(step, timeout)
        if step >= timeout:
            return 0
        with contextlib.suppress(BlockingIOError):
            while self.theirs.recv(65536):
                pass
        return super()._ready(events, 0)


def sent_over(link: Link, size: int) -> float:
    """Seconds that it took, by the link's own clock."""
    with link.ours, link.theirs:
        link.sendall(bytes(size))
    return link._time.now


def test_an_image_of_20_mib_passes_at_a_kilobyte_a_second() -> None:
    assert sent_over(Link(Time(1.0), stall=20.0), 20 * 2**20) > 20_000


def test_a_link_that_pauses_for_nearly_as_long_as_a_stall_passes_while_it_carries_enough() -> None:
    assert sent_over(Link(Time(19.0, *[0.1] * 40), stall=20.0), 2**20) > 400


def test_a_server_that_takes_a_piece_now_and_then_is_given_up_in_a_few_stalls() -> None:
    link = Link(Time(19.0), stall=20.0)
    with pytest.raises(TimeoutError, match="less than 512 bytes a second"):
        sent_over(link, 20 * 2**20)
    assert link._time.now < 200


def test_a_drip_towards_us_does_not_prolong_the_wait_for_room() -> None:
    """TLS records that come in parts are no answer, and no room either."""

    def drips(sock: socket.socket) -> None:
        sock.recv(1000)
        while not threading.Event().wait(0.02):
            sock.sendall(b"H")

    with server(drips) as port, exchange(port) as opened:
        opened_wire = connect("127.0.0.1", port, timeout=5, stall=5)
        with opened_wire:
            wire = Wire(opened_wire, CountingPacer(), stall=0.3)
            wire._is_answered = lambda: False  # type: ignore[method-assign]
            with pytest.raises(TimeoutError, match="nothing could be written"):
                wire.sendall(bytes(50_000_000))
        assert opened.opened == 0


@pytest.fixture(params=["silent", "drip", "flood"])
def handshake(request: pytest.FixtureRequest) -> Callable[[socket.socket], None]:
    """What is no TLS, and has no end either."""
    record = b"\x16\x03\x03\x40\x00"  # a handshake record of 16 KiB

    def script(sock: socket.socket) -> None:
        sock.recv(1000)
        if request.param != "silent":
            sock.sendall(record)
        while not threading.Event().wait(0 if request.param == "flood" else 0.02):
            if request.param == "silent":
                continue
            sock.sendall(b"\x02" if request.param == "drip" else b"\x02\x00\x00\x00" * 1000)

    return script


def test_a_tls_handshake_without_an_end_is_given_up(
    handshake: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    _, ca = certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=ca)
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        sock, _ = listener.accept()
        accepted.append(sock)
        with contextlib.suppress(OSError):
            handshake(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener, exchange(listener.getsockname()[1], timeouts=QUICK, tls=trusting) as opened:
        error = ended(lambda: opened.ask(GET))
    for sock in accepted:
        sock.close()
    assert error is not None and error.kind is ErrorKind.UPLINK_DOWN


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 Connection established\r\n", b"X-More: and more\r\n"),
        (b"", b"no HTTP "),
    ],
)
def test_a_proxy_that_never_ends_its_answer_is_given_up(
    start: bytes, again: bytes, tmp_path: Path
) -> None:
    _, ca = certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=ca)
    with server(for_ever(start, again, 0.005)) as port:
        target = Target("s3.example.net", 443, trusting, Proxy("127.0.0.1", port))
        opened = Exchange(target, CountingPacer(), QUICK)
        error = ended(lambda: opened.ask(GET))
        opened.close()
    assert error is not None and error.kind is ErrorKind.UPLINK_DOWN


@pytest.fixture
def endless_mail() -> Iterator[int]:
    def greets(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"220-welcome, and more of it\r\n" * 100)

    with server(greets) as port:
        yield port


def test_a_mail_server_whose_greeting_never_ends_is_given_up(endless_mail: int) -> None:
    mail = Mail(f"smtp://127.0.0.1:{endless_mail}", ("a@example.net",))
    letter = Message("alert", "thread", "title", "text", datetime.now(UTC))
    found: list[str] = []

    def send() -> None:
        try:
            mail.send(letter, CountingPacer())
        except DeliveryError as error:
            found.append(str(error))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(WITHIN)
    assert found, "the greeting is read for ever"


def test_a_reply_of_mail_has_a_deadline_however_it_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    def drips(sock: socket.socket) -> None:
        while not threading.Event().wait(0.02):
            sock.sendall(b"2")

    monkeypatch.setattr("uploader.alerts.mail._STALL_SECONDS", 0.3)
    with server(drips) as port, pytest.raises(OSError, match="in time"):
        _Session("127.0.0.1", port, CountingPacer(), None)


@pytest.mark.parametrize("kind", ["100 Continue", "one header", "chunks", "silence"])
def test_a_cloudwatch_that_never_ends_its_answer_is_given_up(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setattr("uploader.cloudwatch.client._PATIENCE", QUICK)
    start, again = ENDLESS.get(kind, (b"", b""))
    meter = CountingPacer()
    settings = settings_for("https://s3.example.net", "bucket")
    found: list[BaseException | None] = []

    def publish() -> None:
        try:
            with client(settings, meter) as cloudwatch:
                cloudwatch.put_metric_data(
                    Namespace="Headgate", MetricData=[{"MetricName": "Images", "Value": 1.0}]
                )
            found.append(None)
        except BaseException as error:
            found.append(error)

    with server(for_ever(start, again, 0.005)) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", f"http://127.0.0.1:{port}")
        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        thread.join(WITHIN)
    assert found, "the answer of CloudWatch is read for ever"
    assert isinstance(found[0], CloudWatchTrouble) and not found[0].permanent
    assert meter.written > 0


def test_a_cutoff_ends_each_wait_of_a_wire() -> None:
    cutoff = Cutoff()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        wire = Wire(ours, CountingPacer(), stall=1000, cutoff=cutoff)
        threading.Timer(0.1, cutoff.set).start()
        with pytest.raises(Exception, match="broken off"):
            wire.recv_into(memoryview(bytearray(1)))
        theirs.sendall(b"x" * 10)  # also where there is something to read
        with pytest.raises(Exception, match="broken off"):
            wire.recv_into(memoryview(bytearray(1)))
        with pytest.raises(Exception, match="broken off"):
            wire.sendall(bytes(10_000_000))
