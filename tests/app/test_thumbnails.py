"""Small pictures: made apart from the receiver, and of nothing that is no image."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from app import create_app, thumbnails
from app.decode import NO_IMAGE, SIDE
from spool.item import Sent
from spool.mover import Mover
from spool.spool import Spool
from tests.app.live import PHOTOS
from tests.app.test_watching import ELSEWHERE, basic
from tests.spooling import open_spool, put

Photo = Callable[[], bytes]
DECODE = Path(thumbnails.__file__).with_name("decode.py")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path, spool__keep_free="0B", spool__keep_done="0s")
    yield opened
    opened.close()


@pytest.fixture
def client(spool: Spool) -> FlaskClient:
    return create_app(spool).test_client()


def picture(answer: bytes) -> Image.Image:
    with Image.open(io.BytesIO(answer), formats=["JPEG"]) as image:
        image.load()
        return image


@pytest.mark.parametrize("file", sorted(path.name for path in PHOTOS.iterdir()
                                        if path.suffix in (".jpg", ".png")))  # fmt: skip
def test_every_photograph_has_one(spool: Spool, client: FlaskClient, file: str) -> None:
    image = put(spool, (PHOTOS / file).read_bytes()).receipt
    answer = client.get(f"/images/{image.id}/thumbnail")
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
    assert max(picture(answer.data).size) == SIDE
    assert len(answer.data) < 64_000


def test_it_is_found_wherever_the_image_is_and_gone_with_it(
    spool: Spool, client: FlaskClient, photo: Photo
) -> None:
    image = put(spool, photo()).receipt
    item = spool.catalog.get(image.id)
    assert item is not None
    with spool.hold_drain_lock("a test", 0) as lock:
        mover = Mover(spool, lock)
        mover.set_aside(item, "no", spool.now())
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 200
        mover.retry(image.id)
        mover.finish([(item, Sent("north", "key", "etag"))], spool.now())
        again = create_app(spool).test_client()  # which has kept none
        assert again.get(f"/images/{image.sha256}/thumbnail").status_code == 200
        mover.prune(spool.now().replace(year=2090))
    gone = create_app(spool).test_client().get(f"/images/{image.id}/thumbnail")
    assert (gone.status_code, gone.json["code"]) == (404, "no_thumbnail")  # type: ignore[index]
    assert client.get(f"/images/{image.id}/thumbnail").status_code == 200  # kept


def bomb() -> bytes:
    """Small on the line, too large in memory."""
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["nothing", "text", "cut", "bomb", "script"])
def test_what_is_no_image_has_none(spool: Spool, client: FlaskClient, kind: str) -> None:
    data = {
        "nothing": b"\0",
        "text": b"<svg onload=alert(1)>",
        "cut": (PHOTOS / "rocket.jpg").read_bytes()[:400],
        "bomb": bomb(),
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }[kind]
    image = put(spool, data).receipt
    for _ in range(2):
        answer = client.get(f"/images/{image.id}/thumbnail")
        assert (answer.status_code, answer.json["code"]) == (404, "no_thumbnail")  # type: ignore[index]


def test_a_name_that_leads_elsewhere_is_not_followed(
    spool: Spool, client: FlaskClient, photo: Photo, tmp_path: Path
) -> None:
    image = put(spool, photo()).receipt
    path = spool.files.in_new(image.name)
    path.unlink()
    for made in (lambda: path.symlink_to(PHOTOS / "rocket.jpg"), lambda: os.mkfifo(path)):
        made()
        assert client.get(f"/images/{image.id}/thumbnail").status_code == 404
        path.unlink()


def test_it_is_made_once_and_kept(
    spool: Spool, client: FlaskClient, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = put(spool, photo()).receipt
    first = client.get(f"/images/{image.id}/thumbnail").data
    monkeypatch.setattr(subprocess, "run", None)
    assert client.get(f"/images/{image.id}/thumbnail").data == first


def test_pictures_are_for_their_own_device(spool: Spool, client: FlaskClient, photo: Photo) -> None:
    image = put(spool, photo(), "cam-1").receipt
    tokens = spool.site.devices.add(["cam-1", "cam-2"], spool.now(), urgent=False)
    status = {}
    for token in tokens:
        shown = basic(token.device, token.secret)
        address = f"/images/{image.id}/thumbnail"
        answer = client.get(address, headers=shown, environ_overrides=ELSEWHERE)
        status[token.device] = answer.status_code
        linked = address in client.get("/", headers=shown, environ_overrides=ELSEWHERE).text
        assert linked == (token.device == "cam-1")
    assert status == {"cam-1": 200, "cam-2": 404}


PROBE = """
import resource, socket, sys
sys.path.insert(0, {folder!r})
import decode
decode.confine()
for what in ("open", "memory", "network"):
    try:
        if what == "open":
            open("/etc/passwd")
        elif what == "memory":
            bytearray(2 << 30)
        else:
            socket.create_connection(("127.0.0.1", {port}), timeout=1)
    except (OSError, MemoryError):
        print("no", what)
assert resource.getrlimit(resource.RLIMIT_CPU) == (5, 5)
"""


def test_whoever_takes_over_the_decoder_has_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = PROBE.format(folder=str(DECODE.parent), port=port)
        ran = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["no open", "no memory", "no network"], ran.stderr


def test_the_decoder_says_that_it_is_no_image() -> None:
    ran = subprocess.run([sys.executable, "-I", DECODE], input=b"x", capture_output=True)
    assert (ran.returncode, ran.stdout) == (NO_IMAGE, b"")
