"""An S3 that costs next to nothing: it takes whatever is sent, keeps names and drops the bytes.

``python -m bench.sink [--delay SECONDS]`` prints its port and serves until stdin closes. One thread
on epoll; bodies are discarded inside the kernel (MSG_TRUNC, tcp(7)), so that it is never what a
sender waits for. It verifies nothing and is no stand-in for S3: it says what a sender expects to
hear, its own SHA-256 and a Content-MD5 back as the ETag, and as S3 does it honours ``If-None-Match:
*``, without which a drain asks before each file. ``GET /-/counts`` tells what was stored.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import json
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from urllib.parse import unquote

_HEAD_MAX = 64 * 1024
_DISCARD = 8 * 1024 * 1024
_NOTHING = bytearray(_DISCARD)  # never written to: MSG_TRUNC copies nothing
_ETAG = "0" * 32
_PROBE = ".headgate-probe"  # what a drain puts to learn about the server: no file of a case


@dataclass(slots=True)
class _Stored:
    size: int
    headers: str


@dataclass(slots=True)
class _Peer:
    sock: socket.socket
    head: bytes = b""
    left: int = 0  # bytes of the body that have not come yet
    method: str = ""
    target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 0


class Sink:
    """The objects that were put, by key, and how many requests came."""

    def __init__(self, delay: float, host: str = "127.0.0.1") -> None:
        self.delay = delay
        self.stored: dict[str, _Stored] = {}
        self.bytes = 0
        self.requests = 0
        self._poll = select.epoll()
        self._peers: dict[int, _Peer] = {}
        self._due: list[tuple[float, int, _Peer, bytes]] = []
        self._order = count()
        self._listener = socket.create_server((host, 0), backlog=512)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Until stdin closes."""
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(sys.stdin, select.EPOLLIN)
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for fd, _ in self._poll.poll(wait):
                if fd == self._listener.fileno():
                    sock, _ = self._listener.accept()
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._peers[sock.fileno()] = _Peer(sock)
                    self._poll.register(sock, select.EPOLLIN)
                elif fd == sys.stdin.fileno():
                    return
                else:
                    self._readable(self._peers[fd])
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, peer, answer = heapq.heappop(self._due)
                self._write(peer, answer)

    def _readable(self, peer: _Peer) -> None:
        try:
            if peer.left:
                got = peer.sock.recv_into(
                    _NOTHING, min(peer.left, _DISCARD), socket.MSG_TRUNC | socket.MSG_DONTWAIT
                )
                peer.left -= got
                if got and not peer.left:
                    self._answer(peer)
                if got:
                    return
            elif data := peer.sock.recv(_HEAD_MAX):
                self._take(peer, peer.head + data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._hang_up(peer)

    def _take(self, peer: _Peer, data: bytes) -> None:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            peer.head = data
            return
        lines = head.decode("latin-1").split("\r\n")
        peer.method, peer.target, _ = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:])
        peer.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        peer.size = int(peer.headers.get("content-length", "0"))
        peer.left = peer.size - len(rest)
        peer.head = b""
        if peer.left and "100-continue" in peer.headers.get("expect", ""):
            self._write(peer, b"HTTP/1.1 100 Continue\r\n\r\n")
        if not peer.left:
            self._answer(peer)

    def _answer(self, peer: _Peer) -> None:
        self.requests += 1
        path, _, query = peer.target.partition("?")
        answer = self._reply(peer, unquote(path), query)
        if self.delay:
            due = time.monotonic() + self.delay
            heapq.heappush(self._due, (due, next(self._order), peer, answer))
        else:
            self._write(peer, answer)

    def _reply(self, peer: _Peer, path: str, query: str) -> bytes:
        key = path.lstrip("/").partition("/")[2]
        if path == "/-/counts":
            objects = sum(not key.endswith(_PROBE) for key in self.stored)
            facts = {"objects": objects, "bytes": self.bytes, "requests": self.requests}
            self.stored, self.bytes, self.requests = {}, 0, 0
            return _http(200, "Content-Type: application/json", json.dumps(facts).encode())
        if peer.method == "PUT" and key:
            if key in self.stored and peer.headers.get("if-none-match") == "*":
                return _http(412, "")
            md5 = peer.headers.get("content-md5")
            etag = base64.b64decode(md5).hex() if md5 else _ETAG
            said = [f'ETag: "{etag}"']
            sums = ("x-amz-checksum-sha256", "x-amz-checksum-crc32", "x-amz-checksum-crc64nvme")
            said += [f"{name}: {peer.headers[name]}" for name in sums if name in peer.headers]
            kept = [
                f"{name}: {value}"
                for name, value in peer.headers.items()
                if name.startswith("x-amz-meta-")
            ]
            modified = f"Last-Modified: {formatdate(usegmt=True)}"
            self.stored[key] = _Stored(peer.size, "\r\n".join([*said, *kept, modified]))
            self.bytes += peer.size
            return _http(200, "\r\n".join(said))
        if peer.method == "HEAD" and key:
            found = self.stored.get(key)
            if found is None:
                return _http(404, "")
            return _http(200, found.headers, size=found.size)
        if peer.method == "GET" and not key:
            return _http(200, "Content-Type: application/xml", _NONE_LISTED)
        return _http(200 if not key else 404, "")

    def _write(self, peer: _Peer, data: bytes) -> None:
        try:
            peer.sock.send(data)
        except OSError:
            self._hang_up(peer)

    def _hang_up(self, peer: _Peer) -> None:
        if self._peers.get(peer.sock.fileno()) is peer:
            del self._peers[peer.sock.fileno()]
            self._poll.unregister(peer.sock)
            peer.sock.close()


_NONE_LISTED = (
    b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
    b"<Name>bench</Name><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys>"
    b"<IsTruncated>false</IsTruncated></ListBucketResult>"
)
_REASONS = {200: "OK", 404: "Not Found", 412: "Precondition Failed"}


def _http(status: int, headers: str, body: bytes = b"", size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    more = f"{headers}\r\n" if headers else ""
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"x-amz-request-id: bench\r\n{more}Content-Length: {length}\r\n\r\n"
    ).encode("latin-1") + body


def main() -> None:
    """Print the port and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    options = parser.parse_args()
    sink = Sink(options.delay, options.host)
    print(sink.port, flush=True)
    sink.serve()


if __name__ == "__main__":
    main()
