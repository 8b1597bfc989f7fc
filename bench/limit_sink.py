"""A sink that speaks just enough S3, and notes when bytes arrived: ``python -m bench.limit_sink``.

It prints its port. When its stdin closes it prints, as JSON, a list of [nanoseconds, bytes]: what
was read, raw (TLS records and all), with the kernel's own time of arrival where it gives one, so
that a busy sink does not blame the sender. It keeps nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import selectors
import socket
import ssl
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_READ = 32 * 1024
_TIMESTAMP = getattr(socket, "SO_TIMESTAMPNS", 35)
_EMPTY_LIST = (
    b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>"
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)
_LOCATION = (
    b'<?xml version="1.0"?><LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>'
)
_BUSY = b"<Error><Code>ServiceUnavailable</Code><Message>no tomes available</Message></Error>"


@dataclass
class Talk:
    """One connection: what came and was not understood yet, and the request under way."""

    sock: socket.socket
    tls: ssl.SSLObject | None = None
    secured: bool = False  # the handshake is over
    coming: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    going: ssl.MemoryBIO = field(default_factory=ssl.MemoryBIO)
    text: bytearray = field(default_factory=bytearray)
    left: int = 0  # of the body; -1: chunked, until its last chunk
    head: dict[str, str] = field(default_factory=dict)
    digest: Any = None


class Sink:
    """Answers every request as S3 would, and remembers only sizes and digests by key."""

    def __init__(self, tls: ssl.SSLContext | None, read: int, shed: int) -> None:
        self._tls = tls
        self._shed = shed
        self._puts = 0
        self._read = read
        self.arrivals: list[tuple[int, int]] = []
        self._stored: dict[str, tuple[int, str]] = {}
        self._wait = selectors.DefaultSelector()

    def serve(self) -> None:
        """Until stdin closes."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        listener.setblocking(False)
        print(listener.getsockname()[1], flush=True)
        self._wait.register(listener, selectors.EVENT_READ)
        self._wait.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in self._wait.select():
                if key.fileobj is sys.stdin:
                    print(json.dumps(self.arrivals), flush=True)
                    return
                if key.fileobj is listener:
                    self._accept(listener)
                else:
                    self._look(key.data)

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMP, 1)
        talk = Talk(sock)
        if self._tls is not None:
            talk.tls = self._tls.wrap_bio(talk.coming, talk.going, server_side=True)
        self._wait.register(sock, selectors.EVENT_READ, talk)

    def _look(self, talk: Talk) -> None:
        try:
            data, ancillary, _, _ = talk.sock.recvmsg(self._read, 64)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._wait.unregister(talk.sock)
            talk.sock.close()
            return
        self.arrivals.append((_arrived(ancillary), len(data)))
        try:
            self._take(talk, data)
        except (OSError, ssl.SSLError):
            self._wait.unregister(talk.sock)
            talk.sock.close()

    def _take(self, talk: Talk, data: bytes) -> None:
        if talk.tls is None:
            self._understand(talk, data)
            return
        talk.coming.write(data)
        try:
            if not talk.secured:
                talk.tls.do_handshake()
                talk.secured = True
            while plain := talk.tls.read(1 << 18):
                self._understand(talk, plain)
        except ssl.SSLWantReadError:
            pass
        self._say(talk, b"")

    def _say(self, talk: Talk, data: bytes) -> None:
        if talk.tls is not None:
            if data:
                talk.tls.write(data)
            data = talk.going.read()
        if data:
            talk.sock.setblocking(True)
            talk.sock.sendall(data)
            talk.sock.setblocking(False)

    # -- HTTP

    def _understand(self, talk: Talk, data: bytes) -> None:
        if talk.left > 0:
            size = min(talk.left, len(data))
            talk.digest.update(memoryview(data)[:size])
            talk.left -= size
            if not talk.left:
                self._answer(talk)
            data = data[size:]
        talk.text += data
        while talk.text:
            if talk.left < 0:
                # The end of a chunked body; its chunks are not looked at.
                if not talk.text.endswith(b"\r\n0\r\n\r\n"):
                    del talk.text[: max(0, len(talk.text) - 8)]
                    return
                talk.text.clear()
                talk.left = 0
                self._answer(talk)
                return
            end = talk.text.find(b"\r\n\r\n")
            if end < 0:
                return
            self._begin(talk, bytes(talk.text[:end]))
            rest = bytes(talk.text[end + 4 :])
            talk.text.clear()
            if talk.left >= 0:
                if rest:
                    self._understand(talk, rest)
                return
            talk.text += rest

    def _begin(self, talk: Talk, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        fields = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        talk.head = {**fields, ":method": method, ":target": target}
        talk.digest = hashlib.md5(usedforsecurity=False)
        chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        talk.left = -1 if chunked else int(fields.get("content-length", "0") or 0)
        if fields.get("expect", "").lower() == "100-continue":
            self._say(talk, b"HTTP/1.1 100 Continue\r\n\r\n")
        if not talk.left:
            self._answer(talk)

    def _answer(self, talk: Talk) -> None:
        head = talk.head
        method, (key, _, query) = head[":method"], head[":target"].partition("?")
        lines, body = [], b""
        status = "200 OK"
        self._puts += method == "PUT"
        if method == "PUT" and self._shed and not self._puts % self._shed:
            status, body = "503 Service Unavailable", _BUSY
            lines.append("Content-Type: application/xml")
        elif method == "PUT" and key in self._stored and head.get("if-none-match") == "*":
            status = "412 Precondition Failed"  # as S3 does: else a drain asks before each file
        elif method == "PUT":
            etag = talk.digest.hexdigest()
            self._stored[key] = int(head.get("content-length", "0") or 0), etag
            lines.append(f'ETag: "{etag}"')
            if checksum := head.get("x-amz-checksum-sha256"):
                lines.append(f"x-amz-checksum-sha256: {checksum}")
        elif method == "HEAD" and key in self._stored:
            size, etag = self._stored[key]
            lines += [f'ETag: "{etag}"', "Last-Modified: Mon, 23 Nov 2026 16:04:05 GMT"]
            self._end(talk, status, lines, size, b"")
            return
        elif method == "HEAD" and key.count("/") > 1 and not key.endswith("/"):
            status = "404 Not Found"
        elif method == "GET":
            body = _LOCATION if "location" in query else _EMPTY_LIST
            lines.append("Content-Type: application/xml")
        self._end(talk, status, lines, len(body), body)

    def _end(self, talk: Talk, status: str, lines: list[str], size: int, body: bytes) -> None:
        text = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {size}", "", ""])
        self._say(talk, text.encode("latin-1") + body)


def _arrived(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel had the last of the bytes, by the wall clock; else now."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _TIMESTAMP and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return int(seconds) * 10**9 + int(nanoseconds)
    return time.time_ns()


def main() -> None:
    """The program."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--cert", default="", help="PEM file of certificate and key: speak TLS")
    flags.add_argument("--read", type=int, default=_READ, help="bytes that share a time of arrival")
    flags.add_argument("--shed", type=int, default=0, help="answer one PUT in so many with 503")
    chosen = flags.parse_args()
    tls = None
    if chosen.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(chosen.cert)
    Sink(tls, chosen.read, chosen.shed).serve()


if __name__ == "__main__":
    main()
