"""A real receiver in a process of its own, and raw sockets to talk to it badly."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.spool.image.image import Metadata
from headgate.spool.site.site import Site
from tests.support.environment import PYTHON_PATH, without_settings
from tests.support.forked import Forked
from tests.support.paths import ROOT
from tests.support.wait import wait_for_exit, wait_until

BOUNDARY = b"----geckoformboundary6f0d1a"
PROCESSES = os.environ.get("HEADGATE_TEST_PROCESSES", "1")
"""That serve, where a test does not say."""
START = "from app.server.server import main; main()"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])


class Receiver:
    """``headgate-receiver`` on a free port, over a spool of its own."""

    forked = True
    """False where the start of the program, or the process itself, is what a test is about."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.spool = folder / "spool"
        self.log = folder / "receiver.log"
        self.flags = {
            "receiver.bind": "127.0.0.1:0",
            "receiver.processes": PROCESSES,
            "spool.path": str(self.spool),
            **settings,
        }
        self.config = ""  # a settings file
        self.environment: dict[str, str] = {}  # in addition
        self.program = START
        self.user: int | None = None  # who runs it, by number; the test's user by default
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Receiver:
        flags = ["--config", self.config] if self.config else []
        for name, value in self.flags.items():
            flags += ["--set", f"{name}={value}"]
        variables = environment() | self.environment
        with self.log.open("ab") as log:
            at = log.tell()
            if self.forked and self.program == START and self.user is None:
                self.process = Forked(
                    "receiver", flags, env=variables, out=log.fileno(), err=log.fileno(),
                    cwd=ROOT, session=True,
                )  # fmt: skip
            else:
                self.process = subprocess.Popen(
                    [*as_user(self.user), sys.executable, "-c", self.program, *flags],
                    cwd=ROOT, stdout=log, stderr=log, env=variables, start_new_session=True,
                )  # fmt: skip

        def said() -> str:
            return self.log.read_bytes()[at:].decode()

        def answers() -> bool:
            if found := re.search(r'"url": "http://[^/]*:(\d+)/"', said()):
                self.port = int(found[1])
                with contextlib.suppress(OSError), self.connect():
                    return True
            return False

        wait_until(answers, "the receiver is ready", process=self.process, detail=said)
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        wait_for_exit(self.process, f"the receiver ends: {self.log}")
        return self.process.returncode

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, *pieces: bytes, end: str = "") -> Answer | None:
        """Write the pieces and read one answer; ``end`` is "fin" or "rst" after the last piece."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
                if end == "fin":
                    connection.shutdown(socket.SHUT_WR)
            if end == "rst":
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return None
            return read_answer(connection)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str | bytes) -> Answer:
        answer = self.send(head(method, path, body, **headers) + body)
        assert answer is not None
        return answer

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post_form(self, *parts: bytes, path: str = "/uploadImage", **headers: str) -> Answer:
        return self.request("POST", path, form(*parts), Content_Type=FORM_TYPE, **headers)

    def post_raw(self, image: bytes, kind: str = "image/jpeg", **headers: str | bytes) -> Answer:
        return self.request("POST", "/images", image, Content_Type=kind, **headers)

    def images(self) -> list[Path]:
        return sorted(path for path in (self.spool / "new").rglob("*") if path.is_file())

    def half_received(self) -> list[Path]:
        return list((self.spool / "tmp").iterdir())

    def await_empty_tmp(self) -> None:
        wait_until(lambda: not self.half_received(), "tmp/ is empty", detail=self.half_received)

    def await_ready(self) -> None:
        """Wait until it takes images again."""
        wait_until(lambda: self.get("/readyz").status == 200, "the receiver is ready",
                   detail=lambda: self.get("/readyz").body)  # fmt: skip


FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def as_user(number: int | None) -> list[str]:
    """What runs a command as that user, in no other group and with no privilege but to read: the
    interpreter may lie in a folder of root's."""
    if number is None:
        return []
    caps = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", *caps]


def environment() -> dict[str, str]:
    """Without settings of the person who runs the tests."""
    return without_settings() | {"PYTHONPATH": PYTHON_PATH, "PYTHONWARNINGS": "default"}


