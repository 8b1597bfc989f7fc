"""Two signals end a run, whatever it waits for: the lock is free, and no image is lost.

Each starts a command of its own, so that of each kind one is for every day; CI runs all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.spool.image.image import State
from headgate.spool.spool import Spool
from tests.support.environment import PYTHON_PATH
from tests.support.scripted_server import read_request, server
from tests.support.spooling import images_below, put
from tests.support.wait import kill, wait_for_exit, wait_until

WITHIN = 90.0
"""Seconds for what takes two or three: a bound for a machine that is very busy."""

HANG = """
import ctypes, os, sys
def hang(*_args, **_more):
    # A mutex that is locked already: nothing but a kill ends this wait, as in a name lookup.
    mutex = ctypes.create_string_buffer(64)
    library = ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    open(os.environ["HANGS"], "w").close()
    library.pthread_mutex_lock(mutex)
"""
"""What the run's own process is given to hang in; it makes a file when it does."""

LOOKUP = HANG + "import socket; socket.getaddrinfo = hang\n"
CREDENTIALS = HANG + (
    "import botocore.credentials as c; c.Credentials.get_frozen_credentials = hang\n"
)
RECORD = HANG + "import uploader.run.report as r; r.RunReport.end = hang\n"
AFTERWARDS = HANG + "import uploader.run.start as s; s.after_run = hang\n"


class Site:
    """A spool with three images, and runs of the command in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "headgate.toml"
        self.write("http://127.0.0.1:9")
        self.spool = Spool.open(self.settings())
        self.images = {
            put(self.spool, os.urandom(200_000), device=f"cam-{n}").receipt.id for n in range(3)
        }

    def write(self, endpoint: str, more: str = "") -> None:
        self.config.write_text(
            f'[spool]\npath = "{self.root}/spool"\n[s3]\nbucket = "images"\nregion = "us-east-1"\n'
            f'endpoint_url = "{endpoint}"\n{more}'
        )

    def settings(self):  # type: ignore[no-untyped-def]
        from headgate.settings.load import load

        return load(str(self.config), environment={})

    def start(self, *words: str, before: str = "", **environment: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "AWS_"))}
        script = f"{before}\nfrom uploader.cli.main import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", script, "--config", str(self.config), *(words or ("drain",))],
            env={
                **kept, "PYTHONPATH": PYTHON_PATH, "AWS_ACCESS_KEY_ID": "k",
                "AWS_SECRET_ACCESS_KEY": "s", "HANGS": str(self.root / "hangs"), **environment,
            },
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def assert_nothing_is_lost(self) -> None:
        """The lock is free; each image waits where it lay, and may have arrived."""
        self.spool.hold_drain_lock("the test", 0).release()
        assert images_below(self.spool.path) == {image: ["new"] for image in self.images}
        items = list(self.spool.catalog.after(0, 10))
        assert {item.id for item in items} == self.images
        assert {item.state for item in items} <= {State.WAITING, State.SENDING}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.spool.close()


@contextlib.contextmanager
def running(run: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The run, killed if the test fails."""
    try:
        yield run
    finally:
        kill(run)


def waits_for(path: Path, run: subprocess.Popen[str]) -> None:
    """Until the run has made the file."""
    wait_until(path.exists, "the run comes to where it is to hang", process=run)


def twice(run: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    """Signal it once, and again when it says that it heard; how it ended."""
    assert run.stderr is not None
    run.send_signal(number)
    while "again to break it off" not in (line := run.stderr.readline()):
        assert line, f"the run ended at the first signal: {run.wait(WITHIN)}"
    run.send_signal(number)
    return run.wait(WITHIN)


HEAD = b"HTTP/1.1 200 OK\r\n"
PATIENCE = {
    "100 Continue, slowly": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers": (HEAD, b"X-More: and more\r\n"),
    "a body": (HEAD + b"Content-Length: 60000\r\n\r\n", b"x"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-More: and more\r\n"),
    "no answer": (b"", b""),
}


class Odd:
    """A server that reads one request whole, or not at all, and then does as it is told."""

    def __init__(self, start: bytes, again: bytes, *, reads: bool = True) -> None:
        self.began = threading.Event()
        self._over = threading.Event()
        self._start, self._again, self._reads = start, again, reads

    def __call__(self, sock: socket.socket) -> None:
        if self._reads:
            read_request(sock)
        else:
            sock.recv(100)
        sock.sendall(self._start)
        self.began.set()
        while not self._over.wait(0.02):
            if self._again:
                sock.sendall(self._again)

    def end(self) -> None:
        self._over.set()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "100 Continue, slowly" else pytest.mark.slow)
        for kind in PATIENCE
    ],
)
def test_while_an_answer_is_read(site: Site, kind: str) -> None:
    odd = Odd(*PATIENCE[kind])
    with server(odd) as port:
        site.write(f"http://127.0.0.1:{port}")
        with running(site.start("drain", "--json")) as run:
            assert odd.began.wait(WITHIN)
            assert twice(run) >= 0  # by itself: a report is left, and no kill was needed
            assert run.stdout is not None
            assert json.loads(run.stdout.read())["outcome"] == "stopped"
            odd.end()
    site.assert_nothing_is_lost()
    assert [item.unknown for item in site.spool.catalog.after(0, 10)].count(True) >= 1


