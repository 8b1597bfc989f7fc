"""The examples of docs/PROTOCOL.md, each taken out of the page and run against a real receiver.

Before the receiver stands one that refuses: the first attempt, so each of them has to come back, or
the first picture, so each of them has to leave it and send the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.refusals import Refused
from app.responses import refusal
from headgate.spool.spool import Spool
from tests.support.paths import PHOTOS, ROOT
from tests.support.receiver import Receiver, head, metadata, read_answer, running, stored
from tests.support.spooling import settings_for
from tests.support.wait import join

PAGE = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
PHOTO = PHOTOS / "flower.jpg"
SEQUENCE = 4711
MICROPYTHON = "@micropython/micropython-webassembly-pyscript@1.27.0"


def example(title: str, language: str) -> str:
    """The code below a heading of the page."""
    part = PAGE.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", part, re.DOTALL)
    assert len(found) == 1, title
    return found[0]


class Doorkeeper:
    """Refuses the first requests, and lets all others through to the receiver. An empty answer is
    none: the connection ends."""

    def __init__(self, port: int, answer: bytes, refusals: int = 1) -> None:
        self._to, self.answer, self.refusals = port, answer, refusals
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.requests += 1
        with client, contextlib.suppress(OSError):
            client.settimeout(60)
            if self.requests <= self.refusals:
                received = b""
                while b"\r\n\r\n" not in received:
                    received += client.recv(65536)
                client.sendall(self.answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
                return
            with socket.create_connection(("127.0.0.1", self._to), timeout=60) as server:
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                join(back)

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listening.close()


def refused_once(**facts: int) -> bytes:
    """An answer as the receiver gives it."""
    answer = refusal(Refused("stopping", **facts))
    sent: list[bytes] = []

    def start(status: str, headers: list[tuple[str, str]]) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in headers), "Connection: close"]
        sent.append("\r\n".join([*lines, "", ""]).encode())

    body = b"".join(answer({"REQUEST_METHOD": "POST"}, start))
    return sent[0] + body


@dataclass
class Guarded:
    """A receiver that takes nobody without a token, and devices with theirs."""

    receiver: Receiver
    devices: Iterator[tuple[str, str]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with running(folder, receiver__auth="token", spool__keep_free="0B") as receiver:
        settings = settings_for(folder, spool__path=str(receiver.spool))
        with closing(Spool.open(settings, create=False, probe=False)) as spool:
            names = [f"cam-{n}" for n in range(20)]
            tokens = [t.secret for t in spool.site.devices.add(names, spool.now(), urgent=False)]
        yield Guarded(receiver, iter(zip(names, tokens, strict=True)))


class Run:
    """Runs an example as its device, through a doorkeeper."""

    def __init__(self, guarded: Guarded, folder: Path, keeper: Doorkeeper) -> None:
        self.receiver, self.keeper, self.folder = guarded.receiver, keeper, folder
        self.device, self.token = next(guarded.devices)
        (folder / "pictures").mkdir()
        shutil.copy(PHOTO, folder / "pictures" / f"{SEQUENCE}.jpg")

    def __call__(self, command: list[str], code: str, file: str) -> str:
        for ours, theirs in (
            ("http://gateway:8080", f"http://127.0.0.1:{self.keeper.port}"),
            ('"gateway", 8080', f'"127.0.0.1", {self.keeper.port}'),
            ('"TOKEN"', f'"{self.token}"'),
            ("Bearer TOKEN", f"Bearer {self.token}"),
        ):
            code = code.replace(ours, theirs)
        (self.folder / file).write_text(code, encoding="utf-8")
        done = subprocess.run(
            [*command, str(self.folder / file)],
            cwd=self.folder, capture_output=True, text=True, timeout=120,
            env={**os.environ, "TOKEN": self.token, "NO_PROXY": "*", "PYTHONPATH": ""},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def assert_arrived(self, output: str) -> None:
        """Check all that the example should have done with the picture."""
        found = re.findall(r"\d{8}T\d{6}\.\d{6}Z_cam-\d+_[0-9a-f]{16}", output)
        assert len(set(found)) == 1, output
        assert stored(self.receiver, found[0]).read_bytes() == PHOTO.read_bytes()
        assert metadata(self.receiver, found[0]).sequence == SEQUENCE
        receipt = self.receiver.request(
            "GET", f"/images/{found[0]}", Authorization=f"Bearer {self.token}"
        )
        assert (receipt.json["state"], receipt.json["device"]) == ("waiting", self.device)


@pytest.fixture
def run(guarded: Guarded, tmp_path: Path) -> Iterator[Run]:
    keeper = Doorkeeper(guarded.receiver.port, refused_once(retry_after=1))
    yield Run(guarded, tmp_path, keeper)
    keeper.close()


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def curl() -> tuple[list[str], str, str]:
    tool("curl")
    return [tool("bash")], example("curl", "sh"), "send.sh"


def with_requests() -> tuple[list[str], str, str]:
    pytest.importorskip("requests")
    return [sys.executable], example("Python with requests", "python"), "send.py"


def python_alone() -> tuple[list[str], str, str]:
    return [sys.executable, "-I"], example("Python alone", "python"), "send.py"


def node() -> tuple[list[str], str, str]:
    found = tool("node")
    version = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip("node is older than 20: no openAsBlob")
    return [found], example("Node", "js"), "send.mjs"


def micropython_in_python() -> tuple[list[str], str, str]:
    """Its sockets are a part of CPython's, so the example runs here as well."""
    return [sys.executable, "-I"], example("MicroPython", "python"), "send.py"


