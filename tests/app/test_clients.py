"""The clients that real devices and services use, each sending a real photograph."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.app.live import PHOTOS, Receiver
from tests.app.test_upload import metadata, stored

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
    import json

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
    assert text.splitlines()[0] == "201 true"
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
        answer = requests.post(receiver.url + "/uploadImage", files=files, timeout=20)
    check_stored(receiver, answer.json(), "Küche 1.jpg")
    large = {"image": ("a.jpg", b"\xff\xd8\xff" + bytes(9_000_000), "image/jpeg")}
    refused = requests.post(receiver.url + "/uploadImage", files=large, timeout=20)
    assert refused.status_code == 413
    assert refused.json()["limit"] == 1_000_000
    with PHOTO.open("rb") as image:
        answer = requests.post(
            receiver.url + "/images",
            data=image,
            headers={"Content-Type": "image/jpeg", "X-Device": "cam-requests"},
            timeout=20,
        )
    check_stored(receiver, answer.json(), "")
