"""HTTP/1.1 with keep-alive under a WSGI application, from the standard library.

Werkzeug's own server closes every connection after one answer, and no server lets an application
reset one; a stand-in for S3 needs both.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import unquote_to_bytes

from dev.s3_local.request_body import ChunkedInput, Input, Reset

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
_DRAIN_SECONDS = 2.0
_HEAD_MAX = 64 * 1024


class _HttpRequest(BaseHTTPRequestHandler):
    """Serves one connection, request after request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    raw_requestline: bytes
    _expected = False

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError, ValueError):
            super().handle()

    def handle_expect_100(self) -> bool:
        self._expected = True  # answered when the body is first read: an early refusal saves it
        return True

    def expect(self) -> None:
        if self._expected:
            self._expected = False
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def parse_request(self) -> bool:
        """Parse a head that arrived whole, up to and with its empty line.

        The standard library takes the end of the connection for the end of the head. A client that
        is killed while it sends a PUT would then have asked for an object without a length,
        a digest or a condition: an empty one.
        """
        head = self._rest_of_head()
        if not head:
            self.close_connection = True
            return False
        connection, self.rfile = self.rfile, io.BufferedReader(io.BytesIO(head))
        try:
            return super().parse_request()
        finally:
            self.rfile = connection

    def _rest_of_head(self) -> bytes:
        """The lines after the request line with the empty one; nothing if it did not come."""
        line, head = self.raw_requestline, b""
        while line.endswith(b"\n") and len(head) <= _HEAD_MAX:
            line = self.rfile.readline(_HEAD_MAX)
            head += line
            if line in (b"\r\n", b"\n"):
                return head
        return b""

    def _answer(self) -> None:
        self._expected = False if self.headers.get("Expect") is None else self._expected
        coding = self.headers.get_all("Transfer-Encoding", [])
        lengths = self.headers.get_all("Content-Length", [])
        length = lengths[0].strip() if lengths else ""
        chunked = [text.strip().lower() for text in coding] == ["chunked"]
        numeric = length.isascii() and length.isdecimal() and len(length) < 19
        if (coding and (lengths or not chunked)) or (lengths and (len(lengths) > 1 or not numeric)):
            self.close_connection = True  # nobody knows where the next request begins
            self.send_error(400)
            return
        body = ChunkedInput(self) if chunked else Input(self, int(length or 0))
        status, headers = "500 Internal Server Error", [("Content-Length", "0")]

        def start(line: str, fields: list[tuple[str, str]], _info: object = None) -> None:
            nonlocal status, headers
            status, headers = line, fields

        try:
            content = b"".join(self.server.application(self._environ(body, length), start))
        except Reset:
            self._reset()
            return
        if body.left:
            self.close_connection = True
        self._write(status, headers, content)
        if body.left:
            self._let_go()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_OPTIONS = _answer

    def _write(self, status: str, headers: list[tuple[str, str]], content: bytes) -> None:
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        if "content-length" not in names:
            lines.append(f"Content-Length: {len(content)}")
        if "date" not in names:
            lines.append(f"Date: {self.date_time_string()}")
        if self.close_connection:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self.connection.sendall(head + (b"" if self.command == "HEAD" else content))

    def _let_go(self) -> None:
        """Close so that the client still reads the answer: first our half, then the rest of its."""
        with contextlib.suppress(OSError):
            if not isinstance(self.connection, ssl.SSLSocket):
                self.connection.shutdown(socket.SHUT_WR)
            until = time.monotonic() + _DRAIN_SECONDS
            while (left := until - time.monotonic()) > 0:
                self.connection.settimeout(left)
                if not self.connection.recv(65536):
                    return

    def _reset(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.server.to_reset.add(self.connection)

    def _silence(self) -> None:
        """Wait until the client or the server gives up."""
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self.server.closing.is_set():
            if poll.poll(50):
                return

    def _environ(self, body: io.RawIOBase, length: str) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if self.server.tls else "http",
            "wsgi.input": body,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "headgate.silence": self._silence,
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": self.request_version,
            "CONTENT_LENGTH": length,  # empty if the client gave none
        }
        for name, value in self.headers.items():
            if "_" in name:
                continue  # WSGI cannot tell it from a dash
            word = name.upper().replace("-", "_")
            environ[word if word in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{word}"] = value
        return environ

    def log_message(self, *_args: object) -> None:
        """Nothing: the stand-in is quiet."""


class Server(ThreadingMixIn, TCPServer):
    """The listening socket and a thread for each connection. ``close`` ends them all."""

    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 256

    def __init__(
        self,
        host: str,
        port: int,
        application: Application,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.application = application
        self.tls = tls
        self.closing = threading.Event()
        self.to_reset: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__((host, port), _HttpRequest)
        self.port = int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        if self.tls is not None:
            # The handshake happens in the connection's own thread, at its first read.
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with self._guard:
            self._open.add(sock)
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        if request in self.to_reset:
            self.to_reset.discard(request)
            request.close()  # no shutdown first: that would be a FIN, and no reset
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that misbehaves is no news; anything else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Stop listening, hang up on everybody, and wait for the threads."""
        self.closing.set()
        self.shutdown()
        with self._guard:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self.server_close()
