"""Width x height as an image's header declares them, without decoding anything. Pure.

A header of a few bytes can declare an image that takes gigabytes to decode; a program that shows
it later would pay for that. 0 stands for "not known": that is no reason to refuse an image.
Formats: JPEG (ITU-T T.81 B.2.2), PNG (RFC 2083), WebP (RFC 9649), GIF89a, BMP, TIFF 6.0 and
BigTIFF, HEIF and AVIF (the ``ispe`` property of ISO/IEC 23008-12).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

META_MAX = 1024 * 1024
"""Bytes of a HEIF's description that are looked at."""
SIZE_BOX = b"ispe"
_PAGES_MAX = 16
_ENTRIES_MAX = 4096
_BYTE, _ASCII, _SHORT, _LONG, _IFD, _LONG8 = 1, 2, 3, 4, 13, 16


def jpeg_frame(segment: bytes) -> int:
    """Width x height in a JPEG frame header of at least nine bytes, from its marker on."""
    return int.from_bytes(segment[5:7], "big") * int.from_bytes(segment[7:9], "big")


def png(head: bytes) -> int:
    if head[12:16] != b"IHDR":
        return 0
    return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")


def gif(head: bytes) -> int:
    return int.from_bytes(head[6:8], "little") * int.from_bytes(head[8:10], "little")


def bmp(head: bytes) -> int:
    """Heights may be negative: then the rows are stored from the top."""
    if int.from_bytes(head[14:18], "little") == 12:
        return int.from_bytes(head[18:20], "little") * int.from_bytes(head[20:22], "little")
    width = int.from_bytes(head[18:22], "little", signed=True)
    return abs(width * int.from_bytes(head[22:26], "little", signed=True))


def webp(head: bytes) -> int:
    kind = head[12:16]
    if kind == b"VP8X":
        return (int.from_bytes(head[24:27], "little") + 1) * (
            int.from_bytes(head[27:30], "little") + 1
        )
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width = int.from_bytes(head[26:28], "little") & 0x3FFF
        return width * (int.from_bytes(head[28:30], "little") & 0x3FFF)
    return 0


def boxed(meta: bytes) -> int:
    """The largest of the sizes in a HEIF's description: tiles have theirs, too."""
    found, at = 0, meta.find(SIZE_BOX)
    while at >= 0:
        width = int.from_bytes(meta[at + 8 : at + 12], "big")
        found = max(found, width * int.from_bytes(meta[at + 12 : at + 16], "big"))
        at = meta.find(SIZE_BOX, at + 4)
    return found


def j2c(head: bytes) -> int:
    """Width x height of a JPEG 2000 codestream (T.800 A.5.1): the reference grid less the image's
    offset in it."""
    width = int.from_bytes(head[8:12], "big") - int.from_bytes(head[16:20], "big")
    height = int.from_bytes(head[12:16], "big") - int.from_bytes(head[20:24], "big")
    return max(0, width) * max(0, height)


@dataclass(slots=True)
class TiffLook:
    """What directories of a TIFF tell: the largest page, where the first one ends with all that it
    names, where all of them do, and whether it is a camera's raw file ("dng", "nef")."""

    pixels: int = 0
    first_end: int = 0
    data_end: int = 0
    raw: str = ""


_STRIPS = {273: 279, 324: 325}
"""Tags of offsets, and of the lengths that go with them."""
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR = 256, 257, 258, 259, 277, 278, 284
_COLOURS, _TILE_WIDTH, _MAKE, _SUB_IFDS, _DNG_VERSION = 320, 322, 271, 330, 50706
_NEEDED = (_BITS, _COLOURS, *_STRIPS, *_STRIPS.values())
"""Tags without whose values no decoder reads a page."""
_LOCATIONS_MAX = 8192
"""Strips or tiles of a page that are looked at; of more only these."""


