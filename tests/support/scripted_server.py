"""A server whose connections follow scripts, and the exchanges with it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

from tests.support.s3_server import PATIENT, CountingPacer
from tests.support.wait import join
from uploader.wire.http import Exchange, HttpRequest, Target, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


QUICK = Timeouts(connect=60, stall=0.3, answer=0.5)
"""For what is to run into them; the others are as patient as a busy machine needs."""


Script = Callable[[socket.socket], None]


@contextlib.contextmanager
def server(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port whose n-th connection is handled by the n-th script."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for script in scripts:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    if tls is None:
                        script(sock)
                    else:
                        with tls.wrap_socket(sock, server_side=True) as secured:
                            script(secured)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        join(thread)


def read_request(sock: socket.socket) -> bytes:
    """The head, and as much body as it announces."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length and (more := sock.recv(65536)):
        body += more
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def exchange(
    port: int,
    pacer: CountingPacer | None = None,
    timeouts: Timeouts = PATIENT,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Exchange]:
    opened = Exchange(Target("127.0.0.1", port, tls), pacer or CountingPacer(), timeouts)
    yield opened
    opened.close()


def put(size: int) -> HttpRequest:
    return HttpRequest("PUT", "/b/k", {"Host": "h", "Content-Length": str(size)}, b"x" * size)


GET = HttpRequest("GET", "/b/k", {"Host": "h"})
