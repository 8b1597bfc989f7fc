"""Width x height as declared: what Pillow wrote, what is made by hand, and what is no size."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.formats.sniff import FormatDetector
from tests.support.images import box
from tests.support.paths import PHOTOS
from tests.support.receiver import Receiver, head, part, running
from tests.support.wait import wait_until

WIDTH, HEIGHT = 97, 63


def pillow(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "green").save(out, kind, **options)
    return out.getvalue()


def pixels(image: bytes, piece: int = 65536) -> int:
    def reread(offset: int) -> Iterator[bytes]:
        for at in range(offset, len(image), 700):
            yield image[at : at + 700]

    watcher = FormatDetector()
    for at in range(0, len(image), piece):
        watcher.feed(image[at : at + piece])
    watcher.finish(reread)
    return watcher.pixels


def bmp(width: int, height: int, header: int = 40) -> bytes:
    sizes = struct.pack("<HH" if header == 12 else "<ii", width, height)
    return b"BM" + struct.pack("<IIII", 100, 0, 54, header) + sizes + bytes(80)


def heic(*sizes: tuple[int, int]) -> bytes:
    ispe = b"".join(box(b"ispe", bytes(4) + struct.pack(">II", *size)) for size in sizes)
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", ispe)))
    return (
        box(b"ftyp", b"heic" + bytes(4))
        + box(b"free", bytes(900))
        + meta
        + box(b"mdat", bytes(100))
    )


def tiff(order: str, *pages: tuple[int, int], big: bool = False, kind: int = 4) -> bytes:
    """Directories after some bytes of picture, as most writers put them."""
    mark = {"<": b"II", ">": b"MM"}[order]
    word, small = ("Q", "Q") if big else ("I", "H")
    top = mark + struct.pack(order + "H", 43 if big else 42)
    top += struct.pack(order + "HH", 8, 0) if big else b""
    at = len(top) + struct.calcsize(word) + 2000
    data = top + struct.pack(order + word, at) + bytes(2000)
    for number, size in enumerate(pages):
        entries = [(254, 4, 0), (256, kind, size[0]), (257, kind, size[1])]
        directory = struct.pack(order + small, len(entries))
        for tag, its_kind, value in entries:
            code = {3: "H", 4: "I", 16: "Q"}[its_kind]
            packed = struct.pack(order + code, value).ljust(struct.calcsize(word), b"\0")
            directory += struct.pack(order + "HH" + word, tag, its_kind, 1) + packed
        after = at + len(directory) + struct.calcsize(word)
        data += directory + struct.pack(order + word, after if number + 1 < len(pages) else 0)
        at = after
    return data


@pytest.mark.parametrize(
    "image",
    [
        pillow("JPEG"),
        pillow("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(40_000)),
        pillow("PNG"),
        pillow("GIF"),
        pillow("BMP"),
        pillow("WEBP"),
        pillow("WEBP", lossless=True),
        pillow("WEBP", exif=b"Exif\0\0" + bytes(40)),
        pillow("TIFF"),
        pillow("TIFF", compression="jpeg"),
        pillow("AVIF"),
        bmp(WIDTH, -HEIGHT),
        bmp(WIDTH, HEIGHT, header=12),
        heic((WIDTH, HEIGHT), (10, 10)),
        heic((10, 10), (WIDTH, HEIGHT)),
        tiff("<", (WIDTH, HEIGHT)),
        tiff(">", (WIDTH, HEIGHT), kind=3),
        tiff("<", (WIDTH, HEIGHT), big=True, kind=16),
        tiff(">", (1, 1), (WIDTH, HEIGHT), (2, 2)),
    ],
)
@pytest.mark.parametrize("piece", [1, 13, 65536])
def test_the_size_that_an_image_declares(image: bytes, piece: int) -> None:
    assert pixels(image, piece) == WIDTH * HEIGHT


@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.*g")), ids=lambda path: path.name)
def test_photographs(photo: Path) -> None:
    with Image.open(photo) as image:
        assert pixels(photo.read_bytes()) == image.width * image.height


@pytest.mark.parametrize(
    "image",
    [
        b"\xff\xd8\xff\xd9" + bytes(70),  # a JPEG of tables only
        tiff("<"),
        tiff("<", (WIDTH, HEIGHT))[:2030],
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + bytes(60),
        b"II*\0" + struct.pack("<I", 8) + bytes(60),
        heic(),
    ],
)
def test_what_is_not_known_is_no_size(image: bytes) -> None:
    assert pixels(image) == 0


def test_directories_in_a_circle_end() -> None:
    image = bytearray(tiff("<", (WIDTH, HEIGHT)))
    image[-4:] = image[4:8]
    assert pixels(bytes(image)) == WIDTH * HEIGHT


@given(st.sampled_from([pillow("JPEG"), pillow("TIFF"), heic((9, 9)), tiff(">", (3, 4), big=True)]),
       st.data())  # fmt: skip
def test_no_bytes_break_it(image: bytes, data: st.DataObject) -> None:
    damaged = bytearray(image)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert pixels(bytes(damaged), 500) >= 0


Photo = Callable[[], bytes]


def test_an_image_that_declares_too_much_is_refused_while_it_can_be_taken_again(
    own: Path, photo: Photo
) -> None:
    limit = WIDTH * HEIGHT
    with running(own, receiver__max_pixels=str(limit)) as receiver:
        assert receiver.post_raw(pillow("JPEG")).status == 201
        for image in (photo(), heic((WIDTH + 1, HEIGHT)), tiff("<", (WIDTH, HEIGHT + 1))):
            for answer in (post_form(receiver, image), receiver.post_raw(image, "image/x")):
                assert (answer.status, answer.code) == (422, "too_many_pixels")
                assert answer.json["limit"] == limit
                assert answer.json["pixels"] > limit
                assert answer.json["retry"] is False
        assert receiver.get("/limits").json["max_pixels"] == limit
        assert len(receiver.images()) == 1
        assert receiver.half_received() == []


def test_it_is_refused_by_its_first_bytes(own: Path) -> None:
    """The rest is not waited for: here it never comes."""
    with running(own, receiver__max_pixels="100") as receiver, receiver.connect() as connection:
        image = pillow("JPEG", progressive=True) + bytes(500_000)
        top = head("POST", "/images", image, Content_Type="image/jpeg")
        connection.sendall(top + image[:100_000])
        connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: any(event.get("code") for event in receiver.events), "it is logged")
        assert [event["code"] for event in receiver.events if "code" in event] == [
            "too_many_pixels"
        ]


def post_form(receiver: Receiver, image: bytes):  # type: ignore[no-untyped-def]
    return receiver.post_form(part("image", image, "a.jpg"))
