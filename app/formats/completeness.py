"""Whether an image ends where one of its kind ends, and how large it says it is. Pure.

Nothing is decoded: the end is known by a marker or a length that the format itself carries.
Formats: JPEG (ITU-T T.81 B.1), PNG (RFC 2083), WebP (RFC 9649), GIF89a, TIFF 6.0 and BigTIFF, BMP,
HEIF and AVIF (ISO/IEC 14496-12 boxes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from app.formats import dimensions

HEAD = 64
"""Bytes from the start that are enough to know the kind."""

_EOI = b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG's frame header (T.81 B.1.1.3)."""
_DESCRIBES = frozenset((b"meta", b"moov"))
_DESCRIPTIONS_MAX = 4
STEPS_MAX = 10_000
"""Segments before a JPEG's first scan, boxes of a HEIF, or sizes in its description, that are read;
cameras write some tens. An image with more counts as broken: it costs more than others do."""
_NO_FILL = re.compile(rb"[^\xff]")

Reread = Callable[[int], Iterator[bytes]]
"""The image's bytes once more, from an offset on: for what the tail alone cannot settle."""


class Walk(Protocol):
    """Follows one image as it arrives; ``pixels`` is width x height as declared, once it is known,
    the largest of several."""

    pixels: int

    def feed(self, piece: bytes) -> None: ...
    def whole(self, size: int, tail: bytes, reread: Reread) -> bool: ...


