"""Cameras and programs as docs/CAMERAS.md describes them: the lines to type, and the forms of
requests that their manuals tell of. FTP is in tests/app/ftp, mail in tests/app/smtp."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.receiver import (
    FORM_TYPE,
    Receiver,
    check,
    enrol,
    form,
    metadata,
    part,
    running,
    stored,
)

Photo = Callable[[], bytes]
PAGE = (ROOT / "docs" / "CAMERAS.md").read_text(encoding="utf-8")
EVENT = '<EventNotificationAlert version="2.0"><eventType>VMD</eventType></EventNotificationAlert>'
"""What an event's picture comes with."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Receiver, str]]:
    settings = {"receiver__auth": "token", "receiver__device_rate": "0"}
    with running(tmp_path_factory.mktemp("cameras"), **settings) as receiver:
        yield receiver, enrol(receiver, "cam-07")


@pytest.mark.parametrize("name", ["motion", "rpicam", "latest"])
def test_the_lines_of_the_page_send_a_picture(
    guarded: tuple[Receiver, str], photo: Photo, tmp_path: Path, name: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (.ci/run installs it)")
    receiver, token = guarded
    picture = tmp_path / "a.jpg"
    picture.write_bytes(image := photo())
    (line,) = re.findall(rf"<!-- test: {name} -->\n```\n(.*)\n```", PAGE)
    for told, here in (
        ("on_picture_save ", ""),
        ("%f", str(picture)),
        ("rpicam-still -n -o -", f"cat {picture}"),
        ("http://CAMERA/api/front/latest.jpg", picture.as_uri()),
        ("http://GATEWAY:8080", receiver.url),
        ("TOKEN", token),
    ):
        line = line.replace(told, here)
    before = set(receiver.images())
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    (new,) = set(receiver.images()) - before
    assert new.read_bytes() == image and "_cam-07_" in new.name
    if name == "rpicam":
        assert metadata(receiver, new.stem).captured_at


@pytest.mark.parametrize("form_of", ["body", "form", "event"])
def test_a_camera_that_logs_in_and_posts_is_understood(
    guarded: tuple[Receiver, str], photo: Photo, form_of: str
) -> None:
    """A picture as the body, as a file of a form, or beside an event's description: with name and
    password as a menu has them."""
    receiver, token = guarded
    image = photo()
    parts = [part("file", image, "2026-11-30 12-00-00.jpg")]
    if form_of == "event":
        parts.insert(0, part("event", EVENT, "event.xml", "application/xml"))
    body, kind = form(*parts), FORM_TYPE
    if form_of == "body":
        body, kind = image, "image/jpeg"
    login = base64.b64encode(f"cam-07:{token}".encode()).decode()
    answer = receiver.request(
        "POST", "/uploadImage", body, Content_Type=kind, Authorization=f"Basic {login}"
    )
    check(answer, 201)
    assert stored(receiver, answer.json["id"]).read_bytes() == image
    assert answer.json["device"] == "cam-07"