def head(method: str, path: str, body: bytes = b"", **headers: str | bytes) -> bytes:
    """A request's head; header names with underscores for hyphens, Content-Length if not given."""
    fields: dict[str, str | bytes] = {"Host": "127.0.0.1", "Connection": "close"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    if "Content-Length" not in fields and "Transfer-Encoding" not in fields and body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1".encode()]
    for name, value in fields.items():
        raw = value.encode() if isinstance(value, str) else value
        lines.append(name.encode() + b": " + raw)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def part(name: str, content: bytes | str, file_name: str | None = None, kind: str = "") -> bytes:
    """One part of a form, its names in raw UTF-8 as browsers send them."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file_name is not None:
        disposition += f'; filename="{file_name}"'
    lines = [disposition.encode()]
    if kind:
        lines.append(f"Content-Type: {kind}".encode())
    data = content.encode() if isinstance(content, str) else content
    return b"\r\n".join(lines) + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return (
        b"".join(b"--" + BOUNDARY + b"\r\n" + one for one in parts) + b"--" + BOUNDARY + b"--\r\n"
    )


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def read_answer(connection: socket.socket) -> Answer | None:
    """One answer; None if the connection ended without one."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = _receive(connection)
        if not piece:
            return None
        received += piece
        if received.startswith(b"HTTP/1.1 100 ") and b"\r\n\r\n" in received:
            received = received.partition(b"\r\n\r\n")[2]
    top, _, body = received.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        piece = _receive(connection)
        if not piece:
            break
        body += piece
    return Answer(int(first.split()[1]), headers, body)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Receiver]:
    """A receiver for one test; setting names with a dot are given as ``receiver__field``."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    receiver = Receiver(folder, **named).start()
    try:
        yield receiver
    finally:
        receiver.stop()


def serving_processes(receiver: Receiver) -> list[int]:
    """The processes that listen at its port, in the order of their numbers for the system."""
    assert receiver.process is not None
    pid = receiver.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    listening = {inode for local, _, state, inode in _connections() if local == receiver.port
                 and state == _LISTEN}  # fmt: skip
    return sorted(int(child) for child in children if listening & _sockets(int(child)))


def await_processes(receiver: Receiver, count: int, without: int = 0) -> list[int]:
    """Wait until so many listen, and among them not ``without``, which is gone."""

    def all_listen() -> list[int]:
        found = serving_processes(receiver)
        return found if len(found) == count and without not in found else []

    return wait_until(all_listen, f"{count} processes listen", detail=receiver.log.read_text)


def serving_process(receiver: Receiver) -> int:
    """The one that listens."""
    return await_processes(receiver, 1)[0]


def server_of(receiver: Receiver, connection: socket.socket) -> int:
    """Which of the processes has accepted a connection; waits until one has."""
    port = connection.getsockname()[1]

    def found() -> int:
        inodes = {inode for local, remote, _, inode in _connections()
                  if (local, remote) == (receiver.port, port)}  # fmt: skip
        holders = [pid for pid in serving_processes(receiver) if inodes & _sockets(pid)]
        return holders[0] if holders else 0

    return wait_until(found, "one of the processes accepts the connection")


_LISTEN = "0A"


def _connections() -> Iterator[tuple[int, int, str, str]]:
    """Local port, remote port, state and inode of this machine's IPv4 connections (proc(5))."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[at].partition(":")[2], 16) for at in (1, 2))
        yield local, remote, words[3], words[9]


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(fd).removeprefix("socket:[").rstrip("]"))
    return found


def stored(receiver: Receiver, image_id: str) -> Path:
    (path,) = (receiver.spool / "new").rglob(f"{image_id}.*")
    return path


def metadata(receiver: Receiver, image_id: str) -> Metadata:
    return Metadata.decode(os.getxattr(stored(receiver, image_id), "user.headgate"))


@contextlib.contextmanager
def site(receiver: Receiver) -> Iterator[Site]:
    opened = Site(receiver.spool / "state" / "site.sqlite3")
    try:
        yield opened
    finally:
        opened.close()


def enrol(receiver: Receiver, name: str, *, urgent: bool = False, forward: bool = False) -> str:
    """As ``headgate device add`` does, in another program."""
    with site(receiver) as opened:
        now = datetime.now(UTC)
        return opened.devices.add([name], now, urgent=urgent, may_forward=forward)[0].secret


def check(answer: Answer | None, status: int, code: str = "") -> Answer:
    assert answer is not None
    assert answer.status == status, answer.body
    if code:
        assert answer.code == code
    return answer


HEADGATE = "from uploader.cli.main import main; main()"
