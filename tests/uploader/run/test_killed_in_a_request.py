"""A drain killed while it sends one request, and the next one: what a bucket and the books say."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.s3_server import Place
from tests.support.wait import join, kill, wait_for_event

SECONDS = 60  # bounds a wait for what surely comes; nothing is asserted about how soon


class Cutter:
    """Passes connections on; of the first PUT only what ``where`` says, until ``let_go``.

    Then the server sees what it sees when the client was killed there: the end of the connection.
    """

    def __init__(self, place: Place, where: Callable[[bytes], int]) -> None:
        assert place.strict is not None
        self._server = ("127.0.0.1", place.strict.server.port)
        self._where = where
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.held = threading.Event()  # the server has its part, and no more comes
        self.let_go = threading.Event()
        self.over = threading.Event()  # the server has closed the connection
        self.answer = b""
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Cutter:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.let_go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        join(*self._threads)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            client.settimeout(SECONDS)
            server.settimeout(SECONDS)
            begun = client.recv(1 << 20)
            if begun.startswith(b"PUT ") and not self.held.is_set():
                self._cut(begun, client, server)
                return
            server.sendall(begun)
            back = threading.Thread(target=pump, args=(server, client))
            back.start()
            pump(client, server)
            join(back)

    def _cut(self, begun: bytes, client: socket.socket, server: socket.socket) -> None:
        while b"\r\n\r\n" not in begun:
            begun += client.recv(1 << 20)
        server.sendall(begun[: self._where(begun)])
        self.held.set()
        assert self.let_go.wait(2 * SECONDS), "nobody let the first PUT go"
        server.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := server.recv(65536):
                self.answer += data
        self.over.set()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class Gate:
    """The stand-in's application; what answers a request waits as ``after`` says."""

    def __init__(self, place: Place, after: Callable[[str, str], None]) -> None:
        assert place.strict is not None
        self._server, self._after = place.strict.server, after
        self._real = self._server.application

    def __enter__(self) -> None:
        self._server.application = self._answer

    def __exit__(self, *_error: object) -> None:
        self._server.application = self._real

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        answer = list(self._real(environ, start))
        self._after(str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"]))
        return answer


def after(pattern: bytes) -> Callable[[bytes], int]:
    """Where the first thing like it ends."""

    def end(head: bytes) -> int:
        found = re.search(pattern, head)
        assert found is not None, head
        return found.end()

    return end


LINE = after(rb"\r\n")
NAME = after(rb"\r\nContent-Le")  # without it the rest reads as a request for an empty object
HEAD = after(rb"\r\n\r\n")


def kill_while_held(drain: subprocess.Popen[str], cutter: Cutter) -> None:
    wait_for_event(cutter.held, "a PUT of the first drain")
    kill(drain)


@pytest.mark.parametrize(
    ("where", "when"),
    [
        pytest.param(
            LINE,
            "before the next run",
            id="the request line, before the next run",
            marks=pytest.mark.slow,
        ),
        pytest.param(NAME, "between its HEAD and PUT", id="a header, between its HEAD and PUT"),
        pytest.param(HEAD, "between its HEAD and PUT", id="the head, between its HEAD and PUT"),
        pytest.param(NAME, "after it", id="a header, after it", marks=pytest.mark.slow),
    ],
)
def test_a_drain_killed_within_a_request_leaves_no_object_of_it(
    gateway: Gateway, place: Place, where: Callable[[bytes], int], when: str
) -> None:
    images = gateway.fill(3)
    with Cutter(place, where) as cutter:

        def cut_now(method: str = "", path: str = "") -> None:
            if method == "HEAD" and path.startswith(f"/{gateway.bucket}/"):
                cutter.let_go.set()
                wait_for_event(cutter.over, "the end of the first PUT, seen by the server")

        gateway.write(endpoint=cutter.url)
        kill_while_held(gateway.start("drain"), cutter)
        if when == "before the next run":
            cutter.let_go.set()
            wait_for_event(cutter.over, "the end of the first PUT, seen by the server")
        with Gate(place, cut_now) if "HEAD" in when else contextlib.nullcontext():
            ran = gateway.call("drain")
        cutter.let_go.set()
        wait_for_event(cutter.over, "the end of the first PUT, seen by the server")
        assert cutter.answer == b""
    assert ran.returncode == 0, ran.stderr
    gateway.assert_arrived(images)
