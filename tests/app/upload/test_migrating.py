"""What clients of a multer service send, recorded to the byte and sent to the receiver unchanged.

docs/MIGRATING.md says what to set and what differs; tests/data/multer/record.py records them anew.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.receiver import Answer, Receiver, form, head, metadata, part, running, stored

DATA = ROOT / "tests" / "data" / "multer"
PICTURE = (DATA / "picture.jpg").read_bytes()
RECORDED = {
    "curl": "picture.jpg",
    "axios-0.27-stream": "gate 1.jpg",
    "axios-0.27-buffer": "gate.jpg",
    "node-fetch-2": "picture.jpg",
    "html-form": "Küche.jpg",
}
"""Each with the file's name that it gave."""
BOUNDARY_TYPE = "multipart/form-data; boundary=----geckoformboundary6f0d1a"


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver as docs/MIGRATING.md sets it up in the place of the old service."""
    page = (ROOT / "docs" / "MIGRATING.md").read_text(encoding="utf-8")
    said = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["receiver"]
    with running(
        tmp_path_factory.mktemp("replaced"),
        receiver__upload_status=str(said["upload_status"]),
        receiver__auth=said["auth"],
        receiver__allow="127.0.0.0/8",  # where the cameras of this test are
    ) as found:
        yield found


def send(receiver: Receiver, recorded: bytes) -> Answer:
    answer = receiver.send(recorded.replace(b"keep-alive", b"close"))
    assert answer is not None
    return answer


def test_every_recording_is_replayed() -> None:
    assert {path.stem for path in DATA.glob("*.http")} == set(RECORDED)
    ways = b"".join(path.read_bytes() for path in DATA.glob("*.http"))
    assert b"Transfer-Encoding: chunked" in ways and b"Content-Length: " in ways


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_request_is_stored_and_answered_as_its_client_expects(
    replaced: Receiver, name: str
) -> None:
    answer = send(replaced, (DATA / f"{name}.http").read_bytes())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    receipt = answer.json
    assert isinstance(receipt, dict) and receipt["size"] == len(PICTURE)
    assert stored(replaced, receipt["id"]).read_bytes() == PICTURE
    assert metadata(replaced, receipt["id"]).file_name == RECORDED[name]


def test_a_service_of_another_field_is_replaced_by_a_setting(tmp_path: Path) -> None:
    recorded = (DATA / "axios-0.27-buffer.http").read_bytes()
    photo = recorded.replace(b'name="image"', b'name="photo"')  # as long as before
    with running(tmp_path, receiver__field="photo", receiver__auth="open") as receiver:
        assert send(receiver, photo).status == 201
        assert send(receiver, recorded).code == "wrong_field"


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([part("image", b"no picture", "a.txt")], "unsupported_image"),
        ([part("cameraId", "7")], "no_image"),
    ],
    ids=["no image", "no file"],
)
def test_what_multer_took_and_the_receiver_does_not_is_refused_with_a_reason(
    replaced: Receiver, parts: list[bytes], code: str
) -> None:
    body = form(*parts)
    answer = replaced.send(head("POST", "/uploadImage", body, Content_Type=BOUNDARY_TYPE) + body)
    assert answer is not None
    assert (answer.code, answer.json["retry"]) == (code, False)
    page = (ROOT / "docs" / "MIGRATING.md").read_text(encoding="utf-8")
    assert f"`{code}`" in page
