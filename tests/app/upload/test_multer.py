"""What genuine multer took, the receiver takes: the same requests, replayed to both.

multer runs as the replaced service had it (bench/receive/peers: Express, diskStorage, the field
``image``), from npm as the lock file there says.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.receive.contenders import Contender, Failed, multer, running
from tests.support.images import small_jpeg
from tests.support.paths import ROOT
from tests.support.receiver import Answer, Receiver, chunked, head, part, read_answer
from tests.support.receiver import running as receiving

RECORDED = ROOT / "tests/data/multer"
IMAGE = b"the image stands here"
"""Replaced by an image of its own in each request, so that none is a repeat."""
B = b"b0undary"


def a_form(
    *parts: bytes, boundary: bytes = B, before: bytes = b"", after: bytes = b"\r\n"
) -> bytes:
    inner = b"".join(b"--" + boundary + b"\r\n" + one for one in parts)
    return before + inner + b"--" + boundary + b"--" + after


FILE = part("image", IMAGE, "a.jpg", "image/jpeg")
DEVICE = part("device", "cam-7")


def with_header(line: str, one: bytes = FILE) -> bytes:
    """A part with one more header line."""
    return line.encode() + b"\r\n" + one


def renamed(disposition: str, kind: str = "Content-Type: image/jpeg\r\n") -> bytes:
    return f"Content-Disposition: {disposition}\r\n{kind}\r\n".encode() + IMAGE + b"\r\n"


BODIES: dict[str, tuple[bytes, str]] = {
    "only the image": (a_form(FILE), "b0undary"),
    "a field before": (a_form(DEVICE, FILE), "b0undary"),
    "a field behind": (a_form(FILE, DEVICE), "b0undary"),
    "forty fields": (a_form(*[part(f"f{n}", str(n)) for n in range(40)], FILE), "b0undary"),
    "a field of 60 KB": (a_form(part("note", "x" * 60_000), FILE), "b0undary"),
    "a field twice": (a_form(DEVICE, part("device", "cam-8"), FILE), "b0undary"),
    "fields with brackets": (a_form(part("a[b][]", "1"), part("a[c]", "2"), FILE), "b0undary"),
    "an empty field": (a_form(part("captured_at", ""), FILE), "b0undary"),
    "a field in JSON": (
        a_form(with_header("Content-Type: application/json", part("meta", '{"a": 1}')), FILE),
        "b0undary",
    ),
    "another charset": (
        a_form(with_header("Content-Type: text/plain; charset=latin1", part("n", "x")), FILE),
        "b0undary",
    ),
    "odd values": (
        a_form(part("captured_at", "gestern"), part("sequence", "12,5"), part("tags", "a b"),
               part("priority", "sehr"), part("key", "api-key"), FILE),
        "b0undary",
    ),
    "text before the form": (a_form(FILE, before=b"A preamble.\r\n\r\n"), "b0undary"),
    "a line break before it": (a_form(FILE, before=b"\r\n"), "b0undary"),
    "text behind the form": (a_form(FILE, after=b"\r\nAn epilogue.\r\n"), "b0undary"),
    "no line break at the end": (a_form(FILE, after=b""), "b0undary"),
    "blanks behind the end": (a_form(FILE, after=b"  \r\n"), "b0undary"),
    "a long boundary": (a_form(FILE, boundary=b"x" * 70), "x" * 70),
    "hyphens": (a_form(FILE, boundary=b"------b"), "------b"),
    "a quoted boundary": (a_form(FILE, boundary=b"a:b/c=d"), '"a:b/c=d"'),
    "no type": (a_form(part("image", IMAGE, "a.jpg")), "b0undary"),
    "another type": (a_form(part("image", IMAGE, "a.jpg", "application/x-any")), "b0undary"),
    "a type with a charset": (
        a_form(part("image", IMAGE, "a.jpg", "image/jpeg; charset=binary")), "b0undary",
    ),
    "a length in the part": (a_form(with_header("Content-Length: 12345")), "b0undary"),
    "binary": (a_form(with_header("Content-Transfer-Encoding: binary")), "b0undary"),
    "own headers": (a_form(with_header("X-Camera: 7")), "b0undary"),
    "names in capitals": (
        a_form(FILE.replace(b"Content-Disposition", b"CONTENT-DISPOSITION")), "b0undary",
    ),
    "a name without quotes": (a_form(renamed("form-data; name=image; filename=a.jpg")), "b0undary"),
    "blanks in the line": (
        a_form(renamed('form-data ;  name="image" ;filename="a.jpg"')), "b0undary",
    ),
    "file name first": (a_form(renamed('form-data; filename="a.jpg"; name="image"')), "b0undary"),
    "a file name in UTF-8": (a_form(part("image", IMAGE, "Küche 📷.jpg")), "b0undary"),
    "a file name by RFC 5987": (
        a_form(renamed("form-data; name=\"image\"; filename*=UTF-8''K%C3%BCche.jpg")), "b0undary",
    ),
    "both file names": (
        a_form(renamed("form-data; name=\"image\"; filename=\"k.jpg\"; filename*=UTF-8''K.jpg")),
        "b0undary",
    ),
    "a quote in the file name": (
        a_form(renamed('form-data; name="image"; filename="a\\"b.jpg"')), "b0undary",
    ),
    "a path as the file name": (a_form(part("image", IMAGE, "../../etc/a.jpg")), "b0undary"),
    "a path of Windows": (a_form(part("image", IMAGE, "C:\\cam\\a.jpg")), "b0undary"),
    "no ending": (a_form(part("image", IMAGE, "snapshot")), "b0undary"),
    "another ending": (a_form(part("image", IMAGE, "a.bin")), "b0undary"),
    "a file name of 200": (a_form(part("image", IMAGE, "x" * 196 + ".jpg")), "b0undary"),
}  # fmt: skip
KIND = "multipart/form-data; boundary="
HEADERS: dict[str, dict[str, str]] = {
    "other case": {"Content-Type": "Multipart/Form-Data; Boundary=b0undary"},
    "a charset first": {"Content-Type": "multipart/form-data; charset=utf-8; boundary=b0undary"},
    "no blank": {"Content-Type": "multipart/form-data;boundary=b0undary"},
    "any authorization": {"Authorization": "Basic YWRtaW46YWRtaW4="},
    "a foreign origin": {"Origin": "http://cameras.example", "Sec-Fetch-Site": "cross-site"},
    "expects to go on": {"Expect": "100-continue"},
    "kept alive": {"Connection": "keep-alive"},
    "forty headers": {f"X-Any-{number}": "x" * 40 for number in range(40)},
    "empty headers": {"X-Captured-At": "", "X-Sequence": "", "Idempotency-Key": ""},
    "a name of its own": {"Host": "old-service.example", "User-Agent": "cam/1.0"},
    "asks for JSON": {"Accept": "application/json", "Accept-Encoding": "gzip, deflate, br"},
}
PATHS = ("/uploadImage/", "/uploadimage", "/UPLOADIMAGE", "/uploadImage?device=cam-7&x=1")


def posted(body: bytes, kind: str, path: str = "/uploadImage", **headers: str) -> bytes:
    named = {"Content_Type": kind, **{k.replace("-", "_"): v for k, v in headers.items()}}
    return head("POST", path, body, **named) + body


def requests() -> Iterator[tuple[str, bytes]]:
    """Whole requests, with ``IMAGE`` in the place of the image."""
    for name, (body, boundary) in BODIES.items():
        yield name, posted(body, KIND + boundary)
        coded = {"Content_Type": KIND + boundary, "Transfer_Encoding": "chunked"}
        yield f"{name}, chunked", head("POST", "/uploadImage", **coded) + b"CHUNKED" + body
    body = BODIES["a field before"][0]
    for name, headers in HEADERS.items():
        yield name, posted(body, **{"kind": KIND + "b0undary", **_kind(headers)})
    for path in PATHS:
        yield path, posted(body, KIND + "b0undary", path)
    yield "HTTP/1.0", posted(body, KIND + "b0undary").replace(b"HTTP/1.1", b"HTTP/1.0", 1)


def _kind(headers: dict[str, str]) -> dict[str, str]:
    return {"kind" if name == "Content-Type" else name: said for name, said in headers.items()}


def made(request: bytes, image: bytes) -> bytes:
    """The request with this image in it, framed again."""
    top, _, body = request.partition(b"\r\n\r\n")
    if body.startswith(b"CHUNKED"):
        return top + b"\r\n\r\n" + chunked(body[len(b"CHUNKED") :].replace(IMAGE, image), 777)
    old = b"Content-Length: %d" % len(body)
    whole = body.replace(IMAGE, image)
    assert old in top
    return top.replace(old, b"Content-Length: %d" % len(whole)) + b"\r\n\r\n" + whole


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("replaced")
    with receiving(folder, receiver__auth="open", receiver__device_rate="0") as found:
        yield found


@pytest.fixture(scope="module")
def old_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    folder = tmp_path_factory.mktemp("multer")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; .ci/run installs it")
    try:
        with running(Contender("multer", multer("plain")), folder, 1) as service:
            yield service.port, folder / "new"
    except Failed as failed:
        pytest.fail(str(failed))


def ask(port: int, request: bytes) -> Answer | None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return read_answer(connection)


@pytest.mark.slow
def test_what_multer_took_the_receiver_takes(
    old_service: tuple[int, Path], replaced: Receiver
) -> None:
    port, kept = old_service
    asked = list(requests())
    for path in sorted(RECORDED.glob("*.http")):
        asked.append((path.stem, path.read_bytes()))
    took, missed = [], []
    for number, (name, request) in enumerate(asked):
        image = small_jpeg()[:-2] + b"%08d" % number + b"\xff\xd9"
        recorded = IMAGE not in request
        whole = request if recorded else made(request, image)
        theirs = ask(port, whole)
        if theirs is None or theirs.status != 201:
            continue
        took.append(name)
        stored = kept / json.loads(theirs.body)["id"]
        digest = hashlib.sha256(stored.read_bytes()).hexdigest()
        if not recorded:
            assert stored.read_bytes() == image, name
        ours = replaced.send(whole)
        same = ours is not None and ours.status in (200, 201) and ours.json["sha256"] == digest
        if not same:
            missed.append((name, ours))
    assert missed == []
    left = sorted({name for name, _ in asked} - set(took))
    assert len(took) > 0.9 * len(asked), left
