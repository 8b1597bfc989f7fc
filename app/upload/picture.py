"""One picture on its way to a file in tmp/: recognised, unwrapped, measured, written and hashed.

Whatever way it comes, its bytes go through here. The content decides what it is; base64, a data
URI, and line breaks or a part's header before it are taken off.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto

from app.formats.completeness import HEAD, SELF_ENDING
from app.formats.sniff import FormatDetector, media_type
from app.refusals import Refused
from app.upload.body import PIECE
from app.upload.policy import Policy
from headgate.spool.disk.durable import Incoming
from headgate.spool.errors import DiskError
from headgate.spool.image.names import MEDIA_TYPES

TYPES = ", ".join(sorted(ext.upper() for ext in MEDIA_TYPES))
SEARCHED = 4096
"""Bytes in which a JPEG that does not begin at once is looked for, to say so."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\s-]+")
_DATA_URI = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_SPACE = b" \t\r\n"
_PART_HEADER = re.compile(
    rb"\s*(?:--[!-~]{1,200}[ \t]*\r?\n)?(?:[A-Za-z0-9-]{1,64}:[^\r\n]{0,200}\r?\n){1,16}\r?\n"
)
"""What servers of motion JPEG write before each picture, and clients copy with it."""
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class Wrapping(Enum):
    """How a picture's bytes come."""

    NONE = auto()
    BASE64 = auto()


