"""What files say about themselves: read back exactly, or taken for lost and hashed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.spool.disk import layout, xattrs
from headgate.spool.disk.layout import (
    Files,
    read_metadata,
    read_reason,
    read_sent,
    write_reason,
    write_sent,
)
from headgate.spool.errors import FileMissing
from headgate.spool.image import names
from headgate.spool.image.image import METADATA_MAX, Metadata, MetadataTooLarge, Sent
from headgate.spool.image.names import Name
from headgate.spool.spool import Spool
from tests.support.spooling import open_spool, put

calm = settings(deadline=None)

AT = datetime(2026, 11, 23, 16, 4, 5, tzinfo=UTC)
BYTES = b"the bytes of an image"
SHA256 = hashlib.sha256(BYTES).hexdigest()
NAME = names.make(AT, "cam", SHA256, "png")
META = Metadata(SHA256, len(BYTES), "image/png")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
METADATA = st.builds(
    Metadata,
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size=st.integers(0, 2**40),
    media_type=st.sampled_from(sorted(names.EXTENSIONS)),
    file_name=TEXT,
    captured_at=TEXT,
    sequence=st.none() | st.integers(0, 2**63 - 1),
    key=TEXT,
    tags=st.dictionaries(TEXT, TEXT, max_size=4),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / NAME.file
    path.write_bytes(BYTES)
    return path


# -- metadata


@calm
@given(METADATA)
def test_metadata_reads_back_whatever_the_client_wrote(meta: Metadata) -> None:
    data = meta.encode()
    assert len(data) <= METADATA_MAX
    assert Metadata.decode(data) == meta
    document = json.loads(data.decode())
    assert (document["sha256"], document["size"]) == (meta.sha256, meta.size)
    assert b"\n" not in data and "lost" not in document


@calm
@given(st.integers(0, 3 * METADATA_MAX), st.sampled_from(["a", "ü", "€", "\U0001f4f7", "\0"]))
def test_metadata_is_stored_whole_or_refused_with_its_size(length: int, letter: str) -> None:
    meta = replace(META, file_name=letter * length)
    try:
        data = meta.encode()
    except MetadataTooLarge as refusal:
        assert length * len(letter.encode()) > METADATA_MAX / 7
        assert str(METADATA_MAX) in str(refusal)
    else:
        assert len(data) <= METADATA_MAX and Metadata.decode(data) == meta


def test_the_last_byte_that_fits() -> None:
    most = METADATA_MAX - len(replace(META, file_name="x").encode()) + 1
    assert len(replace(META, file_name="x" * most).encode()) == METADATA_MAX
    with pytest.raises(MetadataTooLarge, match=str(METADATA_MAX + 1)):
        replace(META, file_name="x" * (most + 1)).encode()


GOOD: dict[str, Any] = {"sha256": SHA256, "size": 21, "type": "image/png"}
NONSENSE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"7",
    b"{}",
    b"[" * 2000,
    b'{"sha256":' * 200,
    json.dumps(GOOD | {"file": "\ud800"}, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    META.encode()[:-1],
    META.encode() + b"}",
    *(
        json.dumps(GOOD | wrong).encode()
        for wrong in (
            {"sha256": None},
            {"sha256": SHA256[:16]},
            {"sha256": SHA256[:-1] + "z"},
            {"sha256": SHA256[:-1] + "A"},
            {"sha256": SHA256 + "\n"},
            {"size": "many"},
            {"size": None},
            {"size": -1},
            {"size": float("inf")},
            {"size": float("nan")},
            {"size": 2**63},
            {"type": "text/html"},
            {"seq": "first"},
            {"seq": -1},
            {"seq": 2**63},
            {"seq": float("inf")},
            {"tags": 5},
            {"tags": ["a"]},
            {"file": "\ud800"},
        )
    ),
]


@pytest.mark.parametrize("data", NONSENSE, ids=range(len(NONSENSE)))
def test_what_is_no_metadata_is_as_good_as_lost(image: Path, data: bytes) -> None:
    with pytest.raises(ValueError):
        Metadata.decode(data)
    os.setxattr(image, xattrs.ATTRIBUTE, data)
    assert read_metadata(image, NAME) == replace(META, lost=True)


GROWING = st.lists(st.sampled_from([1e15, None, True, -0.0, [0], {"a": 0}, "x", "\u00fc\x00"]))


@calm
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("file", "captured", "key"), GROWING)),
    st.dictionaries(st.text(max_size=2), GROWING, max_size=9),
    st.booleans(),
)
@example({"file": [1e15] * 110}, {}, False)
def test_whatever_metadata_is_read_can_be_written_again(
    fields: dict[str, Any], tags: dict[str, Any], escaped: bool
) -> None:
    """Also where values are none of ours, and are longer once they are text."""
    document = GOOD | fields | {"tags": tags, "warn": [*tags.values()]}
    with contextlib.suppress(ValueError):
        text = json.dumps(document, ensure_ascii=escaped, separators=(",", ":"))
        data = text.replace(str(1e15), "1e15").encode()  # as short as it can be written
        Metadata.decode(data).encode()
        return
    with pytest.raises(ValueError):
        Metadata.decode(data)


@calm
@given(st.binary(max_size=200))
def test_no_bytes_make_reading_metadata_fail_in_another_way(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Metadata.decode(data)


def test_a_file_says_what_it_was_given(image: Path) -> None:
    meta = replace(META, file_name="my cat.png", sequence=0, tags={"site": "n"}, key="k")
    os.setxattr(image, xattrs.ATTRIBUTE, meta.encode())
    assert read_metadata(image, NAME) == meta


def test_a_file_that_lost_its_metadata_is_hashed(image: Path) -> None:
    assert read_metadata(image, NAME) == replace(META, lost=True)
    image.write_bytes(b"other")  # and what it holds is told, not what its name promised
    found = read_metadata(image, NAME)
    assert (found.sha256, found.size) == (hashlib.sha256(b"other").hexdigest(), 5)


def test_metadata_of_another_image_is_not_believed(image: Path) -> None:
    other = replace(META, sha256="0" * 64, file_name="other.png")
    os.setxattr(image, xattrs.ATTRIBUTE, other.encode())
    assert read_metadata(image, NAME) == replace(META, lost=True)


def test_what_is_no_file_is_an_error_and_never_waits(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_metadata(tmp_path / "gone", NAME)
    target = tmp_path / "target"
    target.write_bytes(BYTES)
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for kind in ("link", "folder", "fifo"):
        with pytest.raises(OSError):
            read_metadata(tmp_path / kind, NAME)


# -- proofs and reasons


@calm
@given(TEXT, TEXT, TEXT, TEXT, TEXT, st.none() | st.datetimes(timezones=st.just(UTC)))
def test_the_proof_of_an_upload_reads_back(
    bucket: str, key: str, etag: str, sha256: str, version: str, at: datetime | None
) -> None:
    sent = Sent(bucket, key, etag, sha256, version, at)
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"headgate-proof-{os.getpid()}"
    path.touch()
    try:
        write_sent(path, sent)
        assert read_sent(path) == sent
    finally:
        path.unlink()


def test_a_proof_that_does_not_fit_is_left_to_the_receipt(image: Path) -> None:
    write_sent(image, Sent("b", "k" * 2000, "e"))
    assert read_sent(image) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b"\xff", b'{"bucket":"b","key":"k"}'])
def test_what_is_no_proof_proves_nothing(image: Path, data: bytes) -> None:
    os.setxattr(image, xattrs.SENT_ATTRIBUTE, data)
    assert read_sent(image) is None


def test_proof_and_metadata_of_full_size_fit_beside_each_other(image: Path) -> None:
    filled = replace(META, file_name="x" * (METADATA_MAX - len(META.encode()) - 10))
    assert xattrs.set_attribute(image, xattrs.ATTRIBUTE, filled.encode())
    sent = Sent("b" * 63, "k" * 1024, "e" * 40, "s" * 44, "v" * 100, AT)
    write_sent(image, sent)
    assert read_sent(image) == sent
    assert read_metadata(image, NAME) == filled


@pytest.mark.parametrize("reason", ["The bucket refused it.", "ü" * 50, "", 'with "quotes"\n'])
def test_a_reason_stays_with_the_file(image: Path, reason: str) -> None:
    assert read_reason(image) == ""
    write_reason(image, reason, AT)
    assert read_reason(image) == reason


@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f4f7", '"'])
def test_a_reason_that_is_too_long_keeps_its_beginning(image: Path, letter: str) -> None:
    write_reason(image, "It was refused: " + letter * 5000, AT)
    kept = read_reason(image)
    assert kept.startswith("It was refused: " + letter * 100) and len(kept) < 1500


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"{}", b"7", b"\xff"])
def test_what_is_no_reason_is_none(image: Path, data: bytes) -> None:
    os.setxattr(image, xattrs.ASIDE_ATTRIBUTE, data)
    assert read_reason(image) == ""


# -- folders


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = open_spool(tmp_path)
    yield opened
    opened.close()


def test_an_image_has_its_places(spool: Spool) -> None:
    name = put(spool, b"image").receipt.name
    held = spool.files
    assert held.places(name) == [held.in_new(name)]
    assert held.in_new(name) == spool.path / "new" / name.folder / name.file
    held.in_aside(name).symlink_to("nowhere")
    assert held.places(name) == [held.in_new(name), held.in_aside(name)]


def test_minutes_and_names_come_in_order_without_what_is_foreign(tmp_path: Path) -> None:
    held = Files(tmp_path)
    made: list[Name] = []
    for minute in (30, 4, 5):
        for second in (9, 1):
            at = AT.replace(minute=minute, second=second)
            name = names.make(at, "cam", f"{minute}{second}".rjust(64, "0"), "jpg")
            held.in_new(name).parent.mkdir(parents=True, exist_ok=True)
            held.in_new(name).touch()
            made.append(name)
    foreign = [
        held.new / "2026-11-23" / "1604" / "notes.txt",
        held.new / "2026-11-23" / "lost+found",
        held.new / "README",
        held.done / "2026-11-23" / "1604" / made[0].file,  # of another minute
        held.aside / ".DS_Store",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    held.in_aside(made[0]).touch()
    assert list(held.minutes(held.new)) == [f"2026-11-23/{m}" for m in ("1604", "1605", "1630")]
    found = [n for minute in held.minutes(held.new) for n in held.names_in(held.new / minute)]
    assert found == sorted(made)
    assert set(held.foreign()) == set(foreign)
    assert list(held.minutes(held.root / "gone")) == [] == held.names_in(held.root / "gone")
    assert layout.FOLDERS[0] == "tmp"
