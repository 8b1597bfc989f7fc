"""The clients that real devices and services use, each sending a real photograph."""

from __future__ import annotations

import base64
import html
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chromium import BROWSER, FLAGS
from tests.support.paths import PHOTOS
from tests.support.receiver import Receiver, metadata, running, stored

PHOTO = PHOTOS / "flower.jpg"
NODE_PACKAGES = ("axios@0.27.2", "node-fetch@2.7.0", "form-data@4.0.0")


def check_stored(receiver: Receiver, receipt: dict[str, object], file_name: str) -> None:
    image_id = str(receipt["id"])
    assert stored(receiver, image_id).read_bytes() == PHOTO.read_bytes()
    assert metadata(receiver, image_id).file_name == file_name


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_receipt(text: str) -> dict[str, object]:
    found = json.loads(text.splitlines()[-1])
    assert isinstance(found, dict)
    assert found["state"] == "waiting", found
    return found


@pytest.fixture
def curl() -> str:
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed")
    return found


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    version = run(found, "--version").lstrip("v").split(".")
    if int(version[0]) < 18:
        pytest.skip("node is older than 18: no fetch")
    return found


def test_curl_form(receiver: Receiver, curl: str) -> None:
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"]):
        text = run(curl, "-sS", *extra, "-F", f"image=@{PHOTO}", receiver.url + "/uploadImage")
        check_stored(receiver, last_receipt(text), "flower.jpg")


def test_curl_form_with_a_file_name_of_its_own(receiver: Receiver, curl: str) -> None:
    field = f'image=@{PHOTO};filename="Küche \\"1\\".jpg"'
    text = run(curl, "-sS", "-F", field, "-F", "device=cam-curl", receiver.url + "/images")
    check_stored(receiver, last_receipt(text), 'Küche "1".jpg')


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
def test_curl_raw(receiver: Receiver, curl: str, expect: str) -> None:
    text = run(
        *(curl, "-sS", "-H", expect, "-H", "Content-Type: image/jpeg"),
        *("--data-binary", f"@{PHOTO}", receiver.url + "/images"),
    )
    check_stored(receiver, last_receipt(text), "")


def test_curl_sees_why_a_large_image_is_refused(
    receiver: Receiver, curl: str, tmp_path: Path
) -> None:
    large = tmp_path / "large.jpg"
    with large.open("wb") as out:
        out.write(PHOTO.read_bytes())
        out.truncate(30_000_000)
    for expect in ("Expect: 100-continue", "Expect:"):
        for how in (["-F", f"image=@{large}"], ["-T", str(large), "-X", "POST"]):
            text = run(
                *(curl, "-sS", "-H", expect, "-H", "Content-Type: image/jpeg")
                if how[0] == "-T"
                else (curl, "-sS", "-H", expect),
                *(*how, receiver.url + "/images"),
            )
            assert '"code": "too_large"' in text


FETCH = """
const { readFileSync } = require("node:fs");
const body = new FormData();
body.append("device", "cam-fetch");
body.append("image", new Blob([readFileSync(process.argv[2])]), "Küche 1.jpg");
fetch(process.argv[1] + "/uploadImage", { method: "POST", body })
  .then((answer) => answer.text()).then(console.log);
"""


def test_node_fetch_with_form_data(receiver: Receiver, node: str) -> None:
    text = run(node, "-e", FETCH, receiver.url, str(PHOTO))
    check_stored(receiver, last_receipt(text.strip()), "Küche 1.jpg")


AXIOS = """
const axios = require("axios"), FormData = require("form-data"), fs = require("node:fs");
const body = new FormData();
body.append("image", fs.createReadStream(process.argv[2]), "Küche 1.jpg");
axios.post(process.argv[1] + "/uploadImage", body, { headers: body.getHeaders() })
  .then((answer) => console.log(answer.status, answer.request._header.includes("chunked"))
    || console.log(JSON.stringify(answer.data)));
"""

NODE_FETCH = """
const fetch = require("node-fetch"), FormData = require("form-data"), fs = require("node:fs");
const { PassThrough } = require("node:stream");
const body = new FormData(), through = new PassThrough();
body.append("image", fs.createReadStream(process.argv[2]), "Küche 1.jpg");
body.pipe(through);
const options = { method: "POST", body: through, headers: body.getHeaders() };
fetch(process.argv[1] + "/uploadImage", options)
  .then((answer) => answer.text()).then(console.log);
"""


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *NODE_PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("npm install did not end within a minute: no registry?")
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def test_axios_streams_a_chunked_form(receiver: Receiver, node: str, node_modules: Path) -> None:
    text = run(node, "-e", AXIOS, receiver.url, str(PHOTO), cwd=node_modules)
    # 200 where another test has just sent this photograph
    assert text.splitlines()[0] in ("201 true", "200 true")
    check_stored(receiver, last_receipt(text), "Küche 1.jpg")


