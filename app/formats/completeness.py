"""Whether an image ends where one of its kind ends, and how large it says it is. Pure.

Nothing is decoded: the end is known by a marker or a length that the format itself carries, and
what decoders do not mind (a wrong checksum of the end, bytes behind it, a file length in a header)
is not minded here. Formats: JPEG (ITU-T T.81 B.1), PNG (RFC 2083), WebP (RFC 9649), GIF89a, TIFF
6.0 and BigTIFF, BMP, HEIF, AVIF and CR3 (ISO/IEC 14496-12 boxes), JPEG XL (ISO/IEC 18181-2), JPEG
2000 (ITU-T T.800), and raw files of cameras.
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
_BOXES = _DESCRIBES | {
    b"ftyp",
    b"mdat",
    b"idat",
    b"moof",
    b"free",
    b"skip",
    b"uuid",
    b"wide",
    b"jP  ",
    b"jp2h",
    b"jp2c",
    b"jxlc",
    b"jxlp",
    b"JXL ",
    b"Exif",
    b"xml ",
    b"jumb",
    b"brob",
    b"mpvd",
}
"""Kinds of boxes. One that is cut is the file's own cut; of any other kind it is bytes that were
appended."""
_DESCRIPTIONS_MAX = 4
STEPS_MAX = 10_000
"""Segments before a JPEG's first scan, boxes of a HEIF, or sizes in its description, that are read;
cameras write some tens. An image with more counts as broken: it costs more than others do."""
_NO_FILL = re.compile(rb"[^\xff]")

Reread = Callable[[int], Iterator[bytes]]
"""The image's bytes once more, from an offset on: for what the tail alone cannot settle."""


class Walk(Protocol):
    """Follows one image as it arrives; ``pixels`` is width x height as declared, once it is known,
    the largest of several. The others are known after ``whole``."""

    pixels: int
    can_be_shown: bool
    is_empty: bool
    kind: str  # the media type, where the image's own inside says more than its first bytes

    def feed(self, piece: bytes) -> None: ...
    def whole(self, size: int, tail: bytes, reread: Reread) -> bool: ...


class _Walk:
    """The base of what follows an image of one format as it arrives."""

    def __init__(self) -> None:
        self.pixels = 0
        self.can_be_shown = False
        self.is_empty = False
        self.kind = ""


class _Jpeg(_Walk):
    """Whole once an EOI follows the start of the first scan.

    The segments before it are stepped over by their lengths: a thumbnail in them ends with an EOI
    of its own. In a scan FF is always followed by 00 or a restart marker, so FFD9 is the end there.
    It is looked for in the tail first; what phones append (MPF pictures, a motion photo's film) may
    be longer than that.
    """

    def __init__(self) -> None:
        super().__init__()
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
        self.can_be_shown = self._scan_at >= 0
        self.is_empty = self._no_scan
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


class _Boxes(_Walk):
    """Whole when its description and its data are there, and every top-level box is complete.

    The last box may say "to the end" (size 0): then nothing tells. Bytes behind the boxes that are
    none are what some phones append.
    """

    def __init__(
        self,
        describes: frozenset[bytes] = _DESCRIBES,
        data: frozenset[bytes] = frozenset((b"mdat",)),
        end: bytes = b"",
    ) -> None:
        super().__init__()
        self._describes = describes
        self._data = data
        self._end = end  # of the data, where a box goes up to the end
        self._last = b""
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
            self._last = kind
            if kind not in _BOXES and self._has_data and self._is_described:
                self._open_end = True
                return
            self._has_data = self._has_data or kind in self._data
            self._is_described = self._is_described or kind in self._describes
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
        if self.steps > STEPS_MAX or not self._is_described:
            return False
        if self._end and self._open_end and self._end not in tail:
            return False
        for at, length in self._meta:
            described = _first(reread(at), length)
            if described.count(dimensions.SIZE_BOX) > STEPS_MAX:
                return False
            self._has_data = self._has_data or b"idat" in described
            self.pixels = max(self.pixels, dimensions.boxed(described))
        if not self._has_data:
            return False
        rest = self._held
        while not self._open_end and len(rest) >= 8:  # a small last box, such as "free"
            length = int.from_bytes(rest[:4], "big")
            if length > len(rest) or length == 1:
                return rest[4:8] not in _BOXES
            if length < 8:
                break
            rest = rest[length:]
        return True


class _Sized(_Walk):
    """Whole by one rule over the first bytes, the size and the last bytes."""

    def __init__(
        self,
        rule: Callable[[bytes, int, bytes], bool],
        declared: Callable[[bytes], int],
        *,
        shown_in_part: bool = False,
    ) -> None:
        super().__init__()
        self._shown_in_part = shown_in_part
        self._rule = rule
        self._declared = declared
        self._head = b""

    def feed(self, piece: bytes) -> None:
        if len(self._head) < HEAD:
            self._head += piece[: HEAD - len(self._head)]
            self.pixels = self._declared(self._head)

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        self.is_empty = not self.pixels
        self.can_be_shown = self._shown_in_part and not self.is_empty
        return self._rule(self._head, size, tail)


class _Webp(_Sized):
    """Whole by its length; the extended kind may hold descriptions alone, and no picture."""

    def __init__(self) -> None:
        super().__init__(_webp, dimensions.webp)

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        found = super().whole(size, tail, reread)
        at = 12
        for _ in range(_CHUNKS_MAX):
            chunk = _first(reread(at), 8)
            if len(chunk) < 8:
                self.is_empty = True
                break
            if chunk[:4] in (b"VP8 ", b"VP8L", b"ANMF"):
                break
            length = int.from_bytes(chunk[4:8], "little")
            at += 8 + length + length % 2
        return found


