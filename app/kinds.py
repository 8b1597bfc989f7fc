"""What kind of image the bytes are, and whether they end where an image of that kind ends. Pure.

The content decides, never the client's word for it. Nothing is decoded: a kind is known by its
first bytes, its end by a marker or a length that the format itself carries. Formats: JPEG (ITU-T
T.81 B.1), PNG (RFC 2083), WebP (RFC 9649), GIF89a, TIFF 6.0 and BigTIFF, BMP, HEIF and AVIF
(ISO/IEC 14496-12 boxes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

HEAD = 64
"""Bytes from the start that are enough to know the kind."""

TAIL = 64 * 1024
"""Bytes from the end that are searched for an end marker; some writers append data to it."""

_HEIC = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_AVIF = frozenset((b"avif", b"avis"))
_EOI = b"\xff\xd9"
_DIB_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def media_type(head: bytes) -> str:
    """The media type of an image that begins with ``head``; "" if it is none that we take."""
    for found, test in (
        ("image/jpeg", head.startswith(b"\xff\xd8\xff")),
        ("image/png", head.startswith(b"\x89PNG\r\n\x1a\n")),
        ("image/webp", head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
        ("image/gif", head[:6] in (b"GIF87a", b"GIF89a")),
        ("image/tiff", head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        ("image/bmp", head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADERS),
    ):
        if test:
            return found
    return _boxed(head)


def _boxed(head: bytes) -> str:
    if head[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(head[:4], "big"), HEAD)
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, length - 3, 4)}
    if brands & _AVIF:
        return "image/avif"
    return "image/heic" if brands & _HEIC else ""


Reread = Callable[[int], Iterator[bytes]]
"""The image's bytes once more, from an offset on: for what the tail alone cannot settle."""


class _Walk(Protocol):
    """Follows one image as it arrives."""

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
        self._skip = 2
        self._held = b""
        self._at = 0  # of the first byte in _held
        self._scan_at = -1
        self._no_scan = False  # tables only, with their own end

    def feed(self, piece: bytes) -> None:
        if self._scan_at >= 0 or self._no_scan:
            return
        data = self._held + piece
        at = self._skip
        while at + 4 <= len(data):
            if data[at] != 0xFF:  # no marker where one belongs: look for the next one
                found = data.find(b"\xff", at)
                at = found if found >= 0 else len(data)
                continue
            marker = data[at + 1]
            if marker == 0xDA:
                self._scan_at = self._at + at
                return
            if marker == 0xD9:
                self._no_scan = True
                return
            if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
                at += 1 if marker == 0xFF else 2
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
        self._skip = 0
        self._held = b""
        self._open_end = False
        self._seen: set[bytes] = set()

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        at = self._skip
        while not self._open_end and at + 16 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            self._seen.add(data[at + 4 : at + 8])
            if length == 1:
                length = int.from_bytes(data[at + 8 : at + 16], "big")
            self._open_end = length < 8  # 0: up to the end; 2 to 7 cannot be
            at += length
        self._skip, self._held = max(0, at - len(data)), data[at : at + 16]

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        if self._skip or b"mdat" not in self._seen or not self._seen & {b"meta", b"moov"}:
            return False
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

    def __init__(self, rule: Callable[[bytes, int, bytes], bool]) -> None:
        self._rule = rule
        self._head = b""

    def feed(self, piece: bytes) -> None:
        if len(self._head) < HEAD:
            self._head += piece[: HEAD - len(self._head)]

    def whole(self, size: int, tail: bytes, reread: Reread) -> bool:
        return self._rule(self._head, size, tail)


def _webp(head: bytes, size: int, _tail: bytes) -> bool:
    return size >= 8 + int.from_bytes(head[4:8], "little")


def _png(_head: bytes, _size: int, tail: bytes) -> bool:
    return b"IEND\xaeB`\x82" in tail


def _gif(_head: bytes, _size: int, tail: bytes) -> bool:
    return tail.rstrip(b"\0\r\n ").endswith(b";")


def _bmp(head: bytes, size: int, _tail: bytes) -> bool:
    return size >= int.from_bytes(head[2:6], "little")  # some writers leave 0


def _tiff(head: bytes, size: int, _tail: bytes) -> bool:
    order = "little" if head[:2] == b"II" else "big"
    big = head[2:4] in (b"+\0", b"\0+")
    first = int.from_bytes(head[8:16] if big else head[4:8], order)  # type: ignore[arg-type]
    return 8 <= first < size


def _walk(kind: str) -> _Walk:
    if kind == "image/jpeg":
        return _Jpeg()
    if kind in ("image/heic", "image/avif"):
        return _Boxes()
    rules = {
        "image/webp": _webp,
        "image/png": _png,
        "image/gif": _gif,
        "image/bmp": _bmp,
        "image/tiff": _tiff,
    }
    return _Sized(rules[kind])


class Watcher:
    """Looks at an image as it passes by: its kind from the first bytes, then whether it ended.

    Keeps ``HEAD`` bytes from the start and the last pieces up to about ``TAIL``; feed it in order.
    """

    def __init__(self) -> None:
        self.size = 0
        self._head = b""
        self._kind: str | None = None
        self._walk: _Walk | None = None
        self._tail: list[bytes] = []
        self._tail_size = 0

    @property
    def kind(self) -> str | None:
        """The media type, "" if it is none that we take, None while too few bytes have come."""
        return self._kind

    def feed(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._kind is None:
            self._head += piece
            if len(self._head) < HEAD:
                return
            piece = self._know()
        if self._walk is not None:
            self._walk.feed(piece)
        self._tail.append(piece)
        self._tail_size += len(piece)
        while self._tail_size - len(self._tail[0]) >= TAIL:
            self._tail_size -= len(self._tail.pop(0))

    def _know(self) -> bytes:
        piece, self._head = self._head, b""
        self._kind = media_type(piece[:HEAD])
        self._walk = _walk(self._kind) if self._kind else None
        return piece

    def finish(self, reread: Reread) -> bool:
        """No more will come: settle the kind, and say whether the image's own end is there."""
        if self._kind is None:
            piece = self._know()
            self._tail.append(piece)
            if self._walk is not None:
                self._walk.feed(piece)
        if self._walk is None:
            return False
        return self._walk.whole(self.size, b"".join(self._tail)[-TAIL:], reread)
