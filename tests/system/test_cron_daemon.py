"""Debian's own cron carries images: installed, watched from outside, removed again.

Makes a user and starts cron, so it runs only where HEADGATE_TEST_CRON=1 says that this is wanted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.cron_user import (
    FileTab,
    Somebody,
    UserTab,
    bucket_for,
    cron_running,
    free_port,
    running,
)
from tests.support.paths import ROOT
from tests.support.wait import wait_until

PHOTOGRAPHS = ROOT / "docs" / "photos"
CRON_SECONDS = 150  # two of cron's minutes, and a run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a user"),
    pytest.mark.skipif(
        os.environ.get("HEADGATE_TEST_CRON") != "1",
        reason="HEADGATE_TEST_CRON=1 is not set: this makes a user and starts cron",
    ),
    pytest.mark.skipif(
        not shutil.which("crontab"), reason="Debian's cron is not installed: apt-get install cron"
    ),
]


@pytest.fixture(scope="module")
def somebody() -> Iterator[Somebody]:
    user = Somebody(f"headgate-{secrets.token_hex(3)}")
    try:
        user.make_checkout()
        yield user
    finally:
        user.forget()


@pytest.mark.parametrize("kind", [UserTab, FileTab])
def test_cron_carries_images_and_leaves_the_tab_as_it_was(
    somebody: Somebody, kind: type[UserTab] | type[FileTab]
) -> None:
    port = free_port()
    somebody.site = somebody.home / f"{kind.__name__} 100%"  # what a tab must quote and escape
    somebody.site.mkdir()
    credentials = somebody.home / ".aws" / "credentials"
    shutil.rmtree(credentials.parent, ignore_errors=True)
    with bucket_for(somebody) as bucket, contextlib.ExitStack() as stack:
        tab = stack.enter_context(contextlib.closing(kind(somebody)))
        before = tab.read()
        assert before == tab.foreign
        somebody.config.write_text(
            f'[site]\nname = "north"\n[spool]\npath = "spool"\nkeep_free = "10MB"\n'
            f'[receiver]\nbind = "127.0.0.1:{port}"\n[uplink]\ninterval = "1min"\n'
            f'[s3]\nbucket = "{bucket.name}"\nendpoint_url = "{bucket.endpoint}"\n'
            f'region = "us-east-1"\n[log]\nfile = "log/drain.log"\n'
        )
        somebody.own(somebody.site)
        receiver = somebody.checkout / ".venv" / "bin" / "headgate-receiver"
        command = somebody.command(receiver, HEADGATE_CONFIG=str(somebody.config))
        stack.enter_context(running(command, somebody.home, port))

        keys = {"AWS_ACCESS_KEY_ID": bucket.key, "AWS_SECRET_ACCESS_KEY": bucket.secret}
        refused = tab.cron("install", code=1, **keys)
        assert "only in this shell: AWS_ACCESS_KEY_ID" in refused
        assert tab.read() == before

        credentials.parent.mkdir()
        credentials.write_text(
            f"[default]\naws_access_key_id = {bucket.key}\n"
            f"aws_secret_access_key = {bucket.secret}\n"
        )
        somebody.own(credentials.parent)
        tab.cron("install")
        installed = tab.read()
        assert installed.startswith(before)
        assert b"* * * * * " in installed.removeprefix(before)
        assert "already has these lines" in tab.cron("install")
        assert tab.read() == installed

        stack.enter_context(cron_running())
        images = [PHOTOGRAPHS / name for name in ("china.jpg", "rocket.jpg", "chelsea.png")]
        wanted = sorted(hashlib.sha256(image.read_bytes()).hexdigest() for image in images)
        for image in images:
            post(image, port)

        wait_until(
            lambda: len(local(somebody, "done")) >= len(wanted),
            "cron has had all of them sent",
            CRON_SECONDS,
            detail=lambda: log(somebody),
        )
        assert local(somebody, "done") == wanted
        assert local(somebody, "new") == []
        assert bucket.digests() == wanted
        assert '"trigger": "cron"' in log(somebody)

        tab.cron("remove")
        assert tab.read() == before


def post(image: Path, port: int) -> None:
    url = f"http://127.0.0.1:{port}/uploadImage"
    with image.open("rb") as file:
        answer = requests.post(
            url, files={"image": file}, headers={"X-Device": "cam-1"}, timeout=20
        )
    assert answer.status_code == 201, answer.text


def local(somebody: Somebody, folder: str) -> list[str]:
    """The digests of the images in a folder of the spool."""
    files = (path for path in (somebody.site / "spool" / folder).rglob("*") if path.is_file())
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


def log(somebody: Somebody) -> str:
    path = somebody.site / "log" / "drain.log"
    return path.read_text() if path.exists() else "no run has written its log"
