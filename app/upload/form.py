"""From a body to pictures in tmp/: what kind of body it is, and its parts as they arrive.

Nothing is acknowledged here. How far the grammar of forms goes is a table in docs/DESIGN.md. What
is refused here leaves nothing behind, because each file is a context of the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from app.formats.completeness import HEAD
from app.refusals import Refused
from app.upload.fields import FIELDS
from app.upload.filenames import file_name, has_file_name
from app.upload.picture import ImageTarget, Picture, wrapping
from app.upload.policy import Policy
from app.upload.quoted import QuotedPrintable, is_quoted, quoted_body

PARTS_MAX = 100
PART_HEADERS_MAX = 16
FIELD_BYTES_MAX = 64 * 1024
BESIDE_MAX = 1024
"""Bytes kept of a file that is no picture: an event's description, as cameras send it."""
PEEKED = 1024
_LINE = re.compile(rb"--([!-~][ -~]{0,199}?)[ \t]*\r\n", re.ASCII)
_ENDLESS = "multipart/x-mixed-replace"


@dataclass(slots=True)
class FormContents:
    """What a body held: whole pictures, files that were refused, and text fields."""

    pictures: list[Picture] = field(default_factory=list)
    refused: list[tuple[str, Refused]] = field(default_factory=list)  # with the file's name
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BodyKind:
    """What the header says of the body. ``end_known``: it has a Content-Length, or a digest of all
    of it; ``size``: what will be read of it, None where that is not known, as of a compressed one.
    """

    media_type: str
    boundary: str
    disposition: str
    raw_allowed: bool
    end_known: bool
    size: int | None = None
    quoted: bool = False  # its Content-Transfer-Encoding is quoted-printable


class Peekable:
    """Pieces of a body, the first of them looked at before they are read."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._held = b""

    def head(self, size: int) -> bytes:
        """The first bytes; fewer only if there are no more."""
        while len(self._held) < size and (piece := self._read()):
            self._held += piece
        return self._held[:size]

    def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        if self._held:
            held, self._held = self._held, b""
            return held
        return self._read()


def take(
    read: Callable[[], bytes],
    kind: BodyKind,
    target: ImageTarget,
    fields: Sequence[str],
    policy: Policy,
    contents: FormContents,
) -> None:
    """Pictures and fields of a body, into ``contents``: of a body that is refused it has what came
    before that. ``fields`` are the names, or patterns, of parts that hold pictures."""
    body = Peekable(quoted_body(read) if kind.quoted else read)
    boundary = _boundary(body, kind, policy)
    if boundary is None:
        _take_raw(body, kind, target, policy, contents)
    else:
        _Form(target, fields, policy, contents, kind.size).take(body, boundary)


def _boundary(body: Peekable, kind: BodyKind, policy: Policy) -> bytes | None:
    """The boundary of a form; None if the body is the picture itself. The bytes decide, where the
    header names no usable one."""
    if kind.media_type == _ENDLESS:
        raise Refused(
            "unsupported_body",
            came="a motion JPEG stream (multipart/x-mixed-replace), which never ends; send each "
            "picture as a request of its own",
        )
    named = re.fullmatch(r"[ -~]{0,199}[!-~]", kind.boundary, re.ASCII)
    multipart = kind.media_type.startswith("multipart/")
    if policy.strict:
        return _strictly(kind, multipart, bool(named))
    head = body.head(PEEKED)
    if multipart and named and head.lstrip(b"\r\n").startswith(b"--" + kind.boundary.encode()):
        return kind.boundary.encode()
    if wrapping(head[: HEAD * 8]) is not None:
        return None
    if line := _LINE.match(head.lstrip(b"\r\n")):
        return line[1]
    if multipart and named:  # behind a preamble
        return kind.boundary.encode()
    if multipart:
        raise Refused("bad_multipart", reason="its Content-Type names no usable boundary")
    if kind.media_type.startswith("image/") or kind.media_type == "application/octet-stream":
        return None
    raise _unsupported(kind)


def _strictly(kind: BodyKind, multipart: bool, named: bool) -> bytes | None:
    if kind.media_type == "multipart/form-data" and named:
        return kind.boundary.encode()
    if multipart and kind.media_type == "multipart/form-data":
        raise Refused("bad_multipart", reason="its Content-Type names no usable boundary")
    if kind.raw_allowed and kind.media_type.startswith(("image/", "application/octet-stream")):
        return None
    raise _unsupported(kind)


def _unsupported(kind: BodyKind) -> Refused:
    return Refused("unsupported_body", came=kind.media_type or "without a Content-Type")


def _take_raw(
    body: Peekable, kind: BodyKind, target: ImageTarget, policy: Policy, contents: FormContents
) -> None:
    """Take a body that is the picture itself. Where nothing announced its length, its own end has
    to be there: the server hands on a chunked body that was cut like one that ended."""
    if policy.strict and kind.size is None:
        raise Refused("length_required")
    picture = Picture(target, policy, file_name(kind.disposition), may_be_cut=not kind.end_known)
    while piece := body.read():
        picture.write(piece)
    picture.finish()
    contents.pictures.append(picture)


class _Parser(PushMultipartParser):  # type: ignore[misc]
    """The library's, which wants ``form-data``, while multipart/mixed and camera events have none;
    and compares a part's Content-Length, which RFC 7578 (4.8) wants ignored."""

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> MultipartSegment:
        self._segment_limit = -1
        segment = MultipartSegment(headerlist)
        segment.name = segment.name or ""
        return segment


