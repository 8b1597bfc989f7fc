"""What kind of image the bytes are, and whether they end where an image of that kind ends. Pure.

The content decides, never the client's word for it: a kind is known by its first bytes, its end as
``app.formats.completeness`` knows it.
"""

from __future__ import annotations

from app.formats.completeness import HEAD, Reread, Walk, walk

TAIL = 64 * 1024
"""Bytes from the end that are searched for an end marker; some writers append data to it."""

_HEIC = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_AVIF = frozenset((b"avif", b"avis"))

_DIB_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def media_type(head: bytes) -> str:
    """The media type of an image that begins with ``head``; "" if it is none that we take."""
    for found, test in (
        ("image/jpeg", head.startswith(b"\xff\xd8\xff")),
        ("image/png", head.startswith(b"\x89PNG\r\n\x1a\n")),
        ("image/webp", head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
        ("image/gif", head[:6] in (b"GIF87a", b"GIF89a")),
        ("image/x-canon-cr2", head[:4] == b"II*\0" and head[8:10] == b"CR"),
        ("image/tiff", head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        ("image/jxl", head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n" or head[:2] == b"\xff\x0a"),
        ("image/jp2", head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("image/j2c", head[:4] == b"\xff\x4f\xff\x51"),
        ("image/x-fuji-raf", head[:16] == b"FUJIFILMCCD-RAW "),
        ("image/x-panasonic-rw2", head[:4] == b"IIU\0"),
        ("image/x-olympus-orf", head[:4] in (b"IIRO", b"IIRS", b"MMOR")),
        ("image/bmp", head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADERS),
    ):
        if test:
            return found
    return _boxed(head)


def _boxed(head: bytes) -> str:
    if head[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(head[:4], "big"), HEAD)
    if head[8:12] == b"crx ":
        return "image/x-canon-cr3"
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, length - 3, 4)}
    if brands & _AVIF:
        return "image/avif"
    return "image/heic" if brands & _HEIC else ""


class FormatDetector:
    """Looks at an image as it passes by: its kind from the first bytes, then whether it ended.

    Keeps ``HEAD`` bytes from the start and at most twice ``TAIL`` from the end; feed it in order.
    """

    def __init__(self) -> None:
        self.size = 0
        self._head = b""
        self._kind: str | None = None
        self._walk: Walk | None = None
        self._tail = bytearray()

    @property
    def kind(self) -> str | None:
        """The media type, "" if it is none that we take, None while too few bytes have come. That
        of a camera's raw file that is a TIFF as well is known at the end."""
        return self._kind

    @property
    def can_be_shown(self) -> bool:
        """Whether decoders show what is there of an image that is not whole; known at the end."""
        return self._walk is not None and self._walk.can_be_shown

    @property
    def is_empty(self) -> bool:
        """Whether it is the frame of an image with no picture in it; known at the end."""
        return self._walk is not None and self._walk.is_empty

    @property
    def pixels(self) -> int:
        """Width x height as the image declares them; 0 while, or where, that is not known."""
        return 0 if self._walk is None else self._walk.pixels

    def feed(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._kind is None:
            self._head += piece
            if len(self._head) < HEAD:
                return
            piece = self._know()
        if self._walk is not None:
            self._walk.feed(piece)
        self._keep(piece)

    def _keep(self, piece: bytes) -> None:
        self._tail += piece[-TAIL:]
        if len(self._tail) > 2 * TAIL:  # seldom, so that small pieces cost no more than large ones
            del self._tail[:-TAIL]

    def _know(self) -> bytes:
        piece, self._head = self._head, b""
        self._kind = media_type(piece[:HEAD])
        self._walk = walk(self._kind, piece) if self._kind else None
        return piece

    def finish(self, reread: Reread) -> bool:
        """No more will come: settle the kind, and say whether the image's own end is there."""
        if self._kind is None:
            piece = self._know()
            self._keep(piece)
            if self._walk is not None:
                self._walk.feed(piece)
        if self._walk is None:
            return False
        whole = self._walk.whole(self.size, bytes(self._tail[-TAIL:]), reread)
        self._kind = self._walk.kind or self._kind
        return whole
