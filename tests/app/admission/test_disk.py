"""A disk that fails or fills up: nothing is acknowledged, and the receiver recovers by itself."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import create_app
from headgate.settings.load import load
from tests.support.receiver import (
    FORM_TYPE,
    Answer,
    Receiver,
    form,
    head,
    part,
    read_answer,
    running,
)
from tests.support.spooling import Failing
from tests.support.wait import wait_until

Photo = Callable[[], bytes]


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    spool = Failing.open(load(None, {"spool.path": str(tmp_path), "spool.keep_free": "0B"}, {}))
    assert isinstance(spool, Failing)
    yield spool
    spool.close()


@pytest.mark.parametrize("step", ["open", "write", "accept"])
@pytest.mark.parametrize(
    ("code", "status"),
    [(errno.EIO, 503), (errno.EROFS, 503), (errno.ENOSPC, 507), (errno.EDQUOT, 507)],
)
def test_no_acknowledgement_then_the_latch_until_a_probe_passes(
    failing: Failing,
    photo: Photo,
    step: str,
    code: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.admission.disk_breaker.PROBE_SECONDS", 0.02)
    client = create_app(failing).test_client()

    def post() -> int:
        headers = {"Content-Type": "image/jpeg"}
        answer = client.post("/images", data=photo(), headers=headers)
        if answer.status_code >= 500:
            assert answer.json is not None
            assert answer.json["retry"] is True
            assert int(answer.headers["Retry-After"]) > 0
        return answer.status_code

    assert post() == 201
    failing.step, failing.code = step, code
    assert post() == status
    assert list((failing.path / "tmp").iterdir()) == []
    assert post() == status
    assert client.get("/readyz").status_code == status
    assert client.get("/healthz").status_code == 200
    assert client.get("/limits").json["accepting"] is False  # type: ignore[index]
    told = client.get("/status.json").json
    assert told is not None
    assert told["verdict"]["level"] == "bad"
    assert told["waiting"]["images"] == 1
    failing.step = ""
    wait_until(lambda: client.get("/readyz").status_code == 200, "the receiver is ready")
    assert post() == 201


def test_latched_a_body_is_not_even_begun(
    failing: Failing, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = create_app(failing).test_client()
    failing.step = "accept"
    raw = {"Content-Type": "image/jpeg"}
    assert client.post("/images", data=photo(), headers=raw).status_code == 503
    opened = []
    monkeypatch.setattr(failing, "incoming", lambda: opened.append(1))
    assert client.post("/images", data=photo(), headers=raw).status_code == 503
    assert opened == []


def test_a_mistake_of_ours_is_a_problem_document_and_one_line_in_the_log(
    failing: Failing,
    photo: Photo,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def accept(*_: object) -> None:
        raise RuntimeError("an inner detail")

    monkeypatch.setattr(failing, "accept", accept)
    client = create_app(failing).test_client()
    answer = client.post("/images", data=photo(), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 500
    assert answer.content_type == "application/problem+json"
    assert "inner detail" not in answer.text
    assert "Traceback" not in answer.text
    assert list((failing.path / "tmp").iterdir()) == []
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("request.failed") == 1


@pytest.mark.root
def test_a_disk_that_fills_up_during_an_upload_and_is_freed(own: Path, photo: Photo) -> None:
    disk = own / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        try:
            os.setxattr(disk, "user.headgate.probe", b"x")
        except OSError:
            pytest.skip("this kernel's tmpfs has no extended attributes for users")
        with running(disk, spool__keep_free="0B", receiver__max_image="1.2MB") as receiver:
            acked = receiver.post_raw(photo()).json
            filler = disk / "filler"
            assert fill_during_upload(receiver, filler, photo()) == (507, "disk_full")
            receiver.await_empty_tmp()
            refused = receiver.post_raw(photo())
            assert (refused.status, refused.code) == (507, "disk_full")
            assert "retry-after" in refused.headers
            filler.unlink()
            receiver.await_ready()
            assert receiver.post_raw(photo()).status == 201
            assert receiver.get(f"/images/{acked['id']}").json["state"] == "waiting"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill_during_upload(receiver: Receiver, filler: Path, photo: bytes) -> tuple[int, str]:
    """Let an upload begin, take the rest of the disk, and let the upload go on."""
    body = form(part("image", photo + bytes(1_000_000), "a.jpg"))
    answer: Answer | None
    with receiver.connect() as connection:
        connection.sendall(head("POST", "/images", body, Content_Type=FORM_TYPE) + body[:100_000])
        wait_until(
            lambda: any(path.stat().st_size for path in receiver.half_received()),
            "the upload has begun",
        )
        with filler.open("wb", buffering=0) as out:
            try:
                while True:
                    out.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        connection.sendall(body[100_000:])
        answer = read_answer(connection)
    assert answer is not None
    return answer.status, answer.code