class _Part:
    """One part of a form: a text field, a picture, or another file."""

    def __init__(
        self, name: str, disposition: str, *, may_be_picture: bool, is_file: bool, is_quoted: bool
    ) -> None:
        self.name = name
        self.quoted = QuotedPrintable() if is_quoted else None
        self.file_name = file_name(disposition)
        self.may_be_picture = may_be_picture
        self.is_file = is_file
        self.picture: Picture | None = None
        self.refused: Refused | None = None
        self.held = b""  # of a field, or of a file until it is known what it is
        self.size = 0

    @property
    def label(self) -> str:
        """What people call this part."""
        return (self.file_name or self.name or "a part without a name")[:64]


class _Form:
    """Takes the parts of a form as they come."""

    def __init__(
        self,
        target: ImageTarget,
        fields: Sequence[str],
        policy: Policy,
        contents: FormContents,
        size: int | None,
    ) -> None:
        self._target = target
        self._fields = fields
        self._policy = policy
        self._contents = contents
        self._size = size
        self._part: _Part | None = None
        self._field_bytes = 0
        self._came: list[str] = []
        self._elsewhere = ""  # the first field with a file that is not to hold one
        self._pictures = 0

    def take(self, body: Peekable, boundary: bytes) -> None:
        parser = (PushMultipartParser if self._policy.strict else _Parser)(
            boundary,
            max_header_count=PART_HEADERS_MAX,
            max_segment_count=PARTS_MAX,
            header_charset="latin-1",  # any byte; file names are decoded by their own rules
        )
        ending = _Ending(boundary, None if self._policy.strict else self._size)
        try:
            while piece := body.read():
                self._events(parser, ending.feed(piece))
            self._events(parser, ending.finish(self._policy))
            parser.close()  # raises unless the closing boundary came
        except ParserLimitReached as error:
            raise self._too_large() from error
        except MultipartError as error:
            raise Refused("bad_multipart", reason=_why(str(error.args[0]))) from error
        if ending.repaired and not all(one.complete for one in self._contents.pictures):
            raise Refused("bad_multipart", reason="neither its end nor the image's is whole")
        self._finish()

    def _events(self, parser: PushMultipartParser, piece: bytes) -> None:
        if not piece:
            return
        for event in parser.parse(piece):
            if event is None:
                self._end_part()
            elif isinstance(event, MultipartSegment):
                self._begin_part(event)
            else:
                assert self._part is not None
                quoted = self._part.quoted
                self._add(bytes(event) if quoted is None else quoted.feed(bytes(event)))

    @staticmethod
    def _too_large() -> Refused:
        return Refused("form_too_large", parts=PARTS_MAX, headers=PART_HEADERS_MAX,
                       field_bytes=FIELD_BYTES_MAX)  # fmt: skip

    def _begin_part(self, segment: MultipartSegment) -> None:
        name = (segment.name or "").encode("latin-1", "replace").decode("utf-8", "replace")
        disposition = segment.header("Content-Disposition") or ""
        kind = segment.content_type or ""
        is_file = has_file_name(disposition) or not disposition or kind.startswith("image/")
        is_named = name in self._fields
        matches = is_named or any(fnmatchcase(name, pattern) for pattern in self._fields)
        if is_file and not matches:
            self._elsewhere = self._elsewhere or name[:64] or '""'
        if self._policy.strict and is_file:
            if self._pictures:
                raise Refused("two_files")
            if not is_named:
                raise Refused("wrong_field", came=self._elsewhere or name[:64], field=self._field)
        self._came.append(name[:64])
        self._part = _Part(
            name,
            disposition,
            may_be_picture=is_named or (is_file and matches),
            is_file=is_file,
            is_quoted=not self._policy.strict
            and is_quoted(segment.header("Content-Transfer-Encoding") or ""),
        )
        self._pictures += self._part.may_be_picture

    @property
    def _field(self) -> str:
        return ", ".join(one for one in self._fields if not set(one) & set("*?["))

    def _add(self, piece: bytes) -> None:
        part = self._part
        assert part is not None
        part.size += len(piece)
        if part.picture is not None:
            self._write(part, piece)
            return
        if part.refused is None and part.may_be_picture:
            part.held += piece
            if len(part.held) >= HEAD * 8:
                self._decide(part)
            return
        self._beside(part, piece)

    def _beside(self, part: _Part, piece: bytes) -> None:
        """Bytes of a text field, or of a file that is no picture."""
        if not part.is_file:
            self._field_bytes += len(piece)
            if self._field_bytes > FIELD_BYTES_MAX:
                raise self._too_large()
        if len(part.held) <= FIELD_BYTES_MAX:
            part.held += piece

    def _decide(self, part: _Part) -> None:
        """Enough of it came to know whether it is a picture."""
        held = part.held
        if wrapping(held[: HEAD * 8]) is None:
            part.refused = Picture.unsupported(held)
            part.may_be_picture = False
            return
        if self._policy.strict and self._contents.pictures:
            raise Refused("two_files")
        part.picture = Picture(self._target, self._policy, part.file_name)
        part.held = b""
        self._write(part, held)

    def _write(self, part: _Part, piece: bytes) -> None:
        if part.refused is None and part.picture is not None:
            try:
                part.picture.write(piece)
            except Refused as refused:
                self._refuse(part, refused)

    def _refuse(self, part: _Part, refused: Refused) -> None:
        """Note that one picture cannot be taken; the others still are, unless it is too large."""
        if refused.refusal.code == "too_large" or self._policy.strict:
            raise refused
        part.refused = refused

    def _end_part(self) -> None:
        assert self._part is not None
        if self._part.quoted is not None and (rest := self._part.quoted.finish()):
            self._add(rest)
        part, self._part = self._part, None
        if part.picture is None and part.may_be_picture and part.size:
            self._decide(part)
        if part.picture is not None:
            if part.refused is None:
                try:
                    part.picture.finish()
                except Refused as refused:
                    self._refuse(part, refused)
            if part.refused is None:
                self._contents.pictures.append(part.picture)
            else:
                self._contents.refused.append((part.label, part.refused))
            return
        if part.is_file or part.name in self._fields:
            self._end_file(part)
        elif part.name in FIELDS:
            self._end_field(part)

    def _end_file(self, part: _Part) -> None:
        """A file that is no picture."""
        if not part.size:  # a file input that was left empty
            if part.name in self._fields:
                self._contents.refused.append((part.label, Refused("empty_image")))
            return
        if part.refused is not None:
            self._contents.refused.append((part.label, part.refused))
        text = " ".join(_text(part.held).split())
        if text and len(text.encode()) <= BESIDE_MAX and text.isprintable():
            self._policy.as_sent.setdefault(f"file {part.label}", text)
            became = "are kept with the image"
        else:
            became = "were left out"
        self._policy.say(f"{part.label} is no image: its {part.size} bytes {became}")

    def _end_field(self, part: _Part) -> None:
        text = _text(part.held)
        first = self._contents.form.setdefault(part.name, text)
        if first != text:
            self._policy.remark(
                Refused("bad_field", reason=f"The field {part.name} came twice."),
                f"{part.name} came twice: the first one counts",
            )
            self._policy.keep(f"{part.name} again", text)

    def _finish(self) -> None:
        """Settle the files that are no pictures: only those are refused that could have been
        one."""
        contents = self._contents
        others = [one for one in contents.refused
                  if one[1].refusal.code not in ("empty_image", "unsupported_image")]  # fmt: skip
        if contents.pictures:
            contents.refused = others
            return
        if contents.refused:
            raise (others or contents.refused)[0][1]
        if self._elsewhere:
            raise Refused("wrong_field", came=self._elsewhere, field=self._field)
        came = ", ".join(name for name in self._came if name) or "no named field"
        raise Refused("no_image", field=self._field, came=came)