def test_node_fetch_2_streams_a_chunked_form(
    receiver: Receiver, node: str, node_modules: Path
) -> None:
    text = run(node, "-e", NODE_FETCH, receiver.url, str(PHOTO), cwd=node_modules)
    check_stored(receiver, last_receipt(text.strip()), "Küche 1.jpg")


def test_python_requests(receiver: Receiver) -> None:
    if importlib.util.find_spec("requests") is None:
        pytest.skip("requests is not installed")
    import requests

    with PHOTO.open("rb") as image:
        files = {"image": ("Küche 1.jpg", image, "image/jpeg")}
        answer = requests.post(receiver.url + "/uploadImage", files=files, timeout=60)
    check_stored(receiver, answer.json(), "Küche 1.jpg")
    large = {"image": ("a.jpg", b"\xff\xd8\xff" + bytes(9_000_000), "image/jpeg")}
    refused = requests.post(receiver.url + "/uploadImage", files=large, timeout=60)
    assert refused.status_code == 413
    assert refused.json()["limit"] == 1_000_000
    with PHOTO.open("rb") as image:
        answer = requests.post(
            receiver.url + "/images",
            data=image,
            headers={"Content-Type": "image/jpeg", "X-Device": "cam-requests"},
            timeout=60,
        )
    check_stored(receiver, answer.json(), "")


def test_httpx(receiver: Receiver) -> None:
    import httpx

    for name, how in (
        ("Küche 1.jpg", {"files": {"image": ("Küche 1.jpg", PHOTO.read_bytes(), "image/jpeg")}}),
        ("", {"content": PHOTO.read_bytes(), "headers": {"Content-Type": "image/jpeg"}}),
    ):
        with httpx.Client(timeout=60) as client:
            url = receiver.url + "/images?device=cam-httpx-" + ("form" if name else "raw")
            answer = client.post(url, **how)  # type: ignore[arg-type]
        assert answer.status_code == 201
        check_stored(receiver, answer.json(), name)


def test_aiohttp_sends_one_form_with_its_length_and_one_chunked(receiver: Receiver) -> None:
    import asyncio

    import aiohttp

    async def chunks() -> AsyncIterator[bytes]:
        data = PHOTO.read_bytes()
        for at in range(0, len(data), 10_000):
            yield data[at : at + 10_000]

    async def send() -> list[Any]:
        answers = []
        async with aiohttp.ClientSession() as session:
            for content in (PHOTO.read_bytes(), chunks()):
                form = aiohttp.FormData()
                form.add_field("device", "cam-aiohttp")
                payload = content if isinstance(content, bytes) else AsyncIterablePayload(content)
                form.add_field("image", payload, filename="Küche 1.jpg", content_type="image/jpeg")
                async with session.post(receiver.url + "/uploadImage", data=form) as answer:
                    answers.append((answer.status, await answer.json()))
        return answers

    from aiohttp.payload import AsyncIterablePayload

    (first, receipt), (second, again) = asyncio.run(send())
    assert (first, second) == (201, 200)  # the same image of the same device
    check_stored(receiver, receipt, "Küche 1.jpg")
    assert again["id"] == receipt["id"]


PAGE = """<!doctype html><meta charset="utf-8">
<form method="post" enctype="multipart/form-data" action="{url}/uploadImage">
<input name="device" value="cam-browser"><input type="file" name="image"></form>
<script>
const bytes = Uint8Array.from(atob("{image}"), c => c.charCodeAt(0)), chosen = new DataTransfer();
chosen.items.add(new File([bytes], "Küche \\"1\\".jpg", {{type: "image/jpeg"}}));
document.querySelector("[type=file]").files = chosen.files;
document.querySelector("form").submit();
</script>"""


def test_a_form_in_a_browser(tmp_path: Path) -> None:
    """As a person posts one by hand: a page with a file field, submitted in headless Chromium. It
    is another site's page, so only where anybody may send."""
    if BROWSER is None:
        pytest.skip("chromium is not installed")
    page = tmp_path / "form.html"
    image = base64.b64encode(PHOTO.read_bytes()).decode()
    browser = (BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}")
    with running(tmp_path, receiver__auth="open") as receiver:
        page.write_text(PAGE.format(url=receiver.url, image=image), encoding="utf-8")
        text = run(*browser, "--virtual-time-budget=10000", "--dump-dom", page.as_uri())
        found = re.search(r"\{.*\}", html.unescape(text))
        assert found, text
        check_stored(receiver, json.loads(found[0]), 'Küche "1".jpg')
