"""A gateway on a booted Debian, as the person at its keyboard has it; its bucket; and a camera in
another network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.booted import GATEWAY, Booted, Network
from tests.support.paths import ROOT
from tests.support.wait import wait_until

PAGE = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
BUCKET = "pictures"
S3_PORT = 9000
SPOOL = "/var/lib/headgate/spool"
MINUTE = 100
"""Seconds in which cron or a timer that acts each minute has acted, and a run has ended."""


def blocks(heading: str) -> list[str]:
    """The lines that the page says to type, below one of its headings."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
            for line in block.splitlines()]  # fmt: skip


def procedure(title: str) -> list[str]:
    """The commands below one of the procedures of docs/OPERATING.md."""
    page = (ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8")
    part = page.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    return re.findall(r"^\$ (.*)$", part, re.MULTILINE)


def marked(name: str) -> list[str]:
    """The lines of the page's block with that mark."""
    (text,) = re.findall(rf"<!-- test: {name} -->\n```(?:sh)?\n(.*?)```", PAGE, re.DOTALL)
    return str(text).splitlines()


def until(what: str, found: Callable[[], Any], seconds: float = MINUTE) -> Any:
    return wait_until(found, what, seconds, every=0.5)


def picture(number: int) -> bytes:
    """A small image that no other number has."""
    made = io.BytesIO()
    Image.new("RGB", (48, 32), (number & 255, number >> 8 & 255, 77)).save(made, "PNG")
    return made.getvalue()


class Camera:
    """Posts an image, again and again until it is acknowledged, then the next; from its network."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network, self._folder = network, folder
        self.token = ""
        self.acknowledged: dict[str, int] = {}  # by SHA-256
        self.refused = 0
        self._number = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def post(self, url: str, *more: str, number: int | None = None) -> int:
        """The status of one post; 0 where nobody answered."""
        with self._lock:
            if number is None:
                self._number += 1
            file = self._folder / f"{self._number}.png"
            file.write_bytes(picture(self._number))
            ran = subprocess.run(
                [*self._network.inside(self._network.camera), "curl", "-sS", "-m", "8", "-o",
                 "/dev/null", "-w", "%{http_code}", "-F", f"image=@{file}", *more, url],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            status = int(ran.stdout or 0)
            if status in (200, 201):
                self.acknowledged[hashlib.sha256(file.read_bytes()).hexdigest()] = self._number
            else:
                self.refused += 1
            return status

    def send(self, count: int) -> None:
        """So many images, each until it is acknowledged."""
        for _ in range(count):
            again: list[int | None] = [None]

            def taken(number: list[int | None] = again) -> bool:
                url = f"http://{GATEWAY}:8080/uploadImage"
                status = self.post(url, *self.bearer(), number=number[0])
                number[0] = self._number
                return status in (200, 201)

            wait_until(taken, "an image is acknowledged", 600, every=0.3)

    def bearer(self) -> list[str]:
        return ["-H", f"Authorization: Bearer {self.token}"]

    @contextlib.contextmanager
    def posting(self) -> Iterator[None]:
        """One image after the other for as long as the block lasts."""
        self._stop.clear()

        def work() -> None:
            while not self._stop.wait(0.2):
                self.send(1)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(60)
            assert not thread.is_alive(), "an image was never acknowledged"


class Gateway:
    """The Debian, as the person at its keyboard has it."""

    def __init__(self, debian: Booted) -> None:
        self.debian = debian

    def type(self, heading: str) -> str:
        """What the page says below a heading."""
        return self.type_lines(blocks(heading))

    def type_lines(self, lines: list[str]) -> str:
        """Lines of the page; in an editor, what this site needs."""
        said, folder = [], "/root"
        for line in lines:
            if line.startswith("cd "):
                folder = f"/root/{line.removeprefix('cd ')}"
                continue
            if line.startswith("editor "):
                self.edit(line.removeprefix("editor "))
                continue
            line = re.sub(r"https://\S+\.git", "/srv/headgate.git", line)
            check = line != "headgate doctor"  # which may say that something is wrong
            said.append(self.debian.run(line, folder=folder, check=check))
        return "".join(said)

    def edit(self, path: str) -> None:
        file = self.debian.tree / path.lstrip("/")
        text = file.read_text()
        if path.endswith("credentials"):
            text += "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n"
        else:
            for old, new in (
                ('bucket = ""', f'bucket = "{BUCKET}"\nregion = "us-east-1"\n'
                 f'endpoint_url = "http://127.0.0.1:{S3_PORT}"'),
                ('interval = "5min"', 'interval = "1min"'),
            ):  # fmt: skip
                assert old in text
                text = text.replace(old, new)
        file.write_text(text)

    def status(self) -> dict[str, Any]:
        found = json.loads(self.debian.run("headgate status --json"))
        assert isinstance(found, dict)
        return found

    def files(self, folder: str) -> dict[str, str]:
        """The digests of the images in one folder of the spool, with their paths."""
        base = self.debian.tree / SPOOL.lstrip("/") / folder
        return {hashlib.sha256(path.read_bytes()).hexdigest(): str(path)
                for path in base.rglob("*") if path.is_file()}  # fmt: skip

    def versions(self) -> tuple[str, set[str]]:
        prefix = self.debian.tree / "opt/headgate"
        return os.readlink(prefix / "bin"), {path.name for path in (prefix / "versions").iterdir()}


class Bucket:
    """The stand-in for S3, on the gateway's own loopback."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._folder = folder / "s3"
        address = f"127.0.0.1:{S3_PORT}"
        self.process = subprocess.Popen(
            [*network.inside(network.gateway), sys.executable, "-m", "dev.s3_local",
             "--bind", address, "--dir", str(self._folder), "--bucket", BUCKET],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
        self._network = network

    def digests(self) -> set[str]:
        """What is in it, by SHA-256 of the bytes that it gives back."""
        script = (
            "import boto3, hashlib, json; c = boto3.client('s3', region_name='us-east-1',"
            f" endpoint_url='http://127.0.0.1:{S3_PORT}', aws_access_key_id='k',"
            " aws_secret_access_key='s'); "
            f"p = c.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}'); "
            "n = [o['Key'] for page in p for o in page.get('Contents', [])]; "
            "n = [key for key in n if 'probe' not in key]; "
            f"print(json.dumps([hashlib.sha256(c.get_object(Bucket='{BUCKET}', Key=k)['Body']"
            ".read()).hexdigest() for k in n]))"
        )
        ran = subprocess.run(
            [*self._network.inside(self._network.gateway), sys.executable, "-c", script],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found = json.loads(ran.stdout)
        assert len(found) == len(set(found)), "an image is there twice"
        return set(found)
