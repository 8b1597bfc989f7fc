"""What is fuzzed: each target takes any bytes, and holds a contract.

Bytes from outside meet a refusal or an error of ours, never another exception, and what is taken
keeps to its bounds.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

from app.formats.sniff import FormatDetector
from app.refusals import Refused
from app.upload import fields
from app.upload.form import BodyKind, FormContents, take
from app.upload.picture import ImageTarget
from app.upload.policy import Policy
from headgate.settings.instants import read_http_date
from headgate.settings.settings import SettingsError, combine
from headgate.spool.disk.durable import Incoming
from headgate.spool.image import names
from headgate.spool.image.names import NotOurName
from uploader.http_post.client import document
from uploader.s3 import keys
from uploader.s3.errors import RequestTarget, classify
from uploader.s3.listing import page_of, versions_of
from uploader.wire.errors import SendError
from uploader.wire.http import HttpResponse

MAX_IMAGE, MAX_PIXELS = 20_000, 500_000_000
BOUNDARY = "x"
_MEMORY = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def form(data: bytes) -> None:
    """A form, or a bare image, in pieces whose length the first byte says."""
    size, body = 1 + (data[0] if data else 0), data[1:]
    pieces = iter([body[at : at + size] for at in range(0, len(body), size)])
    kind = BodyKind("multipart/form-data", BOUNDARY, "", True, True, len(body))
    contents, policy = FormContents(), Policy()
    with contextlib.ExitStack() as stack:
        target = ImageTarget(
            lambda: stack.enter_context(Incoming(_MEMORY, "fuzz-")),
            MAX_IMAGE,
            MAX_PIXELS,
            lambda _size: contextlib.nullcontext(),
        )
        with contextlib.suppress(Refused):
            take(lambda: next(pieces, b""), kind, target, ("image",), policy, contents)
        for picture in contents.pictures:
            assert 0 < picture.incoming.size <= MAX_IMAGE
            assert picture.media_type
        with contextlib.suppress(Refused):
            fields.read([contents.form], policy)


def name(data: bytes) -> None:
    """A file's name, and a device's: what is read back is what was written."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(NotOurName):
        assert names.parse(text).file == text
    known = names.device_name(text)
    assert not known or _SAFE.fullmatch(known), known
    names.device_shown(text)
    names.is_folder(text)
    names.day_of_id(text)


def settings(data: bytes) -> None:
    """A settings file: every fault is a sentence."""
    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return
    with contextlib.suppress(SettingsError):
        combine(document, Path("/x/headgate.toml"), {}, {}, Path("/x"))


def image(data: bytes) -> None:
    """An image's bytes: whole or not, whatever pieces they come in."""
    size, body = 1 + (data[0] if data else 0), data[1:]
    found = []
    for step in (size, max(1, len(body))):
        detector = FormatDetector()
        for at in range(0, len(body), step):
            detector.feed(body[at : at + step])
        whole = detector.finish(lambda offset: iter([body[offset:]]))
        found.append((detector.kind, whole, detector.pixels))
    assert found[0] == found[1], found


def answer(data: bytes) -> None:
    """What an S3 server answers: headers, then a body."""
    head, _, body = data.partition(b"\0")
    said = {}
    for line in head.decode("latin-1").splitlines():
        word, _, value = line.partition(":")
        said[word.strip().lower()] = value.strip()
    status = int(said.pop("status", "200")[:3]) if said.get("status", "").isdecimal() else 200
    given = HttpResponse(status, said, body)
    classify("PUT", status, given.code, RequestTarget("bucket", "host"), given.said)
    for read in (
        lambda: (given.etag, given.region, given.is_error, given.is_from_s3),
        lambda: (given.date, given.retry_after, read_http_date(said.get("last-modified", ""))),
        lambda: (keys.described(said), document(given)),
        lambda: page_of(body),
        lambda: versions_of(body, "key"),
    ):
        with contextlib.suppress(SendError):
            read()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "form": form, "name": name, "settings": settings, "image": image, "answer": answer,
}  # fmt: skip
