"""One upload as its header describes it, parsed at the edge before the body is read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from app.admission.auth import Caller


class InputStream(Protocol):
    """``wsgi.input`` (PEP 3333): ``read`` returns fewer bytes than asked for only at the end."""

    def read(self, size: int, /) -> bytes: ...


class CountedInput:
    """``wsgi.input``, of which is known how much was read."""

    __slots__ = ("_source", "received")

    def __init__(self, source: InputStream) -> None:
        self._source = source
        self.received = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read up to this many bytes, as PEP 3333 has it."""
        piece = self._source.read(size)
        self.received += len(piece)
        return piece


@dataclass(frozen=True, slots=True)
class Framing:
    """What the header says of the body's length, as text; None where it says nothing."""

    content_length: str | None = None
    transfer_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A POST of an image, as its header describes it."""

    caller: Caller
    body: CountedInput
    framing: Framing
    raw_allowed: bool  # a strict receiver takes the image itself as the body here
    media_type: str = ""
    boundary: str = ""  # of a multipart body
    content_encoding: str | None = None
    transfer_coding: str = (
        ""  # Content-Transfer-Encoding, which HTTP does not know and clients send
    )
    content_digest: str = ""
    disposition: str = ""  # of a raw body: its file's name
    date: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)  # of headers, by field name
    query: Mapping[str, str] = field(default_factory=dict)  # of the address, by field name
    header_sizes: tuple[int, ...] = ()
    expects_continue: bool = False
