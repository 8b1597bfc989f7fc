"""Kinds by content, and ends; the images are made here, byte by byte or by Pillow."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.formats import dimensions
from app.formats.completeness import STEPS_MAX, walk
from app.formats.sniff import TAIL, FormatDetector, media_type
from headgate.spool.image.names import EXTENSIONS
from tests.support.images import box
from tests.support.paths import PHOTOS


def pillow(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    with Image.open(PHOTOS / "rocket.jpg") as photo:
        photo.resize((96, 64)).save(out, kind, **options)
    return out.getvalue()


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
    "image/tiff": [
        pillow("TIFF"),
        b"MM\0*"
        + struct.pack(">I", 40)
        + bytes(32)
        + struct.pack(">HHHII", 1, 256, 4, 1, 9)
        + bytes(100),
    ],
    "image/heic": [heif(b"heic"), heif(b"mif1", b"heic")],
    "image/avif": [heif(b"avif"), heif(b"mif1", b"miaf", b"avif"), pillow("AVIF")],
}
EXAMPLES = [(kind, image) for kind, images in WHOLE.items() for image in images]


def look(image: bytes, *sizes: int) -> tuple[str | None, bool]:
    """What the watcher says of an image that comes in pieces of these sizes, in turn."""

    def reread(offset: int) -> Iterator[bytes]:
        for at in range(offset, len(image), 1000):
            yield image[at : at + 1000]

    watcher, at, turn = FormatDetector(), 0, 0
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


def tiff(*tags: tuple[int, int, int, int], after: bytes = b"", magic: bytes = b"II*\0") -> bytes:
    """One directory at byte 16, of entries (tag, type, count, value); then ``after``."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return magic + struct.pack("<I", 16) + bytes(8) + directory + after


SIZES = (256, 4, 1, 4000), (257, 4, 1, 3000)
RAWS = {
    "image/x-adobe-dng": tiff(*SIZES, (50706, 1, 4, 0x0401)),
    "image/x-nikon-nef": tiff(
        *SIZES, (271, 2, 18, 16 + 2 + 4 * 12 + 4), (330, 4, 1, 0), after=b"NIKON CORPORATION\0"
    ),
    "image/x-canon-cr2": b"II*\0" + struct.pack("<I", 16) + b"CR\2\0" + tiff(*SIZES)[12:],
    "image/x-panasonic-rw2": tiff(*SIZES, magic=b"IIU\0"),
    "image/x-olympus-orf": tiff(*SIZES, magic=b"IIRO"),
    "image/x-fuji-raf": b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
    + struct.pack(">6I", 148, 100, 248, 50, 298, 702) + bytes(892),
    "image/x-canon-cr3": heif(b"crx "),
    "image/jxl": box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl " + bytes(8))
    + box(b"jxlc", b"\xff\x0a" + bytes(100)),
    "image/j2c": b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">4I", 640, 480, 0, 0) + bytes(99)
    + b"\xff\xd9",
    "image/jp2": pillow("JPEG2000"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RAWS)
def test_formats_that_cameras_write_have_their_own_type(kind: str) -> None:
    for size in (65536, 64, 7):
        assert look(RAWS[kind], size) == (kind, True)
    assert kind in EXTENSIONS