def wrapping(head: bytes) -> tuple[Wrapping, int] | None:
    """How the picture that begins with ``head`` comes, and how many bytes stand before it; None if
    it begins with no picture."""
    if media_type(head):
        return Wrapping.NONE, 0
    skipped = len(head) - len(head.lstrip(_SPACE))
    header = _PART_HEADER.match(head)
    if header and b"content-disposition" not in header[0].lower():  # that would be a form
        skipped = header.end()
    if skipped and media_type(head[skipped:]):
        return Wrapping.NONE, skipped
    uri = _DATA_URI.match(head, skipped)
    at = uri.end() if uri else skipped
    text = head[at:]
    if not _BASE64.fullmatch(text):
        return None
    packed = b"".join(text.split()).translate(_URL_SAFE)
    try:
        start = base64.b64decode(packed[: len(packed) // 4 * 4])
    except binascii.Error:
        return None
    return (Wrapping.BASE64, at) if media_type(start) else None


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """Where pictures go, the maximum size of one, and a context around each write."""

    open: Callable[[], Incoming]  # one more file in tmp/
    max_image: int
    max_pixels: int
    writing: Callable[[int], AbstractContextManager[None]]


class Picture:
    """One picture as it arrives; refused as soon as it cannot be one.

    ``write`` its bytes as they come, then ``finish``. ``file_name`` is the client's. Of one that
    ``may_be_cut`` nothing but its own end says that all of it came.
    """

    def __init__(
        self,
        target: ImageTarget,
        policy: Policy,
        file_name: str = "",
        *,
        may_be_cut: bool = False,
    ) -> None:
        self._may_be_cut = may_be_cut
        self.file_name = file_name
        self.media_type = ""
        self.complete = True
        self._target = target
        self._policy = policy
        self._detector = FormatDetector()
        self._incoming: Incoming | None = None
        self._held: bytes | None = b""  # until it is known how the picture comes
        self._wrapping = Wrapping.NONE
        self._rest = b""  # of base64, what is no group of four yet

    @property
    def incoming(self) -> Incoming:
        """The file; there is one once bytes of a picture came."""
        assert self._incoming is not None
        return self._incoming

    def write(self, piece: bytes) -> None:
        """The next bytes as they came; Refused at once if they are no picture's."""
        if self._held is not None:
            self._held += piece
            if len(self._held) < HEAD * 8:
                return
            piece = self._begin()
        self._decoded(piece)

    def _begin(self) -> bytes:
        held, self._held = self._held or b"", None
        found = wrapping(held[: HEAD * 8])
        if found is None:
            raise self.unsupported(held)
        self._wrapping, skipped = found
        if self._wrapping is Wrapping.BASE64 and self._policy.strict:
            raise self.unsupported(held)
        if skipped and self._wrapping is Wrapping.NONE:
            self._policy.remark(
                self.unsupported(held),
                f"{skipped} bytes before the image were left out: white space, or a part's header",
            )
        self._incoming = self._target.open()
        return held[skipped:]

    @staticmethod
    def unsupported(head: bytes) -> Refused:
        """Bytes that begin like this are no picture that is taken; says what they look like."""
        at = head[:SEARCHED].find(b"\xff\xd8\xff")
        hint = ""
        if at > 0:
            hint = f" A JPEG begins only after {at} other bytes: leave those out."
        elif _BASE64.fullmatch(head[:HEAD]) and head:
            hint = " It is text; an image may come as it is, as base64 or as a data URI."
        return Refused("unsupported_image", types=TYPES, hint=hint)

    def _decoded(self, piece: bytes) -> None:
        if self._wrapping is Wrapping.NONE:
            self._store(piece)
            return
        packed = self._rest + b"".join(piece.split()).translate(_URL_SAFE)
        whole = len(packed) // 4 * 4
        self._rest = packed[whole:]
        self._store(self._from_base64(packed[:whole]))

    @staticmethod
    def _from_base64(packed: bytes) -> bytes:
        try:
            return base64.b64decode(packed, validate=True)
        except binascii.Error:
            raise Refused(
                "bad_field", reason="The image is base64 that is damaged or cut off."
            ) from None

    def _store(self, piece: bytes) -> None:
        if not piece:
            return
        incoming = self.incoming
        if incoming.size + len(piece) > self._target.max_image:
            raise Refused("too_large", limit=self._target.max_image)
        self._detector.feed(piece)
        if self._detector.kind == "":
            raise self.unsupported(piece)
        self._check_pixels()
        with self._target.writing(len(piece)):
            incoming.write(piece)

    def finish(self) -> None:
        """End the picture; Refused if it is empty, of no kind that we take, or not whole."""
        if self._held is not None:
            if not self._held.strip(_SPACE):
                raise Refused("empty_image")
            self._decoded(self._begin())
        if self._rest:
            self._store(self._from_base64(self._rest + b"=" * (-len(self._rest) % 4)))
        if self.incoming.size == 0:
            raise Refused("empty_image")
        whole = self._detector.finish(self._reread)
        self._check_pixels()
        if not self._detector.kind:
            raise Refused("unsupported_image", types=TYPES, hint="")
        self.media_type = self._detector.kind
        if self._detector.is_empty and not self._policy.strict:
            raise Refused("no_picture", type=self.media_type)
        if self._may_be_cut and self.media_type not in SELF_ENDING:
            raise Refused("length_required")
        if not whole:
            self._cut_off()

    def _cut_off(self) -> None:
        """Take a picture without its end although all that was announced came, and say so: its
        device cut it. Refused where more may come, or decoders show nothing of it."""
        refused = Refused("truncated_image", type=self.media_type)
        may_be_more = self._may_be_cut or self._policy.may_grow
        if may_be_more or not self._detector.can_be_shown:
            raise refused
        self._policy.remark(
            refused, "the image lacks its end: the device cut it off before it was sent"
        )
        self.complete = False

    def _check_pixels(self) -> None:
        pixels, limit = self._detector.pixels, self._target.max_pixels
        if pixels > limit:
            raise Refused("too_many_pixels", pixels=pixels, limit=limit)

    def _reread(self, offset: int) -> Iterator[bytes]:
        try:
            while piece := os.pread(self.incoming.fd, PIECE, offset):
                yield piece
                offset += len(piece)
        except OSError as error:
            raise DiskError(error, "reading an image back") from error