@pytest.mark.slow
def test_while_the_server_takes_nothing(site: Site) -> None:
    odd = Odd(b"", b"", reads=False)
    site.images.add(put(site.spool, os.urandom(20_000_000), device="cam-0").receipt.id)
    with server(odd) as port:
        site.write(f"http://127.0.0.1:{port}")
        with running(site.start()) as run:
            assert odd.began.wait(WITHIN)
            assert twice(run, signal.SIGINT) >= 0
            odd.end()
    site.assert_nothing_is_lost()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["TLS", "CONNECT"])
def test_while_a_handshake_is_waited_for(site: Site, way: str) -> None:
    odd = Odd(b"", b"", reads=False)
    with server(odd) as port:
        site.write("https://s3.example.net" if way == "CONNECT" else f"https://127.0.0.1:{port}")
        proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{port}"} if way == "CONNECT" else {}
        with running(site.start(**proxy)) as run:
            assert odd.began.wait(WITHIN)
            assert twice(run) >= 0
            odd.end()
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_a_connection_is_waited_for(site: Site) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        ours = []
        for _ in range(4):  # its queue is full: the kernel answers no further SYN
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            ours.append(sock)
        marker = (
            "import os, uploader.wire.dialing as w; inner = w._Attempts._begin\n"
            "def connect(*a): open(os.environ['HANGS'], 'w').close(); return inner(*a)\n"
            "w._Attempts._begin = connect\n"
        )
        site.write(f"http://127.0.0.1:{port}")
        with running(site.start(before=marker)) as run:
            waits_for(site.root / "hangs", run)
            assert twice(run) >= 0
        for sock in ours:
            sock.close()
    site.assert_nothing_is_lost()


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(LOOKUP, id="a name lookup"),
        pytest.param(CREDENTIALS, id="credentials", marks=pytest.mark.slow),
    ],
)
def test_while_a_thread_hangs_in_what_no_signal_ends(site: Site, where: str) -> None:
    site.write("http://s3.example.net")
    with running(site.start(before=where)) as run:
        waits_for(site.root / "hangs", run)
        assert twice(run) >= 0
    site.assert_nothing_is_lost()


def test_a_run_in_which_nothing_moves_breaks_itself_off(site: Site) -> None:
    soon = (
        "import uploader.run.standstill as s, uploader.wire.http as e\n"
        "s._SECONDS = 1.0; e.Timeouts.longest = property(lambda self: 0.0)\n"
    )
    site.write("http://s3.example.net")
    with running(site.start("drain", "--json", before=CREDENTIALS + soon)) as run:
        said, _ = wait_for_exit(run, "the run breaks itself off")
        report = json.loads(said)
        assert report["exit_code"] == 1
        assert "so the run was broken off" in report["message"]
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_the_main_thread_itself_hangs(site: Site) -> None:
    with running(site.start(before=RECORD)) as run:
        waits_for(site.root / "hangs", run)
        assert twice(run) == -signal.SIGKILL  # Python runs no handler there: it ends as by a kill
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_the_pacer_is_waited_for(site: Site) -> None:
    odd = Odd(b"", b"", reads=False)
    with server(odd) as port:
        site.write(f"http://127.0.0.1:{port}", '[uplink]\nlink = "1kB/s"\nshare = "100%"\n')
        with running(site.start("drain", "--until-empty")) as run:
            assert odd.began.wait(WITHIN)
            assert twice(run) >= 0
            odd.end()
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_the_lock_is_waited_for_one_is_enough(site: Site) -> None:
    marker = (
        "import os, headgate.spool.disk.locks as l; inner = l._try\n"
        "def attempt(*a): open(os.environ['HANGS'], 'w').close(); return inner(*a)\n"
        "l._try = attempt\n"
    )
    with site.spool.hold_drain_lock("the test", 0), running(site.start(before=marker)) as run:
        waits_for(site.root / "hangs", run)
        run.send_signal(signal.SIGTERM)
        assert run.wait(WITHIN) == -signal.SIGTERM
    site.assert_nothing_is_lost()


def test_while_alerts_are_sent_one_is_enough_and_the_report_is_kept(site: Site) -> None:
    slow = (
        "import os, time, uploader.run.start as s\n"
        "def after(_spool): open(os.environ['HANGS'], 'w').close(); time.sleep(1000)\n"
        "s.after_run = after\n"
    )
    with running(site.start("drain", "--json", before=slow)) as run:
        waits_for(site.root / "hangs", run)
        run.send_signal(signal.SIGTERM)
        assert run.wait(WITHIN) == 5
        assert run.stdout is not None
        assert json.loads(run.stdout.read())["outcome"] == "uplink down"
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_alerts_hang_in_what_no_signal_ends(site: Site) -> None:
    with running(site.start(before=AFTERWARDS)) as run:
        waits_for(site.root / "hangs", run)
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGINT)
        assert run.wait(WITHIN) == -signal.SIGKILL
    site.assert_nothing_is_lost()


@pytest.mark.slow
def test_while_a_heartbeat_is_waited_for(site: Site) -> None:
    odd = Odd(b"", b"", reads=True)
    with server(odd) as port:
        site.write("http://127.0.0.1:9", f'[alerts]\nheartbeat_url = "http://127.0.0.1:{port}/x"\n')
        with running(site.start("drain", "--json")) as run:
            assert odd.began.wait(WITHIN)
            waits_for_report(site)
            run.send_signal(signal.SIGTERM)
            run.send_signal(signal.SIGTERM)
            assert run.wait(WITHIN) is not None
            odd.end()
    site.assert_nothing_is_lost()


def waits_for_report(site: Site) -> None:
    """Until the run's end is on record, so that it only tells of it from then on."""
    wait_until(
        lambda: any(run.ended_at for run in site.spool.site.runs(5)), "the run ends its sending"
    )