class _Unmarked(_Walk):
    """A format whose end only a decoder knows, or one that says where its parts lie."""

    def __init__(self, ends_at: Callable[[bytes], int] = lambda _: 0) -> None:
        super().__init__()
        self._ends_at = ends_at
        self._head = b""

    def feed(self, piece: bytes) -> None:
        self._head += piece[: max(0, 128 - len(self._head))]

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        return size >= max(16, self._ends_at(self._head))


class _Tiff(_Walk):
    """Whole when its directories and the strips and tiles that they name lie within it; they may be
    anywhere. With the first page, which is all that most programs show, it can be shown. Raw files
    of several cameras are TIFF, too: ``strips`` is False for those whose strips are written
    otherwise."""

    def __init__(self, *, strips: bool = True) -> None:
        super().__init__()
        self._strips = strips
        self._head = b""

    def feed(self, piece: bytes) -> None:
        self._head += piece[: max(0, 16 - len(self._head))]

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        head = self._head
        found = dimensions.tiff(
            head, lambda at, length: _first(reread(at), length) if at < size else b""
        )
        self.pixels = found.pixels
        if head[2:4] in (b"*\0", b"\0*") and head[8:10] != b"CR":
            self.kind = _RAW_KINDS.get(found.raw, "")
        order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
        big = head[2:4] in (b"+\0", b"\0+")
        first = int.from_bytes(head[8:16] if big else head[4:8], order)
        if not 8 <= first < size:
            return False
        self.can_be_shown = 0 < found.first_end <= size
        self.is_empty = not found.first_end and first + 2 <= size
        return not self._strips or (self.can_be_shown and found.data_end <= size)


_RAW_KINDS = {"dng": "image/x-adobe-dng", "nef": "image/x-nikon-nef"}
_CHUNKS_MAX = 16
"""Chunks of a WebP before its picture that are stepped over; a few describe it."""


def _raf(head: bytes) -> int:
    """Where the last part of a Fujifilm raw file ends: its preview, or the sensor's data."""
    places = [int.from_bytes(head[at : at + 4], "big") for at in range(84, 108, 4)]
    return max(places[0] + places[1], places[2] + places[3], places[4] + places[5])


def _j2c(_head: bytes, _size: int, tail: bytes) -> bool:
    return _EOI in tail  # EOC, which is written like JPEG's EOI


def _webp(head: bytes, size: int, _tail: bytes) -> bool:
    return size >= 8 + int.from_bytes(head[4:8], "little")


def _png(_head: bytes, _size: int, tail: bytes) -> bool:
    return b"\0\0\0\0IEND" in tail  # whatever its checksum is: no decoder minds


def _gif(_head: bytes, _size: int, tail: bytes) -> bool:
    return tail.rstrip(b"\0\r\n ").endswith(b";")


_DEPTHS = frozenset((1, 2, 4, 8, 16, 24, 32, 64))


def _bmp(head: bytes, size: int, _tail: bytes) -> bool:
    """Whether all rows of a BMP are there, where they are not compressed: writers get the file's
    length wrong."""
    offset = int.from_bytes(head[10:14], "little")
    if int.from_bytes(head[14:18], "little") == 12:
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
        depth, coded = int.from_bytes(head[24:26], "little"), 0
    else:
        width = abs(int.from_bytes(head[18:22], "little", signed=True))
        height = abs(int.from_bytes(head[22:26], "little", signed=True))
        depth = int.from_bytes(head[28:30], "little")
        coded = int.from_bytes(head[30:34], "little")
    if coded not in (0, 3, 6):  # run lengths, or another format inside
        return size >= offset + int.from_bytes(head[34:38], "little")
    return depth in _DEPTHS and size >= offset + (width * depth + 31) // 32 * 4 * height


SELF_ENDING = frozenset((
    "image/jpeg", "image/png", "image/webp", "image/tiff", "image/x-adobe-dng", "image/x-nikon-nef",
    "image/x-canon-cr2", "image/jp2", "image/j2c",
))  # fmt: skip
"""Kinds that say where they end, so that no part of one looks whole. Of the others some end as any
part of them may (GIF's trailer is one byte), and some have parts that nothing announces."""

_WALKS: dict[str, Callable[[], Walk]] = {
    "image/jpeg": _Jpeg,
    "image/tiff": _Tiff,
    "image/x-canon-cr2": _Tiff,
    "image/x-panasonic-rw2": lambda: _Tiff(strips=False),
    "image/x-olympus-orf": lambda: _Tiff(strips=False),
    "image/x-fuji-raf": lambda: _Unmarked(_raf),
    "image/heic": _Boxes,
    "image/avif": _Boxes,
    "image/x-canon-cr3": _Boxes,
    "image/jp2": lambda: _Boxes(frozenset((b"jp2h",)), frozenset((b"jp2c",)), _EOI),
    "image/j2c": lambda: _Sized(_j2c, dimensions.j2c),
    "image/webp": _Webp,
    "image/png": lambda: _Sized(_png, dimensions.png),
    "image/gif": lambda: _Sized(_gif, dimensions.gif, shown_in_part=True),
    "image/bmp": lambda: _Sized(_bmp, dimensions.bmp),
}


def walk(kind: str, head: bytes = b"") -> Walk:
    """What follows an image of this media type that begins with ``head``."""
    if kind == "image/jxl":
        parts = frozenset((b"jxlc", b"jxlp"))
        return _Unmarked() if head[:2] == b"\xff\x0a" else _Boxes(parts, parts)
    return _WALKS[kind]()


def _first(pieces: Iterator[bytes], length: int) -> bytes:
    found = b""
    for piece in pieces:
        found += piece
        if len(found) >= length:
            break
    return found[:length]