def tiff(head: bytes, read: Callable[[int, int], bytes]) -> TiffLook:
    """``read(at, length)`` gives bytes of the file, fewer at its end."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    big = head[2:4] in (b"+\0", b"\0+")
    word, count_size, entry_size = (8, 8, 20) if big else (4, 2, 12)
    at = int.from_bytes(head[8:16] if big else head[4:8], order)
    look, pages = TiffLook(), set[int]()
    while at and at not in pages and len(pages) < _PAGES_MAX:
        pages.add(at)
        count = int.from_bytes(read(at, count_size), order)
        if not 0 < count <= _ENTRIES_MAX:
            break
        directory = read(at + count_size, count * entry_size + word)
        page = _Directory(directory, count, entry_size, word, order)
        look.pixels = max(look.pixels, page.number(_WIDTH) * page.number(_HEIGHT))
        end = max(at + count_size + count * entry_size, page.data_end(read))
        look.data_end = max(look.data_end, end)
        if len(pages) == 1:
            look.raw = page.raw(read)
            look.first_end = end
        at = int.from_bytes(directory[count * entry_size :], order)
        look.data_end = max(look.data_end, at + count_size if at else 0)
    return look


class _Directory:
    """One image file directory of a TIFF: where each of its tags stands."""

    def __init__(
        self, data: bytes, count: int, entry_size: int, word: int, order: Literal["little", "big"]
    ) -> None:
        self._data = data
        self._word = word
        self._order = order
        self._size = entry_size
        self._at: dict[int, int] = {}
        for begin in range(0, min(len(data) - entry_size + 1, count * entry_size), entry_size):
            tag = int.from_bytes(data[begin : begin + 2], order)
            if tag in _LOOKED_AT:
                self._at.setdefault(tag, begin)

    def _entry(self, tag: int) -> tuple[int, int, bytes] | None:
        """The size of a value of it, how many there are, and the bytes where they stand."""
        begin = self._at.get(tag)
        if begin is None:
            return None
        kind = int.from_bytes(self._data[begin + 2 : begin + 4], self._order)
        value = begin + self._size - self._word
        count = int.from_bytes(self._data[begin + 4 : value], self._order)
        length = {_SHORT: 2, _LONG: 4, _LONG8: 8, _ASCII: 1, _BYTE: 1, _IFD: 4}.get(kind, 0)
        return length, count, self._data[value : value + self._word]

    def number(self, tag: int) -> int:
        """The only value; 0 if there is none."""
        found = self._entry(tag)
        return 0 if found is None else int.from_bytes(found[2][: found[0]], self._order)

    def _numbers(self, tag: int, read: Callable[[int, int], bytes]) -> list[int]:
        found = self._entry(tag)
        if found is None or not found[0] or not found[1]:
            return []
        length, count, data = found
        count = min(count, _LOCATIONS_MAX)
        if length * count > self._word:
            data = read(int.from_bytes(data, self._order), length * count)
        return [
            int.from_bytes(data[at : at + length], self._order)
            for at in range(0, min(len(data), length * count) - length + 1, length)
        ]

    def _value_end(self, tag: int) -> int:
        """Where a value ends that stands outside the directory; 0 if it does not."""
        found = self._entry(tag)
        if found is None or found[0] * found[1] <= self._word:
            return 0
        return int.from_bytes(found[2], self._order) + found[0] * found[1]

    def data_end(self, read: Callable[[int, int], bytes]) -> int:
        """Where the last strip or tile ends, or the value that says where they are."""
        ends = [self._value_end(tag) for tag in _NEEDED]
        strip = self._strip_size(read)
        for offsets, lengths in _STRIPS.items():
            places = self._numbers(offsets, read)
            sizes = self._numbers(lengths, read)
            ends += [at + min(size, strip) for at, size in zip(places, sizes, strict=False) if size]
        return max(ends)

    def _strip_size(self, read: Callable[[int, int], bytes]) -> int:
        """Bytes of a strip that is not compressed, whatever its length is said to be: writers get
        that wrong, and decoders do not mind. Unlimited for others."""
        if self.number(_COMPRESSION) != 1 or _TILE_WIDTH in self._at:
            return _UNLIMITED
        bits = self._numbers(_BITS, read) or [1]
        samples = 1 if self.number(_PLANAR) == 2 else max(1, self.number(_SAMPLES))
        rows = min(self.number(_ROWS) or self.number(_HEIGHT), self.number(_HEIGHT))
        return (self.number(_WIDTH) * bits[0] * samples + 7) // 8 * rows

    def raw(self, read: Callable[[int, int], bytes]) -> str:
        if _DNG_VERSION in self._at:
            return "dng"
        make = self._entry(_MAKE)
        if make is None or _SUB_IFDS not in self._at or make[1] < self._word:
            return ""
        at = int.from_bytes(make[2], self._order)
        return "nef" if read(at, 5).upper() == b"NIKON" else ""


_UNLIMITED = 2**64
_LOOKED_AT = frozenset(
    (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR, *_STRIPS, *_STRIPS.values(),
     _COLOURS, _TILE_WIDTH, _MAKE, _SUB_IFDS, _DNG_VERSION)
)  # fmt: skip