class _Jpeg:
    """Whole once an EOI follows the start of the first scan.

    The segments before it are stepped over by their lengths: a thumbnail in them ends with an EOI
    of its own. In a scan FF is always followed by 00 or a restart marker, so FFD9 is the end there.
    It is looked for in the tail first; what phones append (MPF pictures, a motion photo's film) may
    be longer than that.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self._skip = 2
        self._held = b""
        self._at = 0  # of the first byte in _held
        self._scan_at = -1
        self._no_scan = False  # tables only, with their own end
        self.steps = 0

    def feed(self, piece: bytes) -> None:
        if self._scan_at >= 0 or self._no_scan or self.steps > STEPS_MAX:
            return
        data = self._held + piece
        at = self._skip
        while at + 4 <= len(data):
            self.steps += 1
            if self.steps > STEPS_MAX:
                self._held = b""
                return
            if data[at] != 0xFF:  # no marker where one belongs: look for the next one
                found = data.find(b"\xff", at)
                at = found if found >= 0 else len(data)
                continue
            marker = data[at + 1]
            if marker == 0xFF:  # fill bytes (T.81 B.1.1.2), of which there may be any number
                filled = _NO_FILL.search(data, at + 1)
                at = len(data) - 1 if filled is None else filled.start() - 1
                self.steps -= filled is None  # the same run of them goes on in the next piece
                continue
            if marker == 0xDA:
                self._scan_at = self._at + at
                return
            if marker == 0xD9:
                self._no_scan = True
                return
            if marker in _FRAMES:
                if at + 9 > len(data):
                    break
                self.pixels = max(self.pixels, dimensions.jpeg_frame(data[at : at + 9]))
            if marker == 0x01 or 0xD0 <= marker <= 0xD8:
                at += 2
            else:
                at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        self._skip, self._held = max(0, at - len(data)), data[at:]
        self._at += min(at, len(data))

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        if self._scan_at < 0:
            return self._no_scan
        end = tail.rfind(_EOI)
        if end >= 0 and size - len(tail) + end > self._scan_at:
            return True
        last = b""
        for piece in reread(self._scan_at):
            if _EOI in piece or _EOI in last + piece[:1]:
                return True
            last = piece[-1:]
        return False


class _Boxes:
    """Whole when its description and its data are there, and every top-level box is complete.

    The last box may say "to the end" (size 0): then nothing tells.
    """

    def __init__(self) -> None:
        self.pixels = 0
        self._at = 0  # of the first byte in _held
        self._meta: list[tuple[int, int]] = []
        self._skip = 0
        self._held = b""
        self._open_end = False
        self._has_data = self._is_described = False
        self.steps = 0

    def feed(self, piece: bytes) -> None:
        if self._open_end or self.steps > STEPS_MAX:
            return
        data = self._held + piece
        at = self._skip
        while not self._open_end and at + 16 <= len(data):
            self.steps += 1
            if self.steps > STEPS_MAX:
                return
            length = int.from_bytes(data[at : at + 4], "big")
            kind = data[at + 4 : at + 8]
            self._has_data = self._has_data or kind == b"mdat"
            self._is_described = self._is_described or kind in _DESCRIBES
            if length == 1:
                length = int.from_bytes(data[at + 8 : at + 16], "big")
            self._open_end = length < 8  # 0: up to the end; 2 to 7 cannot be
            if kind in _DESCRIBES and len(self._meta) < _DESCRIPTIONS_MAX:
                self._meta.append((self._at + at, min(length, dimensions.META_MAX)))
            at += length
        self._skip, self._held = max(0, at - len(data)), data[at : at + 16]
        self._at += min(at, len(data))

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        if self._skip and not self._open_end:
            return False
        if self.steps > STEPS_MAX or not (self._has_data and self._is_described):
            return False
        for at, length in self._meta:
            described = _first(reread(at), length)
            if described.count(dimensions.SIZE_BOX) > STEPS_MAX:
                return False
            self.pixels = max(self.pixels, dimensions.boxed(described))
        rest = self._held
        while not self._open_end and len(rest) >= 8:  # a small last box, such as "free"
            length = int.from_bytes(rest[:4], "big")
            if length > len(rest) or length == 1:
                return False
            if length < 8:
                break
            rest = rest[length:]
        return True


class _Sized:
    """Whole by one rule over the first bytes, the size and the last bytes."""

    def __init__(
        self, rule: Callable[[bytes, int, bytes], bool], declared: Callable[[bytes], int]
    ) -> None:
        self.pixels = 0
        self._rule = rule
        self._declared = declared
        self._head = b""

    def feed(self, piece: bytes) -> None:
        if len(self._head) < HEAD:
            self._head += piece[: HEAD - len(self._head)]
            self.pixels = self._declared(self._head)

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        return self._rule(self._head, size, tail)


class _Tiff:
    """Whole when its first directory lies within it; directories may be anywhere."""

    def __init__(self) -> None:
        self.pixels = 0
        self._head = b""

    def feed(self, piece: bytes) -> None:
        self._head += piece[: max(0, 16 - len(self._head))]

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        head = self._head
        self.pixels = dimensions.tiff(
            head, lambda at, length: _first(reread(at), length) if at < size else b""
        )
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        big = head[2:4] in (b"+\0", b"\0+")
        first = int.from_bytes(head[8:16] if big else head[4:8], order)
        return 8 <= first < size


def _webp(head: bytes, size: int, _tail: bytes) -> bool:
    return size >= 8 + int.from_bytes(head[4:8], "little")


def _png(_head: bytes, _size: int, tail: bytes) -> bool:
    return b"IEND\xaeB`\x82" in tail


def _gif(_head: bytes, _size: int, tail: bytes) -> bool:
    return tail.rstrip(b"\0\r\n ").endswith(b";")


def _bmp(head: bytes, size: int, _tail: bytes) -> bool:
    return size >= int.from_bytes(head[2:6], "little")  # some writers leave 0


def walk(kind: str) -> Walk:
    """For an image of this media type."""
    if kind == "image/jpeg":
        return _Jpeg()
    if kind == "image/tiff":
        return _Tiff()
    if kind in ("image/heic", "image/avif"):
        return _Boxes()
    rules = {
        "image/webp": (_webp, dimensions.webp),
        "image/png": (_png, dimensions.png),
        "image/gif": (_gif, dimensions.gif),
        "image/bmp": (_bmp, dimensions.bmp),
    }
    return _Sized(*rules[kind])


def _first(pieces: Iterator[bytes], length: int) -> bytes:
    found = b""
    for piece in pieces:
        found += piece
        if len(found) >= length:
            break
    return found[:length]
