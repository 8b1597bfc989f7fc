"""The C client beside its network: other compilers, other ports, its spool, its arithmetic."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bad_network import BadNetwork, Fault, Kind
from tests.support.cameras import ROOT, STRICT, C, CCamera, Gateway

Photo = Callable[[], bytes]
WARNINGS = ("-fsyntax-only", "-Wall", "-Wextra", "-Werror")


def compiles(compiler: str, *words: str) -> None:
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"{compiler} is not installed (.ci/run installs it)")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("standard", ["c99", "c11", "gnu17"])
def test_it_is_c_of_every_standard(standard: str) -> None:
    strict = [word for word in STRICT if not word.startswith("-std")]
    compiles("gcc", f"-std={standard}", "-fsyntax-only", *strict, str(C / "headgate_client.c"))


def test_the_port_for_esp_idf_fits_what_it_calls() -> None:
    stubs = str(ROOT / "tests" / "data" / "esp_idf")
    for file in ("port_esp_idf.c", "headgate_client.c", "port_posix.c"):
        compiles("gcc", "-std=gnu17", "-DESP_PLATFORM", *WARNINGS, "-I", stubs, str(C / file))


def test_the_port_for_arduino_fits_what_it_calls() -> None:
    stubs = str(ROOT / "tests" / "data" / "arduino")
    compiles("g++", "-std=gnu++17", *WARNINGS, "-I", stubs, str(C / "port_arduino.cpp"))


@pytest.mark.parametrize("size", [1, 55, 56, 63, 64, 65, 119, 120, 1000])
def test_its_digest_is_sha256(c_client: Path, tmp_path: Path, size: int) -> None:
    camera = CCamera(c_client, tmp_path / "pictures", 9, "T")
    picture = bytes(n % 251 for n in range(size))
    camera.put(picture)
    assert camera.states() == {hashlib.sha256(picture).hexdigest(): "waiting"}


def test_on_a_card_without_atomic_renames_the_new_record_counts(
    c_client: Path, tmp_path: Path
) -> None:
    camera = CCamera(c_client, tmp_path / "pictures", 9, "T")
    camera.put(b"one")
    record = camera.folder / "00000001.rec"
    record.rename(record.with_suffix(".new"))  # the power went between remove and rename
    (camera.folder / "state").rename(camera.folder / "state.new")
    camera.put(b"two")
    assert (camera.folder / "00000002.rec").exists()
    record.with_suffix(".new").rename(record)
    record.with_suffix(".new").write_text("state=held\nid=")  # it went while that was written
    assert len(camera.states()) == 2 and set(camera.states().values()) == {"waiting"}


def test_a_lost_counter_makes_no_number_and_no_key_twice(
    gateway: Gateway, c_client: Path, tmp_path: Path, photo: Photo
) -> None:
    device, token = next(gateway.devices)
    network = BadNetwork(gateway.receiver.port)
    camera = CCamera(c_client, tmp_path / "pictures", network.port, token)
    pictures = [photo(), photo()]
    camera.put(pictures[0])
    network.decide = lambda head: Fault(Kind.DROP_ANSWER if b"POST" in head else Kind.NONE)
    camera.send()  # the gateway has it, and the camera does not know
    (camera.folder / "state").unlink()
    network.decide = lambda _head: Fault()
    camera.put(pictures[1])
    for _ in range(3):
        camera.send()
    assert set(camera.states().values()) == {"held"}
    assert sorted(p.read_bytes() for p in gateway.images(device)) == sorted(pictures)
    network.close()


def test_an_answer_in_chunks_and_after_an_interim_one_is_read(
    gateway: Gateway, c_client: Path, tmp_path: Path, photo: Photo
) -> None:
    _, token = next(gateway.devices)
    body = b'{"accepting": true, "max_image": 5}'
    chunks = b"%x\r\n%s\r\n%x;note=1\r\n%s\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    head = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    network = BadNetwork(gateway.receiver.port)
    network.decide = lambda _head: Fault(Kind.SAY, say=head + b"Connection: close\r\n\r\n" + chunks)
    camera = CCamera(c_client, tmp_path / "pictures", network.port, token)
    camera.put(photo())
    camera.send()
    assert list(camera.states().values()) == ["refused"]  # it is larger than five bytes
    network.close()


@pytest.mark.parametrize(
    "words",
    [[], ["host", "80", "/nowhere"], ["h", "80", "/nowhere", "put"], ["h", "0", "/", "send"]],
)
def test_a_wrong_use_is_named(c_client: Path, words: list[str]) -> None:
    done = subprocess.run([str(c_client), *words], capture_output=True, text=True, timeout=60,
                          env={"HEADGATE_CLIENT_TOKEN": "T"})  # fmt: skip
    assert done.returncode == 2 and done.stderr


def test_a_spool_that_is_not_there_is_named(c_client: Path) -> None:
    done = subprocess.run([str(c_client), "127.0.0.1", "9", "/nowhere", "send"],
                          capture_output=True, text=True, timeout=60,
                          env={"HEADGATE_CLIENT_TOKEN": "T"})  # fmt: skip
    assert done.returncode == 4 and "spool" in done.stderr
