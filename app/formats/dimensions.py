"""Width x height as an image's header declares them, without decoding anything. Pure.

A header of a few bytes can declare an image that takes gigabytes to decode; a program that shows
it later would pay for that. 0 stands for "not known": that is no reason to refuse an image.
Formats: JPEG (ITU-T T.81 B.2.2), PNG (RFC 2083), WebP (RFC 9649), GIF89a, BMP, TIFF 6.0 and
BigTIFF, HEIF and AVIF (the ``ispe`` property of ISO/IEC 23008-12).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

META_MAX = 1024 * 1024
"""Bytes of a HEIF's description that are looked at."""
SIZE_BOX = b"ispe"
_PAGES_MAX = 16
_ENTRIES_MAX = 4096
_SHORT, _LONG, _LONG8 = 3, 4, 16


def jpeg_frame(segment: bytes) -> int:
    """Of a frame header, from its marker on: at least nine bytes."""
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


def tiff(head: bytes, read: Callable[[int, int], bytes]) -> int:
    """The largest page; ``read(at, length)`` gives bytes of the file."""
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    big = head[2:4] in (b"+\0", b"\0+")
    word, count_size, entry_size = (8, 8, 20) if big else (4, 2, 12)
    at = int.from_bytes(head[8:16] if big else head[4:8], order)
    largest, pages = 0, set[int]()
    while at and at not in pages and len(pages) < _PAGES_MAX:
        pages.add(at)
        count = int.from_bytes(read(at, count_size), order)
        if not 0 < count <= _ENTRIES_MAX:
            break
        directory = read(at + count_size, count * entry_size + word)
        sizes = {256: 0, 257: 0}
        for begin in range(0, len(directory) - entry_size + 1, entry_size):
            tag = int.from_bytes(directory[begin : begin + 2], order)
            if begin < count * entry_size and tag in sizes:
                kind = int.from_bytes(directory[begin + 2 : begin + 4], order)
                length = {_SHORT: 2, _LONG: 4, _LONG8: 8}.get(kind, 0)
                value = begin + entry_size - word
                sizes[tag] = int.from_bytes(directory[value : value + length], order)
        largest = max(largest, sizes[256] * sizes[257])
        at = int.from_bytes(directory[count * entry_size :], order)
    return largest
