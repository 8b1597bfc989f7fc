"""From the body to a file in tmp/: the form is parsed as it arrives, the image written and hashed.

Nothing is acknowledged here. What is refused here leaves nothing behind, because ``Incoming`` is a
context of the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from app.formats.sniff import FormatDetector
from app.refusals import Refused
from app.upload.body import PIECE, RequestBody
from app.upload.fields import FIELDS
from app.upload.filenames import file_name, has_file_name
from headgate.spool.disk.durable import Incoming
from headgate.spool.errors import DiskError
from headgate.spool.image.names import MEDIA_TYPES

PARTS_MAX = 10
PART_HEADERS_MAX = 8
FIELD_BYTES_MAX = 64 * 1024
TYPES = ", ".join(sorted(kind.removeprefix("image/").upper() for kind in MEDIA_TYPES.values()))


@dataclass(slots=True)
class FormContents:
    """The text fields next to the image."""

    media_type: str = ""
    file_name: str = ""
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """Where the image goes, its maximum size, and a context manager around each write."""

    incoming: Incoming
    max_image: int
    max_pixels: int
    writing: Callable[[int], AbstractContextManager[None]]


class _Image:
    """The image on its way to its ``landing``, refused as soon as it cannot be one."""

    def __init__(self, landing: ImageTarget) -> None:
        self._landing = landing
        self._incoming = landing.incoming
        self._watcher = FormatDetector()

    def write(self, piece: bytes) -> None:
        if self._incoming.size + len(piece) > self._landing.max_image:
            raise Refused("too_large", limit=self._landing.max_image)
        self._watcher.feed(piece)
        if self._watcher.kind == "":
            raise Refused("unsupported_image", types=TYPES)
        self._check_pixels()
        with self._landing.writing(len(piece)):
            self._incoming.write(piece)

    def finish(self) -> str:
        """The media type; Refused if the image is empty, of no kind that we take, or cut off."""
        if self._incoming.size == 0:
            raise Refused("empty_image")
        whole = self._watcher.finish(self._reread)
        self._check_pixels()
        if not self._watcher.kind:
            raise Refused("unsupported_image", types=TYPES)
        if not whole:
            raise Refused("truncated_image", type=self._watcher.kind)
        return self._watcher.kind

    def _check_pixels(self) -> None:
        if self._watcher.pixels > self._landing.max_pixels:
            raise Refused(
                "too_many_pixels", pixels=self._watcher.pixels, limit=self._landing.max_pixels
            )

    def _reread(self, offset: int) -> Iterator[bytes]:
        try:
            while piece := os.pread(self._incoming.fd, PIECE, offset):
                yield piece
                offset += len(piece)
        except OSError as error:
            raise DiskError(error, "reading an image back") from error


def take_raw(
    body: RequestBody, landing: ImageTarget, disposition: str, taken: FormContents
) -> None:
    """The body is the image."""
    image = _Image(landing)
    taken.file_name = file_name(disposition)
    while piece := body.read():
        image.write(piece)
    taken.media_type = image.finish()


def take_form(
    body: RequestBody, landing: ImageTarget, boundary: str, field_name: str, taken: FormContents
) -> None:
    """One image in the field ``field_name``, among text fields of which we need not know all. Of a
    form that is refused ``taken`` holds what came before that."""
    parser = PushMultipartParser(
        boundary.encode("latin-1"),
        max_header_count=PART_HEADERS_MAX,
        max_segment_count=PARTS_MAX,
        header_charset="latin-1",  # any byte; file names are decoded by their own rules
    )
    form = _Form(landing, field_name, taken)
    try:
        while piece := body.read():
            for event in parser.parse(piece):
                if event is None:
                    form.end_part()
                elif isinstance(event, MultipartSegment):
                    form.begin_part(event)
                else:
                    form.add(bytes(event))
        parser.close()  # raises unless the closing boundary came
    except ParserLimitReached as error:
        raise Refused("form_too_large", parts=PARTS_MAX, field_bytes=FIELD_BYTES_MAX) from error
    except MultipartError as error:
        raise Refused("bad_multipart", reason=str(error.args[0])) from error
    form.finish()


class _Form:
    """The parts as they come."""

    def __init__(self, landing: ImageTarget, field_name: str, taken: FormContents) -> None:
        self._landing = landing
        self._field = field_name
        self._image: _Image | None = None
        self._in_image = False
        self._name = ""
        self._text = b""
        self._field_bytes = 0
        self._came: list[str] = []
        self._taken = taken

    def begin_part(self, part: MultipartSegment) -> None:
        self._name = (part.name or "").encode("latin-1", "replace").decode("utf-8", "replace")
        disposition = part.header("Content-Disposition") or ""
        is_file = has_file_name(disposition) or (part.content_type or "").startswith("image/")
        if is_file and self._image is not None:
            raise Refused("two_files")
        if is_file and self._name != self._field:
            raise Refused("wrong_field", came=self._name[:64] or '""', field=self._field)
        self._in_image = self._name == self._field
        self._came.append(self._name[:64])
        self._text = b""
        if self._in_image:
            if self._image is not None:
                raise Refused("two_files")
            self._image = _Image(self._landing)
            self._taken.file_name = file_name(disposition)

    def add(self, piece: bytes) -> None:
        if self._in_image and self._image is not None:
            self._image.write(piece)
            return
        self._field_bytes += len(piece)
        if self._field_bytes > FIELD_BYTES_MAX:
            raise Refused("form_too_large", parts=PARTS_MAX, field_bytes=FIELD_BYTES_MAX)
        self._text += piece

    def end_part(self) -> None:
        if self._name not in FIELDS or self._in_image:
            return
        try:
            text = self._text.decode()
        except UnicodeDecodeError:
            text = self._text.decode("cp1252", "replace")
        if self._taken.form.setdefault(self._name, text) != text:
            raise Refused("bad_field", reason=f"The field {self._name[:64]} occurs twice.")

    def finish(self) -> None:
        if self._image is None:
            came = ", ".join(name for name in self._came if name) or "no named field"
            raise Refused("no_image", field=self._field, came=came)
        self._taken.media_type = self._image.finish()
