"""The kernel says that the disk failed, at each call of an upload in turn (strace's fault
injection, and a disk that really fails): no acknowledgement, no second flush, closed until it is
trusted again, and nothing lost that was acknowledged."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.receiver import Answer, Receiver, running, serving_process
from tests.support.small_disk import disk, image
from tests.support.wait import wait_for_exit, wait_until

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_DISK_ERRORS") != "1",
        reason="HEADGATE_TEST_DISK_ERRORS=1 is not set: this takes minutes, and needs root",
    ),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.root,
]

CALLS = ("fsetxattr", "fsync", "linkat", "unlink", "mkdir", "fdatasync", "pwrite64")
"""What an upload asks of the disk beside open and write, which the server itself needs as well;
those fail in tests/headgate/spool/disk/test_durable.py and on the disk below."""

OF_SQLITE = ("fdatasync", "pwrite64")
"""It keeps the kernel's reason to itself, all but a full disk's when it writes."""

PROBED = ("fsetxattr", "fsync", "linkat")
"""What a probe fails by, too: it stays closed for as long as they do."""

ERRORS = {"EIO": 503, "EROFS": 503, "ENOSPC": 507}
STEPS = (1, 2, 3, 4, 5, 7, 10, 15, 25, 45)
"""Which of the calls fails; SQLite writes many small pieces."""


class Injected:
    """strace, attached to a running receiver; it lets the nth call of a kind fail, or all from
    there on, and notes every call."""

    def __init__(self, pid: int, log: Path, call: str, error: str, nth: int, *, ever: bool) -> None:
        self.log = log
        when = f"{nth}+" if ever else f"{nth}"
        self._strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", f"trace={call},fsync",
             "-e", f"inject={call}:error={error}:when={when}", "-p", str(pid)],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        tracer = Path(f"/proc/{pid}/task")
        wait_until(
            lambda: all(_is_traced(task) for task in tracer.iterdir()),
            "strace has attached itself to every thread",
            process=self._strace,
        )

    @property
    def count(self) -> int:
        """How often a call was made to fail."""
        return self.log.read_text(errors="replace").count("(INJECTED)")

    @property
    def fired(self) -> bool:
        return self.count > 0

    def end(self) -> None:
        self._strace.send_signal(signal.SIGTERM)
        wait_for_exit(self._strace, "strace ends")

    def flushed_again(self) -> list[str]:
        """Files whose flush failed and was tried again: the second one would say OK."""
        failed: set[str] = set()
        again = []
        for line in self.log.read_text(errors="replace").splitlines():
            found = re.search(r"f(?:data)?sync\(\d+<([^>]*)>\)\s*=\s*(\S+)", line)
            if found is None:
                continue
            if found[1] in failed and "/tmp/" in found[1]:
                again.append(found[1])
            if found[2] != "0":
                failed.add(found[1])
        return again


def _is_traced(task: Path) -> bool:
    try:
        text = (task / "status").read_text()
    except OSError:
        return True  # it ended
    return "TracerPid:\t0\n" not in text


class Acked:
    """Outside the file system under test: what was acknowledged, byte for byte."""

    def __init__(self) -> None:
        self.images: dict[str, bytes] = {}
        self._number = 0

    def post(self, receiver: Receiver) -> Answer:
        self._number += 1
        data = image(self._number)
        answer = receiver.post_raw(data)
        if answer.status in (200, 201):
            self.images[answer.json["id"]] = data
        return answer

    def check(self, receiver: Receiver) -> None:
        lying = {path.stem: path for path in receiver.images()}
        for image_id, data in self.images.items():
            assert lying[image_id].read_bytes() == data


@pytest.fixture
def acked() -> Acked:
    return Acked()


@contextlib.contextmanager
def small_receiver(tmp_path: Path) -> Iterator[Receiver]:
    settings = {"receiver__threads": "4", "spool__keep_free": "0B"}
    with running(tmp_path, **settings) as receiver:
        yield receiver


@pytest.mark.parametrize("ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("error", list(ERRORS))
@pytest.mark.parametrize("call", CALLS)
def test_an_error_at_each_call_of_an_upload(
    tmp_path: Path, acked: Acked, call: str, error: str, ever: bool
) -> None:
    with small_receiver(tmp_path) as receiver:
        serving = serving_process(receiver)
        for nth in STEPS[:2] if ever else STEPS:
            if call == "mkdir":  # the folders of this minute, which the next upload makes again
                for path in receiver.images():
                    acked.images.pop(path.stem, None)
                subprocess.run(["rm", "-rf", *(receiver.spool / "new").iterdir()], check=True)
            injected = Injected(serving, tmp_path / "strace.log", call, error, nth, ever=ever)
            try:
                answer = acked.post(receiver)
                fired = injected.fired
                if answer.status != 201:
                    assert fired
                    expected = ERRORS[error] if call not in OF_SQLITE else answer.status
                    assert answer.status == expected in (503, 507), answer.body
                    assert acked.post(receiver).status == expected  # closed
                    assert receiver.get("/readyz").status == expected
                if ever and fired and call in PROBED:
                    seen = injected.count
                    wait_until(lambda: injected.count > seen + 1, "it has probed again")  # noqa: B023
                    assert receiver.get("/readyz").status != 200
            finally:
                injected.end()
            assert injected.flushed_again() == []
            receiver.await_ready()
            assert acked.post(receiver).status == 201
            if not fired:
                break  # the upload has no more calls of this kind
        else:
            assert ever, f"{call} was called {STEPS[-1]} times"
        assert acked.images
        acked.check(receiver)
    with small_receiver(tmp_path) as receiver:  # and after a start
        acked.check(receiver)
        for image_id in acked.images:
            assert receiver.get(f"/images/{image_id}").json["state"] == "waiting"


def test_a_disk_that_really_fails(tmp_path: Path, acked: Acked) -> None:
    """An ext4 on a tmpfs that is too small for it: writing back fails with EIO."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        with disk(small, 64) as point, small_receiver(point) as receiver:
            refused = 0
            for _ in range(200):
                answer = acked.post(receiver)
                if answer.status != 201:
                    assert answer.status in (503, 507), answer.body
                    refused += 1
                    if refused > 5:
                        break
            assert refused
            assert acked.images
            assert receiver.get("/readyz").status in (503, 507)
            for path in receiver.images():
                if path.stem in acked.images:
                    assert path.read_bytes() == acked.images[path.stem]
            assert {path.stem for path in receiver.images()} >= set(acked.images)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_the_errors_are_what_the_kernel_calls_them() -> None:
    assert all(hasattr(errno, name) for name in ERRORS)