Language = Callable[[], tuple[list[str], str, str]]

LANGUAGES = [curl, with_requests, python_alone, node, micropython_in_python]


def waiting(languages: Iterable[Language]) -> list[Any]:
    """One of them here, the others in make test-slow: each waits between its tries as a device
    does."""
    return [
        one if one is python_alone else pytest.param(one, marks=pytest.mark.slow)
        for one in languages
    ]


def named(language: Language) -> str:
    return str(language.__name__)


@pytest.mark.parametrize("language", LANGUAGES, ids=named)
def test_each_example_comes_back_and_sends_the_picture(run: Run, language: Language) -> None:
    said = run(*language())
    assert run.keeper.requests >= 2
    run.assert_arrived(said)
    if language is with_requests:
        assert said.split()[1:] == ["False"]  # nothing has been uploaded yet


@pytest.mark.parametrize("language", waiting(LANGUAGES), ids=named)
def test_each_example_stops_after_three_tries_keeps_the_picture_and_sends_the_next(
    run: Run, language: Language
) -> None:
    run.keeper.refusals = 3
    first = run.folder / "pictures" / f"{SEQUENCE - 1}.jpg"
    first.write_bytes(PHOTO.read_bytes() + b"another")
    said = run(*language())
    assert run.keeper.requests >= 4
    run.assert_arrived(said)
    assert first.exists()
    missing = run.receiver.request(
        "GET", f"/devices/{run.device}/gaps", Authorization=f"Bearer {run.token}"
    )
    assert missing.json["first"] == SEQUENCE  # of the first picture nothing arrived


# Without an answer curl's --retry does not try again; the script does when it runs the next time.
@pytest.mark.parametrize("language", waiting(LANGUAGES[1:]), ids=named)
def test_without_any_answer_it_is_three_tries_as_well(run: Run, language: Language) -> None:
    run.keeper.refusals, run.keeper.answer = 3, b""
    (run.folder / "pictures" / f"{SEQUENCE - 1}.jpg").write_bytes(PHOTO.read_bytes() + b"another")
    run.assert_arrived(run(*language()))
    assert run.keeper.requests >= 4


@pytest.mark.skipif(
    not os.environ.get("HEADGATE_TEST_MICROPYTHON"),
    reason="installs MicroPython from npm; .ci/run sets HEADGATE_TEST_MICROPYTHON",
)
def test_micropython(run: Run, tmp_path: Path) -> None:
    """In MicroPython itself, whose sockets are stood in for by tests/data/micropython.mjs."""
    found, npm = tool("node"), tool("npm")
    quiet = ("--no-audit", "--no-fund", "--silent", "--prefix", str(tmp_path))
    subprocess.run([npm, "install", *quiet, MICROPYTHON], check=True, timeout=120)
    shutil.copy(ROOT / "tests" / "data" / "micropython.mjs", tmp_path)
    code = example("MicroPython", "python")
    run.assert_arrived(run([found, str(tmp_path / "micropython.mjs")], code, "send.py"))


def test_c_for_the_esp32_is_c_that_fits_what_it_calls(tmp_path: Path) -> None:
    """The client that it calls is run by tests/clients."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed (.ci/run installs it)")
    source = tmp_path / "send.c"
    source.write_text(example("ESP32 in C", "c"), encoding="utf-8")
    done = subprocess.run(
        [compiler, "-std=gnu17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
         "-I", str(ROOT / "tests" / "data" / "esp_idf"), "-I", str(ROOT / "clients" / "c"),
         str(source)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_python_example_gives_up_on_a_refusal_for_good(
    guarded: Guarded, tmp_path: Path
) -> None:
    """Sent with a token that nobody has: it must end, say why, and keep the picture."""
    (tmp_path / "pictures").mkdir()
    shutil.copy(PHOTO, tmp_path / "pictures" / "1.jpg")
    for title in ("Python with requests", "Python alone", "MicroPython"):
        code = example(title, "python").replace("http://gateway:8080", guarded.receiver.url)
        code = code.replace('"gateway", 8080', f'"127.0.0.1", {guarded.receiver.port}')
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0 and "This token is invalid" in done.stdout, title
        assert (tmp_path / "pictures" / "1.jpg").exists()


def test_the_examples_are_all_there() -> None:
    titles = re.findall(r"^### (.*)$", PAGE.partition("\n## Examples\n")[2], re.MULTILINE)
    assert titles == ["curl", "Python with requests", "Python alone", "Node", "MicroPython",
                      "ESP32 in C"]  # fmt: skip


def test_the_doorkeeper_refuses_once_and_then_lets_through(receiver: Receiver) -> None:
    keeper = Doorkeeper(receiver.port, refused_once(retry_after=7))
    try:
        seen = []
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", keeper.port), timeout=60) as connection:
                connection.sendall(head("GET", "/healthz"))
                answer = read_answer(connection)
                assert answer is not None
                seen.append((answer.status, answer.headers.get("retry-after")))
    finally:
        keeper.close()
    assert seen == [(503, "7"), (200, None)]
