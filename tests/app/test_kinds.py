"""Kinds by content, and ends; the images are made here, byte by byte or by Pillow."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.kinds import TAIL, Watcher, media_type
from tests.app.live import PHOTOS


def pillow(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    with Image.open(PHOTOS / "rocket.jpg") as photo:
        photo.resize((96, 64)).save(out, kind, **options)
    return out.getvalue()


def box(name: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack(">I", len(content) + 8 if size is None else size) + name + content


def heif(brand: bytes, *others: bytes) -> bytes:
    top = box(b"ftyp", brand + bytes(4) + b"".join(others))
    return top + box(b"meta", bytes(300)) + box(b"mdat", bytes(5000))


WHOLE = {
    "image/jpeg": [
        pillow("JPEG"),
        pillow("JPEG", progressive=True),
        (PHOTOS / "hubble_deep_field.jpg").read_bytes(),
    ],
    "image/png": [pillow("PNG")],
    "image/webp": [pillow("WEBP"), pillow("WEBP", lossless=True)],
    "image/gif": [pillow("GIF")],
    "image/bmp": [pillow("BMP")],
    "image/tiff": [pillow("TIFF"), b"MM\0*" + struct.pack(">I", 40) + bytes(100)],
    "image/heic": [heif(b"heic"), heif(b"mif1", b"heic")],
    "image/avif": [heif(b"avif"), heif(b"mif1", b"miaf", b"avif"), pillow("AVIF")],
}
EXAMPLES = [(kind, image) for kind, images in WHOLE.items() for image in images]


def look(image: bytes, *sizes: int) -> tuple[str | None, bool]:
    """What the watcher says of an image that comes in pieces of these sizes, in turn."""

    def reread(offset: int) -> Iterator[bytes]:
        for at in range(offset, len(image), 1000):
            yield image[at : at + 1000]

    watcher, at, turn = Watcher(), 0, 0
    while at < len(image):
        size = sizes[turn % len(sizes)]
        watcher.feed(image[at : at + size])
        at, turn = at + size, turn + 1
    whole = watcher.finish(reread)
    return watcher.kind, whole


@pytest.mark.parametrize(("kind", "image"), EXAMPLES)
def test_a_whole_image_is_known_however_it_comes(kind: str, image: bytes) -> None:
    for size in (len(image), 65536, 997, 64, 17, 3, 1):
        if len(image) / size < 30_000:
            assert look(image, size) == (kind, True)


@given(st.sampled_from(EXAMPLES), st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_pieces_make_no_difference(example: tuple[str, bytes], sizes: list[int]) -> None:
    kind, image = example
    assert look(image, *sizes, 4096) == (kind, True)


@given(
    st.sampled_from([one for one in EXAMPLES if one[0] != "image/tiff"]),
    st.floats(0.1, 0.999),
    st.sampled_from([65536, 700]),
)
def test_a_cut_image_is_not_whole(example: tuple[str, bytes], share: float, size: int) -> None:
    kind, image = example
    cut = image[: max(64, min(int(len(image) * share), len(image) - 9))]
    found, whole = look(cut, size)
    assert found == kind
    # A GIF's data may hold the trailer's byte; every other format says where it ends.
    assert not whole or (kind == "image/gif" and cut.endswith(b";"))


def test_a_tiff_without_its_directory_is_not_whole() -> None:
    image = b"II*\0" + struct.pack("<I", 5000) + bytes(4000)
    assert look(image, 100) == ("image/tiff", False)
    assert look(image + bytes(2000), 100) == ("image/tiff", True)


def test_what_phones_append_to_a_jpeg_does_no_harm() -> None:
    image = pillow("JPEG")
    for appended in (b"\0" * 10, b"\xff" * 3, image, bytes(TAIL + 1), bytes(3 * TAIL)):
        assert look(image + appended, 65536) == ("image/jpeg", True)


def test_the_end_of_a_thumbnail_is_not_the_end() -> None:
    image = pillow("JPEG")
    thumbnail = b"Exif\0\0" + pillow("JPEG", quality=20)
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = image[:2] + segment + image[2:]
    assert look(with_thumbnail, 500) == ("image/jpeg", True)
    for cut in (len(segment) + 2, len(segment) + 400, len(with_thumbnail) - 2):
        for size in (65536, 500, 1):
            assert look(with_thumbnail[:cut], size) == ("image/jpeg", False)


def test_data_appended_to_other_formats_does_no_harm() -> None:
    for kind in ("image/png", "image/webp", "image/bmp", "image/tiff"):
        assert look(WHOLE[kind][0] + bytes(500), 1000) == (kind, True)


def test_boxes_may_be_long_or_open() -> None:
    top = box(b"ftyp", b"heic" + bytes(4)) + box(b"meta", bytes(30))
    long = struct.pack(">I", 1) + b"mdat" + struct.pack(">Q", 16 + 5000) + bytes(5000)
    for rest in (long, box(b"mdat", bytes(5000), size=0), box(b"mdat", bytes(90)) + box(b"free")):
        assert look(top + rest, 700) == ("image/heic", True)
    assert look(top + long[:-1], 700) == ("image/heic", False)
    assert look(top, 700) == ("image/heic", False)
    assert look(top + box(b"mdat", bytes(90)) + box(b"free", size=9), 7) == ("image/heic", False)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"hello",
        b"%PDF-1.7",
        b"BM" + bytes(60),
        b"RIFF\0\0\0\0WAVEfmt ",
        box(b"ftyp", b"isom" + bytes(4) + b"mp41") + bytes(40),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"PK\3\4" + bytes(60),
    ],
)
def test_what_is_no_image_has_no_kind(head: bytes) -> None:
    assert media_type(head) == ""
    assert look(head, 5) == ("", False)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\0\0\0\x14ftypheic"]))
def test_no_bytes_break_it(rest: bytes, top: bytes) -> None:
    look(top + rest, 50)
