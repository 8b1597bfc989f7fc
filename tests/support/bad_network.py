"""A proxy that does to requests and answers what bad networks do: cuts, delays, drops, halves."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto

from tests.support.wait import spend


class Kind(StrEnum):
    """What happens to one request."""

    NONE = auto()
    REFUSE = auto()  # the connection is reset before anything of it was read
    CUT_REQUEST = auto()  # the server sees its first bytes, then the end; the client a reset
    DROP_ANSWER = auto()  # the server has answered; the client sees the end of the connection
    HALF_ANSWER = auto()  # the client sees the first bytes of the answer
    DELAY = auto()
    SAY = auto()  # something in between answers in the server's place


@dataclass(frozen=True)
class Fault:
    """``at``: how many bytes get through; ``say``: a whole answer; ``edit``: what becomes of the
    document in it."""

    kind: Kind = Kind.NONE
    at: int = 0
    say: bytes = b""
    edit: Callable[[dict[str, object]], None] | None = None


GOOD = Fault()


def page(status: int, text: bytes) -> Fault:
    """What something in between says that knows nothing of the gateway."""
    head = b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    return Fault(Kind.SAY, say=(head + b"Connection: close\r\n\r\n%s") % (status, len(text), text))


PORTAL = page(200, b"<html>Log in first</html>")
BAD_GATEWAY = page(502, b"<html>Bad Gateway</html>")


def problem(status: int, code: str, *, retry: bool, after: str = "") -> Fault:
    """A refusal as the receiver gives it."""
    body = json.dumps({"status": status, "code": code, "retry": retry, "detail": f"{code}."})
    wait = f"Retry-After: {after}\r\n" if after else ""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\n{wait}"
    return Fault(Kind.SAY, say=f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


class BadNetwork:
    """Between clients and a server. ``decide`` is asked for each request, by its head."""

    def __init__(self, port: int, decide: Callable[[bytes], Fault] = lambda _head: GOOD) -> None:
        self._server = port
        self.decide = decide
        self.requests: list[bytes] = []  # the first line and headers of each
        self.answered: Callable[[bytes], None] = lambda _head: None  # before the client sees it
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, start: str, holding: str = "") -> int:
        """How many requests begin so and have this in their head."""
        return sum(
            head.startswith(start.encode()) and holding.encode() in head for head in self.requests
        )

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.settimeout(60)
            while self._one(client):
                pass

    def _one(self, client: socket.socket) -> bool:
        """Pass one request on and its answer back; whether the connection goes on."""
        head, rest = _until_head_ends(client)
        if not head:
            return False
        self.requests.append(head)
        fault = self.decide(head)
        if fault.kind is Kind.REFUSE:
            return _reset(client)
        length = int(_header(head, b"Content-Length") or b"0")
        if fault.kind is Kind.SAY:
            _drain(client, length - len(rest))
            client.sendall(fault.say)
            return b"Connection: close" not in fault.say
        most = len(head) + length
        if fault.kind is Kind.CUT_REQUEST:
            most = min(most, fault.at)
        with socket.create_connection(("127.0.0.1", self._server), timeout=60) as server:
            sent = 0
            piece = head + rest
            with contextlib.suppress(OSError):  # it may answer before the end of the body
                while sent < most:
                    if not piece:
                        piece = client.recv(65536)
                        if not piece:
                            return False
                    server.sendall(piece[: most - sent])
                    sent += len(piece[: most - sent])
                    piece = b""
            if fault.kind is Kind.CUT_REQUEST:
                return _reset(client)
            answer = _whole_answer(server)
        self.answered(head)
        if fault.kind is Kind.DROP_ANSWER:
            return False
        if fault.kind is Kind.DELAY:
            spend(0.05)
        if fault.edit is not None:
            answer = _edited(answer, fault.edit)
        if fault.kind is Kind.HALF_ANSWER:
            client.sendall(answer[: fault.at])
            return False
        client.sendall(answer)
        return b"connection: close" not in head.lower()


def _until_head_ends(client: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        if not piece:
            return b"", b""
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"(?im)^" + re.escape(name) + rb":[ \t]*([^\r]*)", head)
    return found[1] if found else b""


def _drain(client: socket.socket, left: int) -> None:
    while left > 0:
        piece = client.recv(min(left, 65536))
        if not piece:
            return
        left -= len(piece)


def _reset(client: socket.socket) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _whole_answer(server: socket.socket) -> bytes:
    head, body = _until_head_ends(server)
    left = int(_header(head, b"Content-Length") or b"0") - len(body)
    while left > 0:
        piece = server.recv(65536)
        if not piece:
            break
        body += piece
        left -= len(piece)
    return head + body


def _edited(answer: bytes, edit: Callable[[dict[str, object]], None]) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    document = json.loads(body)
    edit(document)
    text = json.dumps(document).encode()
    head = re.sub(rb"(?im)^Content-Length:[^\r]*", b"Content-Length: %d" % len(text), head)
    return head + b"\r\n\r\n" + text