class _Ending:
    """Holds back the last piece of a form, whose closing clients write in odd ways.

    Known to be no cut: the announced length has arrived. ``--boundary--`` may lack the line break
    before it, or its last two hyphens.
    """

    def __init__(self, boundary: bytes, size: int | None) -> None:
        self._line = b"--" + boundary
        self._end_size = len(self._line) + 12
        self._left = size  # None: where the end is to be is not known, and nothing is repaired
        self._held = b""
        self.repaired = False

    def feed(self, piece: bytes) -> bytes:
        """What can be parsed by now."""
        if self._left is None:
            return piece
        self._left -= len(piece)
        if self._left >= self._end_size and not self._held:
            return piece
        self._held += piece
        return b""

    def finish(self, policy: Policy) -> bytes:
        """The rest, closed as RFC 2046 closes a form."""
        held = self._held
        at = held.rfind(self._line, max(2, len(held) - self._end_size))
        if at < 0:
            return held
        after = held[at + len(self._line) :]
        if not after.startswith(b"--"):
            if after.strip(b"-\r\n"):
                return held
            after = b"--\r\n"
            self.repaired = True
            policy.say("the form's closing boundary lacks its last hyphens")
        before = held[:at]
        if not before.endswith(b"\r\n"):
            self.repaired = True
            policy.say("the form's closing boundary has no line break before it")
            before += b"\r\n"
        return before + self._line + after


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _why(reason: str) -> str:
    """The library's sentence, or a better one."""
    if "line break" in reason:
        return "its lines end in LF alone, where RFC 2046 wants CR LF"
    if "Unexpected end" in reason:
        return "its closing boundary never came"
    return reason[:1].lower() + reason[1:]