@pytest.mark.parametrize(
    "kind", ["image/x-fuji-raf", "image/x-canon-cr3", "image/jxl", "image/j2c", "image/jp2"]
)
def test_one_that_is_cut_is_not_whole(kind: str) -> None:
    for cut in (len(RAWS[kind]) // 2 + 40, len(RAWS[kind]) - 9):
        assert look(RAWS[kind][:cut], 64) == (kind, False)


def test_a_bare_jpeg_xl_stream_has_no_end_to_look_for() -> None:
    assert look(b"\xff\x0a" + bytes(100), 64) == ("image/jxl", True)


def test_strips_and_rows_lie_within_the_file() -> None:
    whole = pillow("TIFF")
    assert look(whole, 1000) == ("image/tiff", True)
    first = tiff((256, 4, 1, 10), (257, 4, 1, 10), (273, 4, 1, 100), (279, 4, 1, 300))
    assert look(first + bytes(400 - len(first)), 64) == ("image/tiff", True)
    assert look(first + bytes(399 - len(first)), 64) == ("image/tiff", False)
    wrong = tiff((256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 1), (273, 4, 1, 100),
                 (278, 4, 1, 900), (279, 4, 1, 10**9))  # fmt: skip
    assert look(wrong.ljust(200 + 100, b"\0"), 64) == ("image/tiff", True)
    colours = tiff((256, 4, 1, 10), (320, 3, 768, 100))
    assert look(colours.ljust(100 + 1536, b"\0"), 64) == ("image/tiff", True)
    assert look(colours.ljust(99 + 1536, b"\0"), 64) == ("image/tiff", False)
    away = tiff((256, 4, 1, 10), (273, 4, 9, 200), (279, 4, 9, 240))  # where they are is cut off
    assert look(away.ljust(276, b"\0"), 64) == ("image/tiff", True)
    assert look(away.ljust(275, b"\0"), 64) == ("image/tiff", False)
    bitmap = bytearray(pillow("BMP"))
    bitmap[2:6] = struct.pack("<I", len(bitmap) + 2)  # what some writers say of the file's length
    assert look(bytes(bitmap), 1000) == ("image/bmp", True)
    assert look(bytes(bitmap[:-1]), 1000) == ("image/bmp", False)
    bitmap[28:30] = b"\5\0"  # bits a pixel
    assert look(bytes(bitmap), 1000) == ("image/bmp", False)


def outcome(image: bytes) -> tuple[bool, bool, bool]:
    """Whether it is whole, can be shown in part, and is empty."""
    watcher = FormatDetector()
    watcher.feed(image)

    def reread(offset: int) -> Iterator[bytes]:
        yield image[offset:]

    whole = watcher.finish(reread)
    return whole, watcher.can_be_shown, watcher.is_empty


def test_what_is_cut_can_be_shown_or_not_and_frames_without_a_picture_are_empty() -> None:
    jpeg, png, gif, webp = (pillow(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP"))
    assert outcome(jpeg[:-2]) == (False, True, False)
    assert outcome(jpeg[:100]) == (False, False, False)
    assert outcome(b"\xff\xd8\xff\xd9" + bytes(300))[2]
    assert outcome(gif[:-1]) == (False, True, False)
    assert outcome(png[:-20]) == (False, False, False)
    assert outcome(png[:16] + bytes(8) + png[24:])[2]
    described = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X\x0a\0\0\0" + bytes(10)
    assert outcome(described)[2]
    assert not outcome(webp)[2]


def test_bytes_behind_the_boxes_of_a_phone_do_no_harm() -> None:
    image = heif(b"heic")
    for appended in (b"SEFT" * 30, bytes(120), b"\xff" * 50, b"ab", b"SEFTabcd"):
        assert look(image + appended, 1000) == ("image/heic", True)
    assert look(image + struct.pack(">I", 5000) + b"mdat", 1000) == ("image/heic", False)
    inside = box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + box(b"idat", bytes(90)))
    assert look(inside, 64) == ("image/avif", True)


def test_a_tiff_without_its_directory_is_not_whole() -> None:
    image = b"II*\0" + struct.pack("<I", 5000) + bytes(4000)
    assert look(image, 100) == ("image/tiff", False)
    directory = struct.pack("<HHHII", 1, 256, 4, 1, 9) + bytes(4)
    image = image.ljust(5000, b"\0") + directory
    assert look(image, 100) == ("image/tiff", True)
    for cut in (5, 10, 15, 18):
        assert look(image[:-cut], 100) == ("image/tiff", False)
    assert outcome(image[: -len(directory)] + bytes(100)) == (False, False, True)


def test_a_tiff_with_its_first_page_alone_can_be_shown() -> None:
    """Most programs show no other; that the rest is missing is said."""
    out = io.BytesIO()
    pages = [Image.effect_noise((40, 30), 50) for _ in range(3)]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    whole = out.getvalue()
    assert outcome(whole) == (True, True, False)
    assert outcome(whole[:-10])[:2] == (False, True)
    assert outcome(whole[: len(whole) // 2])[:2] == (False, True)
    assert outcome(whole[:1000])[:2] == (False, False)


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


SIZE = 2_000_000
"""Bytes of what is made to cost much: enough that what grows with it shows."""


def boxes() -> bytes:
    """The smallest boxes there are, each of another kind."""
    return heif(b"heic") + b"".join(struct.pack(">II", 8, n) for n in range(SIZE // 8))


START = b"\xff\xd8\xff\xe0\0\4ab"
ENTRY = b"\x01\x00\x03\x00\x01\x00\x00\x00\x40\x00\x00\x00"
COSTLY = {
    "boxes of eight bytes": (boxes, "image/heic"),
    "boxes in AVIF": (lambda: heif(b"avif") + struct.pack(">II", 8, 7) * (SIZE // 8), "image/avif"),
    "large boxes that are small": (
        lambda: heif(b"heic") + struct.pack(">I4sQ", 1, b"free", 16) * (SIZE // 16),
        "image/heic",
    ),
    "sizes in a description": (
        lambda: heif(b"heic")[:-5008] + box(b"meta", b"ispe" * (SIZE // 16)) * 4
        + box(b"mdat", bytes(10)),
        "image/heic",
    ),
    "fill bytes": (lambda: START + b"\xff" * SIZE, "image/jpeg"),
    "fill bytes and markers": (lambda: START + b"\xff\xff\x01" * (SIZE // 3), "image/jpeg"),
    "restart markers": (lambda: START + b"\xff\xd0" * (SIZE // 2), "image/jpeg"),
    "empty segments": (lambda: START + b"\xff\xe1\0\2" * (SIZE // 4), "image/jpeg"),
    "segments shorter than their length": (
        lambda: START + b"\xff\xe1\0\0" * (SIZE // 4), "image/jpeg",
    ),
    "bytes between segments": (lambda: START + b"ab\xff\x01" * (SIZE // 4), "image/jpeg"),
    "frames": (
        lambda: START + b"\xff\xc0\0\x0b\x08\0\1\0\1\1\0\0\0" * (SIZE // 13), "image/jpeg",
    ),
    "a scan without an end": (
        lambda: START + b"\xff\xda\0\2" + b"\xff\0" * (SIZE // 2), "image/jpeg",
    ),
    "chunks of a PNG": (
        lambda: pillow("PNG")[:33] + struct.pack(">I4sI", 0, b"tEXt", 0) * (SIZE // 12),
        "image/png",
    ),
    "chunks of a WebP": (
        lambda: b"RIFF" + struct.pack("<I", SIZE) + b"WEBP" + b"ICCP\0\0\0\0" * (SIZE // 8),
        "image/webp",
    ),
    "blocks of a GIF": (lambda: b"GIF89a" + bytes(7) + b"!\xfe\1a\0" * (SIZE // 5), "image/gif"),
    "directories of a TIFF": (
        lambda: b"II*\0\x08\0\0\0" + (struct.pack("<H", 4096) + ENTRY * 4096
        + struct.pack("<I", 8 + 49_158)) * (SIZE // 49_158),
        "image/tiff",
    ),
    "directories of a TIFF in a ring": (
        lambda: b"II*\0\x08\0\0\0" + b"".join(
            b"\1\0" + ENTRY + struct.pack("<I", 8 + 18 * ((n + 1) % 200_000))
            for n in range(200_000)
        ),
        "image/tiff",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_no_image_costs_more_memory_or_steps_than_a_usual_one(name: str) -> None:
    """Peaks of memory, and Python's own steps: no time, which says nothing on a busy machine."""
    make, kind = COSTLY[name]
    image = make()
    reread_bytes = 0

    def reread(offset: int) -> Iterator[bytes]:
        nonlocal reread_bytes
        for at in range(offset, len(image), 65536):
            piece = image[at : at + 65536]
            reread_bytes += len(piece)
            yield piece

    lines = 0

    def count(_frame: object, event: str, _arg: object) -> object:
        nonlocal lines
        lines += event == "line"
        return count

    watcher = FormatDetector()
    tracemalloc.start()
    sys.settrace(count)
    try:
        for at in range(0, len(image), 65536):
            watcher.feed(image[at : at + 65536])
        watcher.finish(reread)
    finally:
        sys.settrace(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert watcher.kind == kind
    assert peak < 3 * dimensions.META_MAX + 8 * TAIL
    assert lines < 20 * STEPS_MAX + 100 * len(image) / 65536
    assert reread_bytes <= len(image) + 16 * 2 * 65536 + 4 * (dimensions.META_MAX + 65536)


@pytest.mark.parametrize("name", COSTLY)
def test_small_pieces_tell_the_same_of_what_costs_much(name: str) -> None:
    make, kind = COSTLY[name]
    image = make()[: 6 * STEPS_MAX]
    assert look(image, 65536) == look(image, 7) == look(image, 1, 2, 3, 1000)
    assert look(image, 65536)[0] == kind


def test_more_steps_than_any_camera_writes_are_broken_and_a_few_are_not() -> None:
    for count, whole in ((100, True), (STEPS_MAX, False)):
        many = START + b"\xff\xe1\0\4ab" * count + pillow("JPEG")[2:]
        assert look(many, 65536) == ("image/jpeg", whole)
        assert look(heif(b"heic") + box(b"free") * count, 65536) == ("image/heic", whole)


def test_any_number_of_fill_bytes_is_stepped_over_at_once() -> None:
    """T.81 B.1.1.2 allows them before each marker."""
    image = b"\xff\xd8" + b"\xff" * 1_000_000 + pillow("JPEG")[2:]
    assert look(image, 65536) == ("image/jpeg", True)
    walked = walk("image/jpeg")
    for at in range(0, len(image), 1000):
        walked.feed(image[at : at + 1000])
    assert walked.pixels == 96 * 64
